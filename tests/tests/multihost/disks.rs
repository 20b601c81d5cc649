//! What is on disk: images that all engines share; a server that lost its disk, and a snapshot that is restored under load.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use multihost::node::Node;
use multihost::{Cluster, coins, settled};
use tests::eventually;

use crate::common::{CONSUL, failures, none, seconds};

/// Runs Consul's command on a node, as the operator.
async fn consul(cluster: &Cluster, node: &Node, words: &[&str]) -> anyhow::Result<String> {
    let token = cluster.folder().join("cluster/secrets/management.token");
    let token = format!("CONSUL_HTTP_TOKEN={}", std::fs::read_to_string(token)?.trim());
    node.docker_run(&[&["exec", "--env", &token, CONSUL, "consul"][..], words].concat()).await
}

/// Layers are there once, with a name for each engine and for the one that loaded them.
pub(crate) async fn shared(cluster: &Cluster) -> anyhow::Result<String> {
    let template = cluster.folder().join("template/docker").display().to_string();
    let mut find = tokio::process::Command::new("find");
    find.args([&template, "-type", "f", "-size", "+1000k", "("]);
    // Older engines, and newer ones.
    find.args([
        "-path",
        "*/diff/*",
        "-o",
        "-path",
        "*/snapshots/*/fs/*",
        ")",
        "-printf",
        "%n %p\\n",
    ]);
    let found = multihost::space::run(&mut find).await?;
    let names = |line: &str| line.split(' ').next()?.parse::<usize>().ok();
    let wanted = cluster.nodes().count() + 1;
    ensure!(found.lines().count() > 5, "no files of images in {template}");
    for line in found.lines() {
        ensure!(names(line) >= Some(wanted), "not shared by {wanted}: {line}");
    }
    Ok(format!("{} large files of images, each on the disk once", found.lines().count()))
}

/// Returns the identity under which a server votes, as the first node's Consul lists it: one that is being replaced is
/// listed as well.
async fn voters(cluster: &Cluster, name: &str) -> anyhow::Result<Vec<String>> {
    let peers = consul(cluster, &cluster.node("1")?, &["operator", "raft", "list-peers"]).await?;
    // Name, ID, address, state, voter, protocol.
    let voter = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let own = words.first() == Some(&name) && words.get(4) == Some(&"true");
        own.then(|| words[1].to_owned())
    };
    Ok(peers.lines().filter_map(voter).collect())
}

/// A server comes back with the same name and address, and nothing else.
pub(crate) async fn disk_lost(cluster: &Cluster) -> anyhow::Result<String> {
    let node = cluster.node("3")?;
    let before = voters(cluster, node.name()).await?;
    ensure!(before.len() == 1, "votes as {before:?}");
    let fault = async {
        node.docker_run(&["kill", CONSUL]).await?;
        let disk = node.data().join("volumes/ambassador_consul/_data");
        for entry in std::fs::read_dir(&disk).context("no disk")? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path)?;
            } else {
                std::fs::remove_file(&path)?;
            }
        }
        node.docker_run(&["start", CONSUL]).await?;
        let back = Instant::now();
        let votes = || async {
            let now = voters(cluster, node.name()).await.ok()?;
            (now.len() == 1 && now != before).then_some(())
        };
        eventually("it votes", Duration::from_mins(2), votes).await?;
        let took = back.elapsed();
        settled(cluster).await?;
        let right = back.elapsed();
        // What changes there from now on is known everywhere, too.
        for rng in [2, 1] {
            coins::scale_node(&node, 2, rng).await?;
            settled(cluster).await?;
        }
        Ok((took, right))
    };
    let ((took, right), errors) = failures(cluster, &[], fault).await?;
    none(&errors)?;
    Ok(format!(
        "0 requests failed, it voted after {}, all right after {}",
        seconds(took),
        seconds(right)
    ))
}

/// Everything is saved and put back while the workers mine.
pub(crate) async fn restored(cluster: &Cluster) -> anyhow::Result<String> {
    let first = cluster.node("1")?;
    let fault = async {
        let token =
            std::fs::read_to_string(cluster.folder().join("cluster/secrets/management.token"))?;
        // As docs/deploy.md says.
        let curl = async |more: &[&str]| {
            let mut command = tokio::process::Command::new("curl");
            command.args(["--noproxy", "*", "-fsS"]);
            command.args(["-H", &format!("X-Consul-Token: {token}")]).args(more);
            multihost::space::run(
                command.arg(format!("http://{}:8500/v1/snapshot", first.address())),
            )
            .await
        };
        let file = cluster.folder().join("backup.snap").display().to_string();
        // Consul refuses for a moment after the servers have changed.
        let end = Instant::now() + Duration::from_secs(30);
        while let Err(error) = curl(&["-o", &file]).await {
            ensure!(Instant::now() < end, "no snapshot is saved: {error:#}");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started = Instant::now();
        curl(&["-X", "PUT", "--data-binary", &format!("@{file}")]).await?;
        settled(cluster).await?;
        Ok(started.elapsed())
    };
    let (took, errors) = failures(cluster, &[], fault).await?;
    none(&errors)?;
    Ok(format!("0 requests failed, all right {} after the command", seconds(took)))
}
