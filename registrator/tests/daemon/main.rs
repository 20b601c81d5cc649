//! The daemon against a real Docker Engine and a real Consul agent.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod ancestor;
mod bursts;
mod engines;
mod faults;
mod keep;
mod life;
mod operate;
mod secure;
mod settings;
mod world;
