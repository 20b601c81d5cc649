//! What the nodes run, what Consul lists, what every ambassador serves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::coins;
use crate::node::Node;
use crate::settings::{Cluster, Variant};

/// The services of DockerCoins that ambassadors serve.
const SERVICES: [&str; 3] = ["rng", "hasher", "redis"];

/// An instance, as `service address:port`.
pub type Instances = BTreeSet<String>;

/// Returns the instances that run on the node, as its Docker Engine knows them.
///
/// # Errors
/// If the engine does not answer.
pub async fn running(node: &Node) -> anyhow::Result<Instances> {
    let filter = "label=com.docker.compose.project=dockercoins";
    let listed = node.docker_run(&["ps", "--quiet", "--filter", filter]).await?;
    if listed.is_empty() {
        return Ok(Instances::new());
    }
    let ids: Vec<&str> = listed.lines().collect();
    let inspected = node.docker_run(&[&["inspect"][..], &ids].concat()).await?;
    let documents: Vec<Value> = serde_json::from_str(&inspected)?;
    Ok(documents.iter().filter_map(|document| instance(node, document)).collect())
}

/// Returns where a container is to be reached, if it offers one of the services.
fn instance(node: &Node, document: &Value) -> Option<String> {
    let service = document["Config"]["Labels"]["com.docker.compose.service"].as_str()?;
    let port = if service == "redis" { "6379" } else { "80" };
    if !SERVICES.contains(&service) {
        return None;
    }
    let networks = &document["NetworkSettings"];
    if node.has(Variant::Overlay) {
        let address = networks["Networks"][crate::stack::BACKENDS]["IPAddress"].as_str()?;
        return Some(format!("{service} {address}:{port}"));
    }
    let published = networks["Ports"][format!("{port}/tcp")][0]["HostPort"].as_str()?;
    Some(format!("{service} {}:{published}", node.address()))
}

/// Returns the instances that Consul's agent on a node lists as passing.
///
/// # Errors
/// If the agent does not answer, or one is listed twice.
pub async fn registered(node: &Node) -> anyhow::Result<Instances> {
    let mut instances = Instances::new();
    for service in SERVICES {
        let url = format!("http://{}:8500/v1/health/service/{service}?passing", node.address());
        for entry in coins::get(&url).await?.as_array().context("no list")? {
            let service_entry = &entry["Service"];
            let address = service_entry["Address"]
                .as_str()
                .filter(|address| !address.is_empty())
                .or(entry["Node"]["Address"].as_str());
            let instance =
                format!("{service} {}:{}", address.unwrap_or_default(), service_entry["Port"]);
            ensure!(instances.insert(instance.clone()), "{instance} is registered twice");
        }
    }
    Ok(instances)
}

/// Returns the instances that the node's ambassador sends traffic to, each with the number of sessions so far.
///
/// # Errors
/// If the ambassador does not answer.
pub async fn served(node: &Node) -> anyhow::Result<BTreeMap<String, u64>> {
    // The sockets' volume is a folder of the node's disk; the statistics over HTTP keep the addresses to themselves.
    served_by(&node.data().join("volumes/ambassador_ambassador/_data/runtime.sock")).await
}

/// Returns the same for the ambassador of each client on the node that has one of its own, by the client's ID.
///
/// # Errors
/// If the engine or an ambassador does not answer.
pub async fn served_by_own(node: &Node) -> anyhow::Result<BTreeMap<String, BTreeMap<String, u64>>> {
    let filter = "label=ambassador.upstreams";
    let clients = node.docker_run(&["ps", "--quiet", "--filter", filter]).await?;
    let folder = node.data().join("volumes/ambassador_ambassadors/_data");
    let mut all = BTreeMap::new();
    // Ambassadors have the label too, and no directory.
    let own = "label=ambassador.container";
    let ambassadors = node.docker_run(&["ps", "--quiet", "--filter", own]).await?;
    for id in clients.lines().filter(|id| !ambassadors.lines().any(|other| other == *id)) {
        let served = served_by(&folder.join(id).join("runtime.sock")).await;
        all.insert(id.to_owned(), served.with_context(|| format!("the ambassador of {id}"))?);
    }
    Ok(all)
}

