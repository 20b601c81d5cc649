//! Rendered files and a real HAProxy, 2.6 and 3.0: what changes, how, and that nobody notices.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "haproxy/bed.rs"]
mod bed;
#[path = "haproxy/checks.rs"]
mod checks;
#[path = "haproxy/drains.rs"]
mod drains;
#[path = "haproxy/faults.rs"]
mod faults;
#[path = "haproxy/loss.rs"]
mod loss;
#[path = "haproxy/speed.rs"]
mod speed;
