//! The commands that need a real engine: the node agent, whose clients come, restart and go while things die, and `push`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod chaos;
mod clients;
mod harness;
mod names;
mod operate;
mod proxy;
mod push;
mod rights;
mod world;
