//! `ambassador drain-node`: Consul's maintenance of a whole node, and the wait for its effect.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use consul::{Address, Client, Query};
use tokio::time::Instant;

use super::{Common, Timeout, documents, sight, until_gone};

/// Which node, and in which direction.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DrainNode {
    /// The node's name in Consul [default: this one]
    node: Option<String>,
    /// Take its instances back
    #[arg(long)]
    back: bool,
    #[command(flatten)]
    timeout: Timeout,
    #[command(flatten)]
    common: Common,
}

/// Begins or ends the maintenance, and waits until no ambassador has the node's instances.
pub(crate) async fn drain_node(options: &DrainNode) -> anyhow::Result<ExitCode> {
    let client = options.common.client()?;
    let own = sight::agent(&client).await?.node;
    let name = options.node.as_ref().unwrap_or(&own);
    let agent =
        if *name == own { client.clone() } else { agent_of(options, &client, name).await? };
    if !options.back {
        sight::sees_all(&client, name).await?;
        let known = documents(&client, None).await?.value;
        anyhow::ensure!(!known.is_empty(), super::NOBODY_REPORTS);
    }
    let reason = (!options.back).then_some("drained by `ambassador drain-node`");
    agent.node_maintenance(reason).await.with_context(|| format!("the agent of node {name}"))?;
    let left =
        if options.back { None } else { emptied(&client, name, options.timeout.timeout).await? };
    if options.common.json {
        println!("{}", serde_json::json!({ "node": name, "drained": !options.back, "left": left }));
    } else if let Some(left) = &left {
        eprintln!("{name} is in maintenance, but not in time: {left}");
    } else {
        println!("{name}");
    }
    Ok(if left.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until no ambassador can have a connection to the node's instances, those too that come
/// meanwhile; returns where one may be left if there is no time left.
async fn emptied(
    client: &Client,
    node: &str,
    limit: Duration,
) -> Result<Option<String>, consul::Error> {
    let end = Instant::now() + limit;
    let mut instances = BTreeSet::new();
    loop {
        let found = client.catalog_node(node, &Query::default()).await?.value;
        let services = found.map(|node| node.services).unwrap_or_default();
        let before = instances.len();
        let key = |id: &str| consul::instance_key(node, id).into_owned();
        instances.extend(services.into_iter().map(|(id, service)| (service.name, key(&id))));
        if instances.len() == before {
            return Ok(None);
        }
        let all: Vec<_> = instances.iter().cloned().collect();
        let left = until_gone(client, end.saturating_duration_since(Instant::now()), &all).await?;
        if left.is_some() {
            return Ok(left);
        }
    }
}

/// Returns the agent of another node: only it can begin its node's maintenance.
async fn agent_of(options: &DrainNode, client: &Client, name: &str) -> anyhow::Result<Client> {
    let nodes = client.catalog_nodes(&Query::default()).await?.value;
    let node = nodes.into_iter().find(|node| node.name == name);
    let node = node.with_context(|| format!("there is no node {name:?}"))?;
    let mut config = options.common.consul.config()?;
    let Address::Tcp { host, .. } = &mut config.address else {
        anyhow::bail!("this is not node {name}, and a unix socket does not lead there");
    };
    *host = if node.address.contains(':') { format!("[{}]", node.address) } else { node.address };
    let agent = Client::new(&config)?;
    let found = agent.agent_self().await;
    let found = found.with_context(|| {
        format!("the agent of node {name} does not answer here: run this on that node")
    })?;
    anyhow::ensure!(found.node == name, "the agent at {name}'s address is that of {}", found.node);
    Ok(agent)
}
