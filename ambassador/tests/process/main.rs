//! The ambassador as a process: real HAProxy, real signals, real clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod configuring;
mod environment;
mod harness;
mod living;
mod pid1;
mod serving;
