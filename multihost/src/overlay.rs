//! Overlay networks: Docker's swarm mode across the nodes, and the exercise with two of them.
//!
//! luke and vador are on the network jedi, palpatine is on darkside, each on a node of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::node::Node;
use crate::settings::Cluster;

/// Who is where: name, network, node.
const CAST: [(&str, &str, usize); 3] =
    [("luke", "jedi", 0), ("vador", "jedi", 1), ("palpatine", "darkside", 2)];
/// How long a change of networks may take to be felt.
///
/// The engines tell each other in tenths of a second who is on a network. What of that is lost
/// comes with the next full exchange: every 30 s (`bulkSyncTables` in libnetwork's `networkdb`,
/// at memberlist's `PushPullInterval`).
const LIMIT: Duration = Duration::from_secs(75);

/// Makes one swarm of the nodes that are up, if there is none yet: the first three manage it.
///
/// # Errors
/// With what Docker says.
pub async fn swarm(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes: Vec<_> = cluster.nodes().filter(|node| node.space().is_some()).collect();
    let first = nodes.first().context("no node is up")?;
    let state = ["info", "--format", "{{.Swarm.LocalNodeState}}"];
    if first.docker_run(&state).await? != "active" {
        first
            .docker_run(&["swarm", "init", "--advertise-addr", &first.address().to_string()])
            .await?;
    }
    for (place, node) in nodes.iter().enumerate().skip(1) {
        if node.docker_run(&state).await? == "active" {
            continue;
        }
        let role = if place < 3 { "manager" } else { "worker" };
        let token = first.docker_run(&["swarm", "join-token", "--quiet", role]).await?;
        let (own, other) = (node.address().to_string(), format!("{}:2377", first.address()));
        node.docker_run(&["swarm", "join", "--advertise-addr", &own, "--token", &token, &other])
            .await?;
    }
    Ok(())
}

/// Makes an overlay network that containers can join, unless it is there.
pub(crate) async fn network(first: &Node, name: &str) -> anyhow::Result<()> {
    let known = first.docker_run(&["network", "ls", "--format", "{{.Name}}"]).await?;
    if !known.lines().any(|known| known == name) {
        first
            .docker_run(&["network", "create", "--driver", "overlay", "--attachable", name])
            .await?;
    }
    Ok(())
}

/// Plays the exercise, printing each step, and cleans up behind itself.
///
/// # Errors
/// At the first step that does not go as it should.
pub async fn exercise(cluster: &Cluster) -> anyhow::Result<()> {
    swarm(cluster).await?;
    let nodes: Vec<_> = cluster.nodes().filter(|node| node.space().is_some()).collect();
    ensure!(nodes.len() >= CAST.len(), "the exercise needs three nodes that are up");
    clean(&nodes).await;
    let result = play(&nodes).await;
    clean(&nodes).await;
    result
}

async fn play(nodes: &[Node]) -> anyhow::Result<()> {
    for name in ["jedi", "darkside"] {
        network(&nodes[0], name).await?;
        println!("$ docker network create --driver overlay --attachable {name}");
    }
    for (name, network, place) in CAST {
        println!("{}$ docker run -d --name {name} --network {network} redis", nodes[place].name());
        let label = ["--pull=never", "--label", "SERVICE_IGNORE=true"];
        let args = [
            &["run", "--detach", "--name", name, "--network", network][..],
            &label,
            &["ambassador/redis"],
        ]
        .concat();
        nodes[place].docker_run(&args).await?;
    }
    let vador = &nodes[1];
    expect(vador, "luke", true).await?;
    expect(vador, "palpatine", false).await?;
    let before = interfaces(vador).await?;
    println!("{}$ docker network connect darkside vador", vador.name());
    vador.docker_run(&["network", "connect", "darkside", "vador"]).await?;
    expect(vador, "palpatine", true).await?;
    expect(vador, "luke", true).await?;
    let after = interfaces(vador).await?;
    println!("    vador has {after} network interfaces, {before} before");
    ensure!(after == before + 1, "vador must have one more interface");
    println!("{}$ docker network disconnect jedi vador", vador.name());
    vador.docker_run(&["network", "disconnect", "jedi", "vador"]).await?;
    expect(vador, "luke", false).await?;
    expect(vador, "palpatine", true).await
}

/// Waits until vador reaches somebody by name, or does not any more.
async fn expect(vador: &Node, whom: &str, reached: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let ping = ["exec", "vador", "timeout", "2", "redis-cli", "-h", whom, "ping"];
        let said = vador.docker_run(&ping).await;
        let answers = said.as_ref().is_ok_and(|answer| answer == "PONG");
        if answers == reached {
            let verb = if reached { "reaches" } else { "does not reach" };
            println!("    vador {verb} {whom} (after {:.1} s)", started.elapsed().as_secs_f64());
            return Ok(());
        }
        ensure!(
            started.elapsed() < LIMIT,
            "vador {} {whom} after {} s: {said:?}",
            if answers { "still reaches" } else { "does not reach" },
            LIMIT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Returns how many network interfaces vador has, beside the loopback.
async fn interfaces(vador: &Node) -> anyhow::Result<usize> {
    let listed = vador.docker_run(&["exec", "vador", "ls", "/sys/class/net"]).await?;
    Ok(listed.split_whitespace().filter(|name| *name != "lo").count())
}

/// Removes the three containers and the two networks.
async fn clean(nodes: &[Node]) {
    for (name, _, place) in CAST {
        // What is not there need not go.
        let _ = nodes[place].docker_run(&["rm", "--force", "--volumes", name]).await;
    }
    for network in ["jedi", "darkside"] {
        let _ = nodes[0].docker_run(&["network", "rm", network]).await;
    }
}
