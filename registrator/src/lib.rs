//! Registers this node's containers in Consul.

pub mod docker;
pub mod model;
pub mod plan;
pub mod wakeups;
