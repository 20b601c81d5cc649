//! The images, loaded once and shared by all engines without a copy.
//!
//! An engine never writes to the files of an image's layers: it mounts them below a layer of the
//! container's own. So one engine loads the images, and the others get hard links to its files. The
//! records of what is there are small; they are written in place by some engines, so each gets a copy.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::node::Node;
use crate::settings::Cluster;
use crate::space::{self, run};

/// The images that a node needs.
pub(crate) const IMAGES: [&str; 6] = [
    "ambassador/consul",
    "ambassador/registrator",
    "ambassador/confd",
    "ambassador/ambassador",
    "ambassador/dockercoins",
    "ambassador/redis",
];

/// Loads the images from this machine's engine into one of their own, which is stopped afterwards.
pub(crate) async fn load(cluster: &Cluster) -> anyhow::Result<()> {
    let template = Node::template(cluster.folder());
    let made_later = template.files().join("complete");
    if made_later.exists() {
        return Ok(());
    }
    run(Command::new("docker").args(["image", "inspect", "--format", "{{.Id}}"]).args(IMAGES))
        .await
        .context("images are missing: make images")?;
    fs::create_dir_all(template.files())?;
    template.write_engine_settings(cluster)?;
    let space = space::make(cluster.folder(), template.name()).await?;
    template.start_engine().await?;
    let mut save = Command::new("docker")
        .arg("save")
        .args(IMAGES)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let images: Stdio = save.stdout.take().context("piped above")?.try_into()?;
    let loaded = template
        .docker(&["load", "--quiet"])
        .stdin(images)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await?;
    ensure!(save.wait().await?.success() && loaded.success(), "the images could not be loaded");
    template.stop_engine("TERM").await?;
    space.kill().await?;
    Ok(fs::write(made_later, "")?)
}

/// Gives a node's engine the images, before it starts for the first time.
pub(crate) async fn share(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let (from, to) = (Node::template(cluster.folder()).data(), node.data());
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from)? {
        let name = entry?.file_name();
        let (source, target) = (from.join(&name), to.join(&name));
        match name.to_string_lossy().as_ref() {
            // Who an engine is, and what belongs to a running one.
            "engine-id" | "swarm" | "network" | "tmp" | "runtimes" => {}
            "overlay2" => copy("-al", &source, &target).await?,
            // Newer engines keep layers here, beside their records.
            "containerd" => {
                copy("-al", &source, &target).await?;
                let mut unshare = Command::new("find");
                unshare
                    .arg(&target)
                    .args(["-name", "*.db", "-exec", "cp", "-a", "{}", "{}.own", ";"]);
                run(unshare.args(["-exec", "mv", "-f", "{}.own", "{}", ";"])).await?;
            }
            _ => copy("-a", &source, &target).await?,
        }
    }
    Ok(())
}

async fn copy(how: &str, from: &Path, to: &Path) -> anyhow::Result<()> {
    run(Command::new("cp").arg(how).arg(from).arg(to)).await.map(drop)
}
