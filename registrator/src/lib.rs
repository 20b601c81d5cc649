//! Registers this node's containers in Consul.
//!
//! ```text
//! Docker ── events ──► watch ──► Wakeups ──► controller ──► Consul: catalog, keys, journal
//!    └───── list, inspect ──────────────────────┘  ▲
//!                services::instances ──► model ────┴── plan (pure)
//! ```
//! Events only say where to look. What is registered follows from what Docker says about its
//! containers, and whatever was missed is found by the next look at everything.

mod acl;
pub mod args;
mod controller;
pub mod docker;
#[cfg(test)]
mod documented;
mod ending;
mod guard;
mod journal;
mod legacy;
mod list;
mod metrics;
mod mirror;
pub mod model;
mod neighbour;
pub mod plan;
mod registration;
mod run;
mod units;
pub mod wakeups;
mod watch;

pub use args::Args;
pub(crate) use run::node;
pub use run::run;
