//! Ambassadors that confd configures from this node's Docker Engine, beside those that Consul leads to.

use std::env;
use std::time::Duration;

use anyhow::Result;

use crate::haproxy::Ambassador;
use crate::{compose, eventually};

/// The network of the services and of those who reach them.
pub const NETWORK: &str = "dockercoins_backends";
/// How long an HAProxy may take to come up.
const SOON: Duration = Duration::from_secs(20);

/// Runs a container that nobody registers and that finds the engine: `words` of `docker run`, then the `rest`.
pub async fn run(words: &[&str], rest: &[&str]) -> Result<String> {
    let (socket, mount) = (env::var("DOCKER_SOCKET")?, env::var("DOCKER_SOCKET_MOUNT")?);
    let (volume, host) = (format!("{mount}:{mount}"), format!("DOCKER_HOST=unix://{socket}"));
    let ours = ["--user", "0", "--label", "SERVICE_IGNORE=true", "--network", NETWORK];
    let engine = ["--volume", &volume, "--env", &host];
    compose::docker(&[&["run"], words, &ours, &engine, rest].concat()).await
}

/// Runs confd over the stock templates for the ambassador in the volume `name`: `words` of `docker run`, `flags` of confd.
pub async fn confd(name: &str, words: &[&str], flags: &[&str]) -> Result<()> {
    let templates = format!("{}:/etc/confd:ro", env::var("TEMPLATES")?);
    let volume = format!("{name}:/run/ambassador");
    let of_confd = ["--volume", &volume, "--volume", &templates, "--env", "STATS_BIND=:8404"];
    let image = ["ambassador/confd", "--source", "docker", "--hostname", "node1", "--internal"];
    let names = ["--network", NETWORK, "--compose-names"];
    run(words, &[&of_confd[..], &image, &names, flags].concat()).await.map(drop)
}

/// Starts an ambassador of that name, with its sockets in a volume of that name, and waits for its HAProxy.
pub async fn ambassador(name: &str) -> Result<Ambassador> {
    let volume = format!("{name}:/run/ambassador");
    let words = ["--detach", "--name", name, "--network", NETWORK, "--volume", &volume];
    let image = ["--label", "SERVICE_IGNORE=true", "ambassador/ambassador"];
    compose::docker(&[&["run"], &words[..], &image].concat()).await?;
    let ambassador = Ambassador::of_volume(name, "").await?;
    eventually("HAProxy runs", SOON, || async { ambassador.reloads().await.ok() }).await?;
    Ok(ambassador)
}
