//! The two Compose projects of a node: the tiers, and DockerCoins.

use anyhow::Context;
use tokio::process::Command;

use crate::bundle::{Bundle, Member};
use crate::node::Node;
use crate::settings::{Cluster, Variant};
use crate::space::run;

/// The Compose file of the tiers.
const TIERS_FILE: &str = "compose.yml";
/// The overlay network that backends may be on.
pub(crate) const BACKENDS: &str = "backends";
/// A folder with nothing but the engine's socket.
pub(crate) const SOCKETS: &str = "/run/engine";
/// The services of the first file that need Consul's tokens.
const TIERS: [&str; 3] = ["registrator", "confd", "ambassador"];
/// Those that ambassadors of one client each need.
const OWN: [&str; 2] = ["agent", "confd-clients"];

/// Returns what is to be written for the nodes.
pub(crate) fn bundle(cluster: &Cluster) -> Bundle {
    let member = |node: Node| Member {
        name: node.name().to_owned(),
        address: node.address(),
        server: node.is_server(),
    };
    Bundle {
        members: cluster.nodes().map(member).collect(),
        tls: cluster.options.tls,
        out: cluster.folder().join("cluster"),
        repository: cluster.repository().to_owned(),
    }
}

/// Returns `docker compose ARGS` for one file of a node.
fn compose(node: &Node, file: &str, args: &[&str]) -> Command {
    let mut command = node.docker(&["compose", "--progress", "plain", "--file"]);
    command.arg(node.bundle().join(file));
    if node.has(Variant::Overlay) {
        let other = if file == TIERS_FILE { "overlay.yml" } else { "dockercoins-overlay.yml" };
        command.arg("--file").arg(node.bundle().join(other));
    }
    if node.has(Variant::OwnAmbassadors) {
        let other =
            if file == TIERS_FILE { "ambassadors.yml" } else { "dockercoins-ambassadors.yml" };
        command.arg("--file").arg(node.bundle().join(other));
    }
    command.args(args);
    // The images are there already, and only there. Statistics are for whoever looks from outside.
    command.env("PULL_POLICY", "never").env("STATS_ADDRESS", node.address().to_string());
    if node.has(Variant::Near) {
        command.env("NEAR", node.name());
    }
    // The engine makes its socket anew when it is started again: containers get the folder. Not /var/run, which is /run
    // in most images: it would hide what else is mounted there.
    command
        .env("DOCKER_SOCKET_MOUNT", SOCKETS)
        .env("DOCKER_SOCKET", format!("{SOCKETS}/docker.sock"));
    command
}

/// Starts Consul's agent.
pub(crate) async fn start_consul(node: &Node) -> anyhow::Result<()> {
    let args = ["up", "--detach", "--no-build", "consul"];
    run(&mut compose(node, TIERS_FILE, &args))
        .await
        .map(drop)
        .with_context(|| format!("no Consul on {}", node.name()))
}

/// Starts the rest.
pub(crate) async fn start_tiers(node: &Node) -> anyhow::Result<()> {
    let own = if node.has(Variant::OwnAmbassadors) { &OWN[..] } else { &[] };
    let args = [&["up", "--detach", "--no-build"][..], &TIERS, own].concat();
    run(&mut compose(node, TIERS_FILE, &args))
        .await
        .map(drop)
        .with_context(|| format!("on {}", node.name()))
}

/// Brings DockerCoins on a node to these numbers; with `redis`, the one that all share is there.
///
/// # Errors
/// With what Compose says.
pub(crate) async fn start_coins(
    node: &Node,
    workers: u32,
    rng: u32,
    redis: bool,
) -> anyhow::Result<()> {
    let scale = [("worker", workers), ("rng", rng), ("redis", u32::from(redis))]
        .map(|(name, n)| format!("{name}={n}"));
    let mut command = compose(node, "dockercoins.yml", &["up", "--detach", "--no-build"]);
    for scale in &scale {
        command.args(["--scale", scale]);
    }
    run(&mut command).await.map(drop).with_context(|| format!("on {}", node.name()))
}
