//! Several Docker hosts on one Linux machine: to try the whole system without renting any, and to test it.
//!
//! ```text
//! here ── mh-xxxx 10.99.0.254 ──┐
//!                    namespace hub: bridge br0 ── v1 … v5
//!                                                 │
//!      node1: namespaces (net, uts, pid, mount), eth0 10.99.0.1, dockerd, Consul agent, registrator, confd, ambassador
//! ```
//! A node is one process (the first of its PID namespace) and a folder. Killing that process is a power
//! failure: engine, containers, mounts, network and cable go with it. The folder is its disk: it stays.
//! So taking everything down means to kill these processes, found by their command lines, and to
//! remove one folder.
//!
//! The same library writes what real hosts need ([`bundle`]): configuration, secrets and the Compose
//! file of each node. The five nodes here run from exactly that.

mod acl;
mod args;
pub mod bundle;
mod certificates;
mod cgroup;
pub mod coins;
mod command;
mod down;
mod files;
mod images;
mod network;
pub mod node;
mod overlay;
mod settings;
pub mod space;
mod stack;
pub mod status;
mod up;

pub use args::Args;
pub use command::execute;
pub use down::{down, leftovers};
pub use network::{heal, partition};
pub use overlay::{exercise, swarm};
pub use settings::{Cluster, Options, Variant};
pub use up::{add, near, own_ambassadors, reach, remove, settled, up};
