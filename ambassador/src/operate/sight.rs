//! Whether the token lets us see what is registered: Consul leaves out of its answers what a token may not read, so
//! nothing found may be nothing seen.

use anyhow::{Context, bail};
use consul::{AgentSelf, Client, Query};

/// Asks the agent who it is.
pub(super) async fn agent(client: &Client) -> anyhow::Result<AgentSelf> {
    let answer = client.agent_self().await;
    let denied = answer.as_ref().is_err_and(|error| error.status() == Some(403));
    if denied { answer.context(lacks("agent:read")) } else { Ok(answer?) }
}

/// Refuses unless everything that is registered on a node is seen, as far as Consul lets that be known.
pub(super) async fn sees_all(client: &Client, node: &str) -> anyhow::Result<()> {
    if client.catalog_node(node, &Query::default()).await?.value.is_none() {
        bail!("consul does not show node {node}: {}", lacks("node:read"));
    }
    if client.hides_services().await? {
        bail!("consul does not show all services: {}", lacks("service:read"));
    }
    Ok(())
}

fn lacks(right: &str) -> String {
    format!("the token lacks the right {right}")
}
