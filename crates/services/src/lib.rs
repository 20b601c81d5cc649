//! The model: what a service instance is, and how a Docker container becomes instances. Pure: no I/O, no clock, no async.
//!
//! ```text
//! inspect document ──► Container ──► settings, ports, addresses, checks ──► Instance …
//!                      (container)   (each cleaned at the border)           (derive)
//! ```
//!
//! Labels and environment come from whoever may start containers. Nothing of theirs leaves this crate
//! uncleaned, and what cannot be used is a [`Warning`], never a failure of the others.

mod address;
mod check;
mod clean;
mod container;
mod derive;
mod duration;
mod labels;
mod model;
mod ports;

pub use container::{Container, Error, Health, Network, NetworkMode, Probe};
pub use derive::{instances, unique};
pub use duration::parse as parse_duration;
pub use model::{
    Check, CheckKind, Derived, DockerHealth, Instance, Node, Options, Status, TaggedAddress,
    Warning, Weights,
};
pub use ports::{Binding, Port, Protocol};
