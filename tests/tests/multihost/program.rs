//! The program, as a person calls it, from any folder.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use multihost::{Cluster, settled};
use tests::eventually;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Returns `multihost --folder FOLDER`, from a folder that is not the project's.
fn multihost(folder: &Path) -> anyhow::Result<Command> {
    // .../debug/deps/multihost-0123456789abcdef is this test.
    let here = std::env::current_exe()?;
    let program: PathBuf = here.ancestors().nth(2).context("no folder")?.join("multihost");
    ensure!(program.exists(), "build it first: cargo build --package multihost");
    let mut command = Command::new(program);
    command.arg("--folder").arg(folder).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

async fn output(cluster: &Cluster, args: &[&str]) -> anyhow::Result<Output> {
    Ok(multihost(cluster.folder())?.args(args).output().await?)
}

/// Runs a command that must succeed, and returns what it prints.
async fn run(cluster: &Cluster, args: &[&str]) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = output(cluster, args).await?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "multihost {}: {said}", args.join(" "));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Runs a command that must fail, and say why.
async fn refused(cluster: &Cluster, args: &[&str], why: &str) -> anyhow::Result<()> {
    let Output { status, stderr, .. } = output(cluster, args).await?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(!status.success() && said.contains(why), "multihost {}: {said}", args.join(" "));
    Ok(())
}

/// Whatever context the user has chosen, Docker on a node means the node's engine.
async fn own_engine(cluster: &Cluster) -> anyhow::Result<()> {
    let config = tempfile::tempdir_in(cluster.folder())?;
    let chosen = serde_json::json!({ "currentContext": "elsewhere" });
    std::fs::write(config.path().join("config.json"), chosen.to_string())?;
    let mut command = multihost(cluster.folder())?;
    command.args(["exec", "node2", "docker", "info", "--format", "{{.Name}}"]);
    let name = multihost::space::run(command.env("DOCKER_CONFIG", config.path())).await?;
    ensure!(name == "node2", "it is the engine of {name}");
    Ok(())
}

/// Returns what `status` says of a node's engine.
async fn engine(cluster: &Cluster, node: &str) -> anyhow::Result<String> {
    let table = run(cluster, &["status"]).await?;
    let line = table.lines().find(|line| line.starts_with(node)).context("no such line")?;
    Ok(line.split_whitespace().nth(2).unwrap_or_default().to_owned())
}

pub(crate) async fn called(cluster: &Cluster) -> anyhow::Result<String> {
    let table = run(cluster, &["status"]).await?;
    for part in ["node5", "the leader", "sees 5 nodes", "redis", "hashes/s"] {
        ensure!(table.contains(part), "no {part} in: {table}");
    }
    let name = run(cluster, &["exec", "node2", "hostname"]).await?;
    ensure!(name.trim() == "node2", "it ran on {name}");
    own_engine(cluster).await?;
    let code = output(cluster, &["exec", "node2", "sh", "-c", "exit 7"]).await?.status.code();
    ensure!(code == Some(7), "the command's exit status became {code:?}");
    for (args, why) in [
        (&["exec", "node9", "true"][..], "no node node9"),
        (&["remove", "node1"], "runs a Consul server"),
        (&["down", "node1"], "unexpected argument"),
        (&["up"], "the project's files are not here"),
    ] {
        refused(cluster, args, why).await?;
    }
    run(cluster, &["crash", "--engine", "node4"]).await?;
    ensure!(engine(cluster, "node4").await? == "away", "status does not say that it is away");
    run(cluster, &["restart", "--engine", "node4"]).await?;
    run(cluster, &["crash", "node5"]).await?;
    ensure!(engine(cluster, "node5").await? == "off", "status does not say that it is off");
    refused(cluster, &["heal", "node5"], "node5 is off: boot it by").await?;
    run(cluster, &["restart", "node5"]).await?;
    settled(cluster).await?;
    Ok("status, exec, crash, restart, and five refusals".to_owned())
}

/// Kills `up` half-way, and has `down` clean up behind it.
pub(crate) async fn killed_half_way(folder: &Path) -> anyhow::Result<String> {
    let mut up = multihost(folder)?;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    up.args(["up", "--nodes=2", "--servers=1", "--network=10.95.0.0"]).current_dir(repository);
    let mut up = up.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(up.stdout.take().context("piped above")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains("nodes with a Docker Engine each ... done") {
            break;
        }
    }
    up.kill().await?;
    let before = multihost::leftovers(folder).len();
    ensure!(before > 10, "there was nothing to kill yet: {before}");
    let status = multihost(folder)?.arg("down").stdout(Stdio::null()).status().await?;
    ensure!(status.success(), "down fails");
    let nothing = || async { multihost::leftovers(folder).is_empty().then_some(()) };
    eventually("nothing is left", Duration::from_secs(5), nothing).await?;
    Ok(format!("0 left over of {before} processes, control groups, interfaces and files"))
}
