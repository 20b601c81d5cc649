//! What an operator does while the nodes work: empties one for a while, adds one, removes one for good.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use multihost::node::Node;
use multihost::{Cluster, coins, settled, status};
use tests::eventually;

use crate::common::{CONSUL, Steady, failures, none, seconds, served};

/// Returns the keys that tell of a node's instances.
pub(crate) async fn keys_of(cluster: &Cluster, node: &Node) -> anyhow::Result<usize> {
    let keys = status::keys(cluster, &cluster.node("1")?, "services/").await?;
    Ok(keys.iter().filter(|key| key.contains(&format!("/{}:", node.name()))).count())
}

/// Takes a node's power away; returns when its instances were out of every ambassador, and its keys gone.
pub(crate) async fn cut_power(
    cluster: &Cluster,
    node: &Node,
) -> anyhow::Result<(Duration, Duration)> {
    let survivors: Vec<Node> =
        cluster.nodes().filter(|other| other.number() != node.number()).collect();
    // On a busy machine a node may have been missed for a moment, and its keys with it.
    let there = || async { (keys_of(cluster, node).await.ok()? > 0).then_some(()) };
    eventually("keys tell of it", Duration::from_mins(1), there).await?;
    let cut = Instant::now();
    node.crash().await?;
    let took = cut.elapsed();
    let out =
        served(&survivors, &node.address().to_string(), false, Duration::from_secs(15)).await?;
    let gone = || async { (keys_of(cluster, node).await.ok()? == 0).then_some(()) };
    eventually("its keys are gone", Duration::from_mins(1), gone).await?;
    Ok((took + out, cut.elapsed()))
}

/// Runs a command of ours in a container on a node, as the operator.
async fn operate(cluster: &Cluster, node: &Node, words: &[&str]) -> anyhow::Result<String> {
    let token = cluster.folder().join("cluster/secrets/management.token");
    let token = format!("CONSUL_HTTP_TOKEN={}", std::fs::read_to_string(token)?.trim());
    let container = ["run", "--rm", "--network", "host", "--label", "SERVICE_IGNORE=true"];
    let image = ["--env", &token, "ambassador/ambassador"];
    node.docker_run(&[&container[..], &image, words].concat()).await
}

/// Returns how many connections the containers of a service on a node have with clients at this moment.
async fn connections(node: &Node, service: &str) -> anyhow::Result<usize> {
    let filter = format!("label=com.docker.compose.service={service}");
    let ids = node.docker_run(&["ps", "--quiet", "--filter", &filter]).await?;
    let mut count = 0;
    for id in ids.lines() {
        let pid = node.docker_run(&["inspect", "--format", "{{.State.Pid}}", id]).await?;
        let script = "cat /proc/$0/net/tcp /proc/$0/net/tcp6";
        let table = node.inside("bash")?.args(["-c", script, &pid]).output().await?;
        // local address:port in hexadecimal, remote one, state: 01 is established.
        let serving = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 3 && words[1].ends_with(":0050") && words[3] == "01"
        };
        count += String::from_utf8_lossy(&table.stdout).lines().filter(serving).count();
    }
    Ok(count)
}

