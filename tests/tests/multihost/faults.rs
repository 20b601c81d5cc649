//! What breaks: a leader, a cable, a node, and all servers in turn.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use multihost::node::Node;
use multihost::{Cluster, coins, settled, status};
use tests::eventually;

use crate::changes::cut_power;
use crate::common::{CONSUL, failures, none, seconds, served};
use crate::repairs::{EXACT, exact};

/// Returns the node whose Consul leads.
pub(crate) async fn leader(cluster: &Cluster) -> anyhow::Result<Node> {
    for node in cluster.nodes().filter(Node::is_server) {
        if let Ok(leader) =
            coins::get(&format!("http://{}:8500/v1/status/leader", node.address())).await
            && let Some(leader) = cluster.nodes().find(|node| {
                leader
                    .as_str()
                    .is_some_and(|text| text.starts_with(&format!("{}:", node.address())))
            })
        {
            return Ok(leader);
        }
    }
    anyhow::bail!("nobody knows the leader")
}

pub(crate) async fn leader_killed(cluster: &Cluster) -> anyhow::Result<String> {
    let dead = leader(cluster).await?;
    let others: Vec<Node> = cluster.nodes().filter(|node| node.number() != dead.number()).collect();
    let last = others.last().context("five nodes")?;
    let fault = async {
        dead.docker_run(&["kill", CONSUL]).await?;
        let killed = Instant::now();
        coins::scale_node(last, 4, 2).await?;
        let started = killed.elapsed();
        let known = || async {
            let expected = status::running(last).await.ok()?;
            for node in &others {
                let served: BTreeSet<String> =
                    status::served(node).await.ok()?.into_keys().collect();
                if !expected.is_subset(&served) {
                    return None;
                }
            }
            Some(())
        };
        // Thirty seconds after the kill, whatever the start took.
        let limit = Duration::from_secs(30).saturating_sub(started).max(Duration::from_secs(15));
        eventually("a new instance is served on all nodes with an agent", limit, known).await?;
        let registered = killed.elapsed();
        dead.docker_run(&["start", CONSUL]).await?;
        let back = Instant::now();
        settled(cluster).await?;
        Ok((registered, back.elapsed()))
    };
    let ((registered, back), errors) = failures(cluster, &[], fault).await?;
    coins::scale_node(last, 4, 1).await?;
    none(&errors)?;
    Ok(format!(
        "0 requests failed, a new instance served {} after the kill, all right {} after {} was back",
        seconds(registered),
        seconds(back),
        dead.name()
    ))
}

pub(crate) async fn partitioned(cluster: &Cluster) -> anyhow::Result<String> {
    let node = cluster.node("4")?;
    let majority: Vec<Node> =
        cluster.nodes().filter(|other| other.number() != node.number()).collect();
    let names: Vec<&str> = majority.iter().map(Node::name).collect();
    let fault = async {
        let cut = Instant::now();
        multihost::partition(cluster, &node).await?;
        let out =
            served(&majority, &node.address().to_string(), false, Duration::from_secs(15)).await?;
        tokio::time::sleep(Duration::from_secs(30).saturating_sub(cut.elapsed())).await;
        multihost::heal(cluster, &node).await?;
        let healed = Instant::now();
        settled(cluster).await?;
        Ok((out, healed.elapsed()))
    };
    let ((out, right), errors) = failures(cluster, &names, fault).await?;
    none(&errors)?;
    Ok(format!(
        "0 requests failed on the majority's side, left alone after {}, all right {} after it was back, 0 entries too many",
        seconds(out),
        seconds(right)
    ))
}

