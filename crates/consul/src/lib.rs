//! Typed access to Consul: consulrs' requests over a transport of our own.