pub(crate) async fn maintained(cluster: &Cluster) -> anyhow::Result<String> {
    let (node, other) = (cluster.node("3")?, cluster.node("1")?);
    let (all, address): (Vec<Node>, _) = (cluster.nodes().collect(), node.address().to_string());
    let fault = async {
        // Its own clients go on, by the other nodes' instances.
        let clients = [Steady::start(&other, "hasher").await?, Steady::start(&node, "rng").await?];
        tokio::time::sleep(Duration::from_secs(2)).await;
        let asked = Instant::now();
        operate(cluster, &other, &["drain-node", node.name()]).await?;
        let drained = asked.elapsed();
        served(&all, &address, false, Duration::ZERO).await.context("after drain-node")?;
        for service in ["rng", "hasher"] {
            let left = connections(&node, service).await?;
            ensure!(left == 0, "{left} connections to {service} are left");
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let asked = Instant::now();
        operate(cluster, &other, &["drain-node", "--back", node.name()]).await?;
        served(&all, &address, true, Duration::from_secs(15)).await?;
        settled(cluster).await?;
        let back = asked.elapsed();
        let [first, second] = clients;
        Ok((drained, back, first.end().await?, second.end().await?))
    };
    let ((drained, back, first, second), errors) = failures(cluster, &[], fault).await?;
    none(&errors)?;
    Ok(format!(
        "0 requests of workers failed, emptied after {}, all right {} after --back; {first}; {second} on that node",
        seconds(drained),
        seconds(back)
    ))
}

/// A service that Consul's own configuration names, as on a host where it runs without Docker.
pub(crate) async fn configuration_changed(cluster: &Cluster) -> anyhow::Result<String> {
    let node = cluster.node("4")?;
    let format = ["inspect", "--format", "{{.State.StartedAt}} {{.State.Pid}}", CONSUL];
    let before = node.docker_run(&format).await?;
    let token = std::fs::read_to_string(node.bundle().join("tokens/registrator"))?;
    let file = node.bundle().join("consul/agent/printer.json");
    let service = serde_json::json!({ "name": "printer", "port": 631, "token": token.trim() });
    let listed = |wanted: bool| async move {
        for node in cluster.nodes() {
            let url = format!("http://{}:8500/v1/health/service/printer", node.address());
            let found = !coins::get(&url).await.ok()?.as_array()?.is_empty();
            if found != wanted {
                return None;
            }
        }
        Some(())
    };
    let limit = Duration::from_secs(30);
    std::fs::write(&file, serde_json::json!({ "service": service }).to_string())?;
    let added = eventually("all nodes list the new service", limit, || listed(true)).await;
    std::fs::remove_file(&file)?;
    let ((), added) = added?;
    let ((), removed) = eventually("no node lists it", limit, || listed(false)).await?;
    ensure!(node.docker_run(&format).await? == before, "the agent was restarted");
    Ok(format!("known everywhere after {}, gone after {}", seconds(added), seconds(removed)))
}

/// Returns how often a node is named in the lists of all others: as a node, a member, by its checks, by keys.
async fn entries(cluster: &Cluster, node: &Node) -> anyhow::Result<usize> {
    let mut found = 0;
    for other in cluster.nodes().filter(|other| other.number() != node.number()) {
        for list in ["catalog/nodes", "agent/members", "health/state/any"] {
            let list = coins::get(&format!("http://{}:8500/v1/{list}", other.address())).await?;
            let named = |entry: &&serde_json::Value| {
                entry["Node"] == node.name() || entry["Name"] == node.name()
            };
            found += list.as_array().context("no list")?.iter().filter(named).count();
        }
    }
    for prefix in ["services/", "ambassadors/"] {
        let keys = status::keys(cluster, &cluster.node("1")?, prefix).await?;
        let named =
            |key: &&String| key.split('/').any(|word| word.split(':').next() == Some(node.name()));
        found += keys.iter().filter(named).count();
    }
    Ok(found)
}

pub(crate) async fn added_and_removed(cluster: &mut Cluster) -> anyhow::Result<String> {
    settled(cluster).await?;
    let since = coins::now();
    let started = Instant::now();
    let node = multihost::add(cluster).await?;
    settled(cluster).await?;
    let added = started.elapsed();
    let (out, keys) = cut_power(cluster, &node).await?;
    let token = std::fs::read_to_string(node.bundle().join("tokens/confd"))?;
    let before = entries(cluster, &node).await?;
    multihost::remove(cluster, &node).await?;
    settled(cluster).await?;
    let left = entries(cluster, &node).await?;
    ensure!(left == 0, "{left} entries of {} are left", node.name());
    let own =
        format!("http://{}:8500/v1/acl/token/self?token={token}", cluster.node("1")?.address());
    ensure!(coins::get(&own).await.is_err(), "the token of {} is still good", node.name());
    none(&coins::errors(cluster, &since).await?)?;
    Ok(format!(
        "0 requests failed, mining {} after the command, out of every ambassador {} after its end, keys gone after {}; {before} entries without traffic on the lists of five nodes until it was removed, 0 then; its tokens are revoked",
        seconds(added),
        seconds(out),
        seconds(keys)
    ))
}
