//! The daemon as users run it: the program itself, a real Consul, a real HAProxy, the stock template.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "daemon/bed.rs"]
mod bed;
#[path = "daemon/commands.rs"]
mod commands;
#[path = "daemon/crashes.rs"]
mod crashes;
#[path = "daemon/edits.rs"]
mod edits;
#[path = "daemon/outages.rs"]
mod outages;
#[path = "daemon/serving.rs"]
mod serving;
