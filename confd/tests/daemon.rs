//! The daemon as users run it: the program itself, a real Consul, a real HAProxy, the stock template.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "daemon/actions.rs"]
mod actions;
#[path = "daemon/ambassadors.rs"]
mod ambassadors;
#[path = "daemon/bed.rs"]
mod bed;
#[path = "daemon/beginnings.rs"]
mod beginnings;
#[path = "daemon/commands.rs"]
mod commands;
#[path = "daemon/crashes.rs"]
mod crashes;
#[path = "daemon/edge.rs"]
mod edge;
#[path = "daemon/edits.rs"]
mod edits;
#[path = "daemon/faults.rs"]
mod faults;
#[path = "daemon/links.rs"]
mod links;
#[path = "daemon/local.rs"]
mod local;
#[path = "daemon/neighbours.rs"]
mod neighbours;
#[path = "daemon/outages.rs"]
mod outages;
#[path = "daemon/published.rs"]
mod published;
#[path = "daemon/questions.rs"]
mod questions;
#[path = "daemon/recipes.rs"]
mod recipes;
#[path = "daemon/routes.rs"]
mod routes;
#[path = "daemon/serving.rs"]
mod serving;
#[path = "daemon/storms.rs"]
mod storms;
#[path = "daemon/troubles.rs"]
mod troubles;
