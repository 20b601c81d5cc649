//! The node agent with a real engine: clients come, restart and go, and things die meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod chaos;
mod clients;
mod harness;