pub(crate) async fn power_failure(cluster: &Cluster) -> anyhow::Result<String> {
    let node = cluster.node("5")?;
    let names = ["node1", "node2", "node3", "node4"];
    let fault = async {
        let gone = cut_power(cluster, &node).await?;
        node.boot(cluster).await?;
        let booted = Instant::now();
        settled(cluster).await?;
        Ok((gone, booted.elapsed()))
    };
    let (((out, keys), right), errors) = failures(cluster, &names, fault).await?;
    none(&errors)?;
    Ok(format!(
        "0 requests of the survivors failed, out of every ambassador after {}, its keys gone after {}, all right {} after its engine was back",
        seconds(out),
        seconds(keys),
        seconds(right)
    ))
}

pub(crate) async fn rolling_restart(cluster: &Cluster) -> anyhow::Result<String> {
    let fault = async {
        let started = Instant::now();
        for node in cluster.nodes().filter(Node::is_server) {
            node.docker_run(&["restart", CONSUL]).await?;
            let healthy = || async {
                let known = coins::get(&format!("http://{}:8500/v1/status/leader", node.address()))
                    .await
                    .ok()?;
                (known.as_str() != Some("") && status::alive(&node).await.ok()?.len() == 5)
                    .then_some(())
            };
            eventually(
                "the restarted server sees a leader and everybody",
                Duration::from_mins(1),
                healthy,
            )
            .await?;
        }
        settled(cluster).await?;
        Ok(started.elapsed())
    };
    let (took, errors) = failures(cluster, &[], fault).await?;
    none(&errors)?;
    Ok(format!("0 requests failed, three servers in {}", seconds(took)))
}

/// Restarts a node's engine in order; without live restore, all its containers get other ports.
pub(crate) async fn engine_restarted(cluster: &Cluster) -> anyhow::Result<String> {
    let node = cluster.node("4")?;
    let others: Vec<Node> = cluster.nodes().filter(|other| other.number() != 4).collect();
    let names: Vec<&str> = others.iter().map(Node::name).collect();
    let old = status::running(&node).await?;
    let fault = async {
        node.stop_engine("TERM").await?;
        node.start_engine().await?;
        let back = Instant::now();
        let new = status::running(&node).await?;
        let stale: BTreeSet<String> = old.difference(&new).cloned().collect();
        let watch = async {
            let mut last = Duration::ZERO;
            while back.elapsed() < EXACT + Duration::from_secs(3) {
                for other in &others {
                    let mut served = status::served(other).await?.into_keys();
                    if served.any(|instance| stale.contains(&instance)) {
                        last = back.elapsed();
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(last)
        };
        let (last, right) = tokio::try_join!(watch, exact(cluster, "the engine was restarted"))?;
        ensure!(last < EXACT, "an old address was served until {}", seconds(last));
        Ok((stale.len(), last, right))
    };
    let ((stale, last, right), errors) = failures(cluster, &names, fault).await?;
    none(&errors)?;
    Ok(format!(
        "0 requests of the other nodes failed, {stale} instances had moved, an old address was last served {} after the engine was back, all right after {}",
        seconds(last),
        seconds(right)
    ))
}

/// All nodes lose their power, and get it back, at once: no server is there that could be told what ran before.
pub(crate) async fn blackout(cluster: &Cluster) -> anyhow::Result<String> {
    settled(cluster).await?;
    for node in cluster.nodes() {
        node.crash().await?;
    }
    let mut boots = tokio::task::JoinSet::new();
    for node in cluster.nodes() {
        let cluster = cluster.clone();
        boots.spawn(async move { node.boot(&cluster).await });
    }
    for booted in boots.join_all().await {
        booted?;
    }
    let back = Instant::now();
    settled(cluster).await?;
    let right = back.elapsed();
    let before = coins::hashes(&cluster.node("1")?).await?.0;
    let more = || async {
        let now = coins::hashes(&cluster.node("5").ok()?).await.ok()?.0;
        (now > before).then_some(())
    };
    let ((), mines) = eventually("it mines", Duration::from_mins(1), more).await?;
    Ok(format!(
        "all right {} after the engines were back, mining {} later",
        seconds(right),
        seconds(mines)
    ))
}
