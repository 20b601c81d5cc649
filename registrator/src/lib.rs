//! Registers this node's containers in Consul.
