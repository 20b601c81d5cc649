//! The cables: a bridge in the hub's namespace, one link to each node, and one to this machine.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::args::program;
use crate::node::Node;
use crate::settings::{Cluster, Options};
use crate::space::{self, Space};

/// The name of the namespaces that hold the bridge.
pub(crate) const HUB: &str = "hub";
/// The last part of this machine's own address in the nodes' network.
const HERE: u8 = 254;

/// Returns the name of the network interface here, distinct for each folder.
pub(crate) fn interface(folder: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    format!("mh-{:08x}", hasher.finish() & 0xffff_ffff)
}

/// Makes the bridge and this machine's own link to it.
pub(crate) async fn make_hub(cluster: &Cluster) -> anyhow::Result<()> {
    let hub = space::make(cluster.folder(), HUB).await?;
    hub.ip("link add br0 type bridge").await?;
    hub.ip("link set br0 up").await?;
    let here = interface(cluster.folder());
    hub.ip("link add here type veth peer name there").await?;
    let pid = std::process::id();
    hub.ip(&format!("link set there netns {pid}")).await?;
    hub.ip("link set here master br0 up").await?;
    ip(&format!("link set there name {here}")).await?;
    ip(&format!("link set {here} up")).await?;
    ip(&format!("addr add {}/24 dev {here}", cluster.address(HERE))).await.map(drop)
}

/// Refuses a network to which, or to a part of which, this machine has a route already.
pub(crate) async fn ensure_free(options: &Options) -> anyhow::Result<()> {
    let network = crate::settings::address(options.network, 0);
    let routes = ip(&format!("-4 route show root {network}/24")).await?;
    ensure!(
        routes.is_empty(),
        "the network {network}/24 is in use here ({}): give another by --network",
        routes.lines().next().unwrap_or_default().trim()
    );
    Ok(())
}

/// Plugs a node in.
pub(crate) async fn plug(hub: &Space, node: &Node, own: &Space) -> anyhow::Result<()> {
    let (cable, address) = (node.cable(), node.address());
    // A node that lost its power took its end, and so the other one, with it: in a moment.
    let _ = hub.ip(&format!("link del {cable}")).await;
    hub.ip(&format!("link add {cable} type veth peer name eth0 netns {}", own.pid)).await?;
    hub.ip(&format!("link set {cable} master br0 up")).await?;
    own.ip(&format!("addr add {address}/24 dev eth0")).await?;
    own.ip("link set eth0 up").await?;
    // Swarm insists on a default route; nothing answers there.
    own.ip("route add default dev eth0").await
}

/// Returns the hub.
pub(crate) fn hub(folder: &Path) -> anyhow::Result<Space> {
    space::find(folder).remove(HUB).context("the hub is gone: multihost down, then up")
}

/// Pulls a node's cable.
///
/// # Errors
/// If the node is not connected.
pub async fn partition(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    cable(cluster, node, "down").await
}

/// Plugs it in again.
///
/// # Errors
/// If the node is not connected.
pub async fn heal(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    cable(cluster, node, "up").await
}

async fn cable(cluster: &Cluster, node: &Node, state: &str) -> anyhow::Result<()> {
    ensure!(
        node.space().is_some(),
        "{} is off: boot it by `{} restart {0}`",
        node.name(),
        program()
    );
    hub(cluster.folder())?.ip(&format!("link set {} {state}", node.cable())).await
}

/// Runs `ip` here.
async fn ip(args: &str) -> anyhow::Result<String> {
    space::run(Command::new("ip").args(args.split_whitespace())).await
}
