//! Plans reach what is wanted, on a model of HAProxy.
