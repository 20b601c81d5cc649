//! The daemon against a real Docker Engine and a real Consul agent.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod ancestor;
mod bursts;
mod engines;
mod faults;
mod gate;
mod keep;
mod life;
mod operate;
mod owners;
mod policies;
mod restarts;
mod secure;
mod settings;
mod trouble;
mod world;