async fn served_by(socket: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"show stat -1 4 -1\n").await?;
        stream.shutdown().await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text =
        tokio::time::timeout(Duration::from_secs(5), exchange).await.context("no answer")??;
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().context("empty statistics")?;
    let column = |name: &str| {
        header
            .iter()
            .position(|h| h.trim_start_matches("# ") == name)
            .with_context(|| format!("no column {name}"))
    };
    let (status, weight, sessions, address) =
        (column("status")?, column("weight")?, column("stot")?, column("addr")?);
    let server = |row: Vec<&str>| {
        // http_rng or tcp_redis; with a client of its own, rng_80 or redis_6379.
        let (first, last) = row[0].split_once('_')?;
        let service = if ["http", "tcp"].contains(&first) { last } else { first };
        let up = row[status].starts_with("UP") || row[status] == "no check";
        let row_is_server = row[1] != "FRONTEND" && row[1] != "BACKEND" && up && row[weight] != "0";
        row_is_server
            .then(|| (format!("{service} {}", row[address]), row[sessions].parse().unwrap_or(0)))
    };
    Ok(lines.filter(|row| row.len() > address).filter_map(server).collect())
}

/// Returns what is not as it should be: instances that run on a node that is up and are not served by every
/// ambassador, and those that are served and do not run.
///
/// # Errors
/// If a part does not answer.
pub async fn wrong(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let nodes: Vec<_> = cluster.nodes().filter(|node| node.space().is_some()).collect();
    let mut expected = Instances::new();
    for node in &nodes {
        expected.extend(running(node).await?);
    }
    let mut wrong = Vec::new();
    for service in SERVICES {
        if !expected.iter().any(|instance| instance.starts_with(service)) {
            wrong.push(format!("no {service} runs"));
        }
    }
    for node in &nodes {
        let registered =
            registered(node).await.with_context(|| format!("Consul on {}", node.name()))?;
        let served: Instances = served(node)
            .await
            .with_context(|| format!("the ambassador of {}", node.name()))?
            .into_keys()
            .collect();
        for (id, found) in served_by_own(node).await? {
            let found: Instances = found.into_keys().collect();
            let services: BTreeSet<&str> =
                found.iter().filter_map(|instance| instance.split(' ').next()).collect();
            // The web interface asks for redis alone.
            let wanted: Instances = expected
                .iter()
                .filter(|instance| services.iter().any(|service| instance.starts_with(service)))
                .cloned()
                .collect();
            if found != wanted || found.is_empty() {
                wrong.push(format!("the ambassador of {id} on {} is not right", node.name()));
            }
        }
        for (what, found) in [("Consul on", &registered), ("the ambassador of", &served)] {
            if *found != expected {
                let list = |one: &Instances, other: &Instances| {
                    let some: Vec<&str> = one.difference(other).map(String::as_str).collect();
                    format!("{} ({})", some.len(), some[..some.len().min(3)].join(", "))
                };
                let (missing, extra) = (list(&expected, found), list(found, &expected));
                wrong.push(format!("{what} {}: missing {missing}, too many {extra}", node.name()));
            }
        }
    }
    Ok(wrong)
}

