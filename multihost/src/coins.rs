//! DockerCoins on the nodes: how many of what, how fast.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::node::Node;
use crate::settings::Cluster;
use crate::stack;

/// A worker reports every 1.2 s: shorter averages jump.
pub const SAMPLE: Duration = Duration::from_secs(12);

/// Brings DockerCoins on every node that is up to these numbers of workers and generators.
///
/// # Errors
/// If a node refuses.
pub async fn scale(cluster: &Cluster, workers: u32, rng: u32) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for node in cluster.nodes().filter(|node| node.space().is_some()) {
        tasks.spawn(async move { scale_node(&node, workers, rng).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Brings DockerCoins on one node to these numbers. The first node has the one redis.
///
/// # Errors
/// If the node refuses.
pub async fn scale_node(node: &Node, workers: u32, rng: u32) -> anyhow::Result<()> {
    stack::start_coins(node, workers, rng, node.number() == 1).await
}

/// Returns the number of hashes mined so far, and the clock it was read off in seconds, from the web interface of a node.
///
/// # Errors
/// If it does not know, for now.
pub async fn hashes(node: &Node) -> anyhow::Result<(f64, f64)> {
    let json = get(&format!("http://{}:8000/json", node.address())).await?;
    let hashes = json["hashes"].as_str().context("hashes is not a string")?;
    Ok((hashes.parse()?, json["now"].as_f64().context("now is not a number")?))
}

/// Returns the hashes per second over the next `time`, as a node sees them.
///
/// # Errors
/// If the node does not know.
pub async fn rate(node: &Node, time: Duration) -> anyhow::Result<f64> {
    let (before, from) = hashes(node).await?;
    tokio::time::sleep(time).await;
    let (after, to) = hashes(node).await?;
    Ok((after - before) / (to - from))
}

/// Returns the JSON at a URL.
///
/// # Errors
/// If there is none within a few seconds.
pub async fn get(url: &str) -> anyhow::Result<Value> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let answer = client.get(url).send().await.with_context(|| format!("{url} does not answer"))?;
    Ok(answer.error_for_status()?.json().await?)
}

/// Returns the lines that the workers on the nodes that are up wrote since `since` and that are neither work done nor
/// coins: the requests that failed, each with its node's name.
///
/// # Errors
/// If an engine does not answer.
pub async fn errors(cluster: &Cluster, since: &str) -> anyhow::Result<Vec<String>> {
    let expected = ["units of work done", "Coin found", "We already had that coin"];
    let mut errors = Vec::new();
    for node in cluster.nodes().filter(|node| node.space().is_some()) {
        let filter = ["--filter", "label=com.docker.compose.service=worker"];
        let workers = node.docker_run(&[&["ps", "--quiet"][..], &filter].concat()).await?;
        for worker in workers.lines() {
            let output = node.docker(&["logs", "--since", since, worker]).output().await?;
            let text = String::from_utf8_lossy(&output.stdout);
            let failed = text.lines().filter(|line| {
                !line.is_empty() && !expected.iter().any(|known| line.contains(known))
            });
            errors.extend(failed.map(|line| format!("{}: {line}", node.name())));
        }
    }
    Ok(errors)
}

/// Returns this moment as [`errors`] takes it.
#[must_use]
pub fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}
