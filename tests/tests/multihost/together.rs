//! The nodes work as one: one Consul, one wallet, equal shares, networks across nodes, near instances first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use multihost::node::Node;
use multihost::{Cluster, coins, settled, status};

use crate::common::{Steady, failures, none, seconds};

pub(crate) async fn listed(cluster: &Cluster) -> anyhow::Result<String> {
    let names: BTreeSet<String> = cluster.nodes().map(|node| node.name().to_owned()).collect();
    let mut denied = 0;
    for node in cluster.nodes() {
        ensure!(status::alive(&node).await? == names, "{} does not list all nodes", node.name());
        let url = format!("http://{}:8500", node.address());
        ensure!(
            tests::http::get(&format!("{url}/ui/")).await?.status == 200,
            "no web interface on {}",
            node.name()
        );
        let keys = tests::http::get(&format!("{url}/v1/kv/?keys")).await?;
        // What may not be seen is as if it were not there, or refused, depending on Consul's version.
        ensure!(
            keys.status == 403 || keys.status == 404 || keys.body == b"[]",
            "{} shows keys to anybody",
            node.name()
        );
        let write = tests::http::post(&format!("{url}/v1/agent/leave"), b"").await?;
        ensure!(write.status >= 400, "{} takes orders from anybody", node.name());
        denied += 1;
    }
    Ok(format!("{} nodes, {denied} refusals", names.len()))
}

pub(crate) async fn one_wallet(cluster: &Cluster) -> anyhow::Result<String> {
    for node in cluster.nodes() {
        coins::scale_node(&node, u32::from([2, 3].contains(&node.number())), 1).await?;
    }
    settled(cluster).await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let rate = coins::rate(&cluster.node("1")?, Duration::from_secs(24)).await?;
    // One worker alone makes 3.33, two make 6.67: more than one, not more than two.
    ensure!(rate > 3.6 && rate < 7.2, "two workers on two nodes mine {rate:.2} hashes/s");
    Ok(format!("{rate:.2} hashes/s, 6.67 at best"))
}

/// Returns how many requests each node's generators got, from all ambassadors together.
pub(crate) async fn requests(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut requests = BTreeMap::new();
    for node in cluster.nodes() {
        for (instance, sessions) in status::served(&node).await? {
            if let Some(address) = instance.strip_prefix("rng ") {
                *requests
                    .entry(address.split(':').next().unwrap_or_default().to_owned())
                    .or_default() += sessions;
            }
        }
    }
    Ok(requests)
}

pub(crate) async fn shares(cluster: &Cluster) -> anyhow::Result<String> {
    coins::scale(cluster, 4, 1).await?;
    settled(cluster).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = requests(cluster).await?;
    let rate = coins::rate(&cluster.node("1")?, Duration::from_secs(18)).await?;
    let after = requests(cluster).await?;
    let counts: Vec<u64> =
        after.iter().map(|(node, n)| n - before.get(node).unwrap_or(&0)).collect();
    let total: u64 = counts.iter().sum();
    ensure!(counts.len() == 5, "requests go to {} nodes", counts.len());
    #[allow(clippy::cast_precision_loss, reason = "counts of some hundreds")]
    let shares: Vec<f64> = counts.iter().map(|n| 100.0 * *n as f64 / total as f64).collect();
    ensure!(
        shares.iter().all(|share| (19.0..=21.0).contains(share)),
        "shares of the nodes in percent: {shares:.1?}"
    );
    Ok(format!("{shares:.1?} % of {total} requests; {rate:.1} hashes/s, 50 at best"))
}

pub(crate) async fn overlay(cluster: &Cluster) -> anyhow::Result<String> {
    multihost::exercise(cluster).await?;
    Ok("six of six steps".to_owned())
}

/// Returns how many requests of one node's ambassador to generators went to its own, and to others.
async fn own_and_others(node: &Node) -> anyhow::Result<(u64, u64)> {
    let (mut own, mut others) = (0, 0);
    for (instance, sessions) in status::served(node).await? {
        if let Some(address) = instance.strip_prefix("rng ") {
            let here = address.starts_with(&format!("{}:", node.address()));
            *(if here { &mut own } else { &mut others }) += sessions;
        }
    }
    Ok((own, others))
}

/// Returns what was added to both on these nodes within three seconds, once the present state is known everywhere.
async fn shared_out(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<Vec<(u64, u64)>> {
    settled(cluster).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut before = Vec::new();
    for node in nodes {
        before.push(own_and_others(node).await?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut added = Vec::new();
    for (node, before) in nodes.iter().zip(before) {
        let after = own_and_others(node).await?;
        added.push((after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)));
    }
    Ok(added)
}

pub(crate) async fn near(cluster: &mut Cluster) -> anyhow::Result<String> {
    multihost::near(cluster, true).await?;
    let cluster = &*cluster;
    let node = cluster.node("2")?;
    let played = async {
        let client = Steady::start(&node, "rng").await?;
        let all: Vec<Node> = cluster.nodes().collect();
        let shares = shared_out(cluster, &all).await?;
        ensure!(
            shares.iter().all(|(own, others)| *own > 0 && *others == 0),
            "own and others', by node: {shares:?}"
        );
        let stopped = Instant::now();
        coins::scale_node(&node, 4, 0).await?;
        let took = stopped.elapsed();
        let only = std::slice::from_ref(&node);
        let away = shared_out(cluster, only).await?[0];
        ensure!(away.0 == 0 && away.1 > 0, "its own is stopped: {away:?}");
        coins::scale_node(&node, 4, 1).await?;
        let home = shared_out(cluster, only).await?[0];
        ensure!(home.0 > 0 && home.1 == 0, "its own is back: {home:?}");
        Ok((took, away.1, home.0, client.end().await?))
    };
    let ((took, away, home, client), errors) = failures(cluster, &[], played).await?;
    none(&errors)?;
    Ok(format!(
        "every node uses its own; {away} requests went to others while it was stopped ({}), {home} home again; 0 requests of workers failed, {client}",
        seconds(took)
    ))
}

pub(crate) async fn own_ambassadors(cluster: &mut Cluster) -> anyhow::Result<String> {
    multihost::own_ambassadors(cluster).await?;
    let cluster = &*cluster;
    let node = cluster.node("2")?;
    let sessions = || async {
        let own = status::served_by_own(&node).await?;
        Ok::<u64, anyhow::Error>(own.values().flat_map(|served| served.values()).sum())
    };
    let mut clients = 0;
    for node in cluster.nodes() {
        let own = status::served_by_own(&node).await?.len();
        ensure!(own == 3, "{own} clients of {} have an ambassador", node.name());
        clients += own;
    }
    let played = async {
        // Without the one that all share, they notice nothing.
        node.docker_run(&["stop", "ambassador-ambassador-1"]).await?;
        let before = sessions().await?;
        coins::scale_node(&cluster.node("3")?, 2, 0).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        coins::scale_node(&cluster.node("3")?, 2, 1).await?;
        let made = sessions().await?.saturating_sub(before);
        node.docker_run(&["start", "ambassador-ambassador-1"]).await?;
        settled(cluster).await?;
        Ok(made)
    };
    let (made, errors) = failures(cluster, &[], played).await?;
    none(&errors)?;
    ensure!(made > 10, "only {made} requests went through ambassadors of their own");
    Ok(format!(
        "{clients} clients have one; 0 requests failed while an instance and the shared ambassador were away, {made} went through the own ones of two workers"
    ))
}
