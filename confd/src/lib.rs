//! Renders proxy configurations from Consul and brings them into running load balancers.

pub mod dependency;
mod filters;
mod functions;
pub mod instance;
pub mod metrics;
mod mock;
pub mod resource;
pub mod snapshot;
mod source;
pub mod template;
pub mod text;
pub mod units;
pub mod watch;
