//! The same system by Docker's swarm mode, from `deploy/stack.yml`.

use std::time::Duration;

use anyhow::ensure;
use multihost::{Cluster, coins, settled};

use crate::common::{none, seconds};

/// Puts nothing but images and disks on a node, as it would be on a host before the stack comes: names for the images
/// that only this node can mean, and its folder at the same place as on the others.
const PREPARE: &str = "docker ps --all --quiet | xargs docker rm --force >/dev/null
    docker network rm clients >/dev/null
    for image in consul registrator confd ambassador; do docker tag ambassador/$image localhost/ambassador/$image; done
    mkdir -p /run/host && mount --bind $0 /run/host";

/// Takes the place of what runs there; the nodes are good for nothing else afterwards.
pub(crate) async fn deployed(cluster: &Cluster) -> anyhow::Result<String> {
    let mut plain = cluster.clone();
    plain.options.variants.clear();
    for node in plain.nodes() {
        let mut command = node.inside("bash")?;
        let bundle = node.bundle().display().to_string();
        multihost::space::run(command.args(["-ec", PREPARE, &bundle])).await?;
    }
    multihost::swarm(&plain).await?;
    let first = plain.node("1")?;
    first.docker_run(&["network", "create", "-d", "overlay", "--attachable", "clients"]).await?;
    let started = std::time::Instant::now();
    let file = plain.repository().join("deploy/stack.yml").display().to_string();
    let words = ["stack", "deploy", "--detach=false", "--compose-file", &file, "ambassador"];
    let mut deploy = first.docker(&words);
    deploy.env("FOLDER", "/run/host").env("REGISTRY", "localhost/");
    multihost::space::run(&mut deploy).await?;
    let deployed = started.elapsed();
    coins::scale(&plain, 2, 1).await?;
    settled(&plain).await?;
    // Workers that found nobody at first wait a while before they try again.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let since = coins::now();
    let rate = coins::rate(&first, coins::SAMPLE).await?;
    none(&coins::errors(&plain, &since).await?)?;
    ensure!(rate > 20.0, "ten workers mine {rate:.1} hashes/s");
    let tasks = first.docker_run(&["stack", "ps", "--quiet", "ambassador"]).await?.lines().count();
    ensure!(tasks == 20, "{tasks} tasks were needed for four services on five nodes");
    Ok(format!("deployed in {}, {rate:.1} hashes/s, 0 requests failed", seconds(deployed)))
}
