//! Every call, against a real Consul agent.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod agent;
mod blocking;
mod catalog;
mod keys;
mod ways;

use consul::{Client, Config};
use testbed::consul::Consul;

/// Returns a running agent and a client of it.
fn agent() -> (Consul, Client) {
    let agent = Consul::start().unwrap();
    let client = client(&agent.url());
    (agent, client)
}

/// Returns a client of the agent at `uri`.
fn client(uri: &str) -> Client {
    Client::new(&Config::from_uri(uri).unwrap()).unwrap()
}
