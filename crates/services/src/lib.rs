//! The model: what a service instance is, and how a Docker container becomes instances. Pure: no I/O, no clock, no async.
//!
//! ```text
//! inspect document ──► Container ──► settings ──► endpoints ──► names, ids, tags, checks … ──► Instance
//!                      (container)   (labels)     (endpoints)   (each cleaned at the border)  (derive)
//! ```
//!
//! Labels and environment come from whoever may start containers. Nothing of theirs leaves this crate
//! uncleaned, and what cannot be used is a [`Warning`], never a failure of the others.

mod address;
mod check;
mod clean;
mod container;
mod derive;
#[cfg(test)]
mod documented;
mod duration;
mod endpoints;
mod health;
mod id;
mod labels;
mod meta;
mod model;
mod name;
mod operator_tags;
mod ports;
mod subject;
mod tags;
mod warnings;

pub use address::{is_range, is_reachable};
pub use clean::dns_label;
pub use container::{Container, Error, Health, Network, NetworkMode, Probe};
pub use derive::{instances, is_system};
pub use duration::parse as parse_duration;
pub use id::unique;
pub use model::{
    Check, CheckKind, Derived, DockerHealth, Instance, Node, Options, Status, TaggedAddress,
    Warning, Weights,
};
pub use name::is_called;
pub use operator_tags::OperatorTags;
pub use ports::{Binding, Port, Protocol};
pub use tags::UDP;