/// Prints a table of the nodes and the rate.
pub(crate) async fn print(cluster: &Cluster) -> anyhow::Result<()> {
    println!(
        "{:<7} {:<12} {:<9} {:>10} {:>9} {:>7}  CONSUL",
        "NODE", "ADDRESS", "ENGINE", "CONTAINERS", "INSTANCES", "SERVED"
    );
    for node in cluster.nodes() {
        let state = match (node.space().is_some(), node.answers().await) {
            (false, _) => "off",
            (true, false) => "away",
            (true, true) => "up",
        };
        let number =
            |result: anyhow::Result<usize>| result.map_or("-".to_owned(), |n| n.to_string());
        let containers =
            number(node.docker_run(&["ps", "-q"]).await.map(|ids| ids.lines().count()));
        let (instances, served) = (
            number(running(&node).await.map(|i| i.len())),
            number(served(&node).await.map(|s| s.len())),
        );
        let consul = consul(&node).await.unwrap_or_else(|_| "-".to_owned());
        println!(
            "{:<7} {:<12} {state:<9} {containers:>10} {instances:>9} {served:>7}  {consul}",
            node.name(),
            node.address()
        );
    }
    for (node, usage) in memory(cluster).await {
        println!("memory on {node}: {usage}");
    }
    for wrong in wrong(cluster).await.unwrap_or_else(|error| vec![format!("{error:#}")]) {
        println!("not right: {wrong}");
    }
    for node in cluster.nodes() {
        if let Ok(rate) = coins::rate(&node, coins::SAMPLE).await {
            println!("hashes/s over {} seconds: {rate:.1}", coins::SAMPLE.as_secs());
            return Ok(());
        }
    }
    println!("nobody knows how fast it mines");
    Ok(())
}

/// Returns what a node's Consul agent says of itself and of its leader.
async fn consul(node: &Node) -> anyhow::Result<String> {
    let url = format!("http://{}:8500/v1/", node.address());
    let leader = coins::get(&format!("{url}status/leader")).await?;
    let leader =
        leader.as_str().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
    let role = if node.is_server() { "server" } else { "client" };
    let nodes = coins::get(&format!("{url}catalog/nodes")).await?.as_array().map_or(0, Vec::len);
    let here = if leader == node.address().to_string() { ", the leader" } else { "" };
    Ok(format!("{role}{here}, sees {nodes} nodes"))
}

/// Returns the memory of each part on the first and the last node, in MB, from the containers' control groups.
async fn memory(cluster: &Cluster) -> Vec<(String, String)> {
    let mut table = Vec::new();
    let nodes: Vec<_> = cluster.nodes().collect();
    for node in nodes.first().into_iter().chain(nodes.last().filter(|_| nodes.len() > 1)) {
        let format = "{{.Name}} {{.MemUsage}}";
        let Ok(text) = node.docker_run(&["stats", "--no-stream", "--format", format]).await else {
            continue;
        };
        let part = |line: &str| {
            let (name, usage) = line.split_once(' ')?;
            Some(format!("{} {}", name.split('-').nth(1)?, usage.split(" /").next()?))
        };
        let mut parts: Vec<_> = text.lines().filter_map(part).collect();
        parts.sort();
        table.push((node.name().to_owned(), parts.join(", ")));
    }
    table
}

/// Returns the names of the members that Consul lists as alive, as seen by a node's agent.
///
/// # Errors
/// If the agent does not answer.
pub async fn alive(node: &Node) -> anyhow::Result<BTreeSet<String>> {
    let url = format!("http://{}:8500/v1/health/state/passing", node.address());
    let checks = coins::get(&url).await?;
    let checks = checks.as_array().context("no list")?.iter();
    let name = |check: &Value| Some(check["Node"].as_str()?.to_owned());
    Ok(checks.filter(|check| check["CheckID"] == "serfHealth").filter_map(name).collect())
}

/// Returns the keys below a prefix, as a node's Consul agent lists them to the operator.
///
/// # Errors
/// If the agent does not answer.
pub async fn keys(cluster: &Cluster, node: &Node, prefix: &str) -> anyhow::Result<Vec<String>> {
    let token = std::fs::read_to_string(crate::stack::bundle(cluster).management())?;
    let url = format!("http://{}:8500/v1/kv/{prefix}?keys", node.address());
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let answer = client.get(url).header("X-Consul-Token", token).send().await?;
    // No key at all is not found.
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(Vec::new());
    }
    Ok(answer.error_for_status()?.json().await?)
}
