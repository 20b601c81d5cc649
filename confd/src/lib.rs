//! Renders proxy configurations from Consul and brings them into running load balancers.
//!
//! ```text
//!             ┌── watch: one per question ──┐            per resource, side by side
//! Consul ────►│ blocking queries, retried   ├─► snapshot ─► render ─► step ─► check ─► write ─► apply
//!             └──────────── ask ◄───────────┘                 │                                  │
//!                            what the template asked ◄────────┘        what was accepted ◄───────┘
//! ```
//! [`supervisor`] keeps one [`worker`] per [`resource`]. A worker renders its [`template`] from the
//! [`snapshot`]; what the template asked is what [`watch`] keeps up to date. [`step`] decides
//! what brings the text to life, and the pass takes that step until nothing is left to do.

pub mod ambassadors;
mod apply;
mod arrivals;
mod bisect;
pub mod board;
mod check;
mod claim;
pub mod cli;
mod command;
pub mod control;
pub mod damp;
pub mod dependency;
mod disk;
mod docker;
mod dry;
mod exec;
mod filters;
mod functions;
pub mod guard;
pub mod haproxy;
mod inspect;
pub mod instance;
mod loading;
pub mod local;
pub mod meta;
pub mod metrics;
mod mock;
pub mod newest;
mod orders;
mod pass;
mod persist;
mod publish;
mod refusal;
mod reload;
mod rendering;
pub mod resource;
mod run;
mod show;
pub mod snapshot;
mod source;
pub mod state;
pub mod step;
pub mod supervisor;
pub mod template;
pub mod text;
pub mod units;
pub mod wait;
mod wanted;
pub mod watch;
pub mod worker;

pub use run::run;
