//! The Compose stack: bring it up, scale it, look into its containers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::Value;
use tokio::process::Command;

/// How long a command may take; the longest, a push, takes less than a minute.
const PATIENCE: Duration = Duration::from_mins(5);

/// The repository: Compose's project folder.
fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs `program` with `args` in the repository and returns its standard output.
///
/// # Errors
/// With what it wrote to standard error, when it fails; and when it does not end.
pub async fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(repository())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .with_context(|| format!("{program} {} did not end within {PATIENCE:?}", args.join(" ")))?
        .with_context(|| format!("cannot run {program}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{program} {} failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `docker` with `args`.
pub async fn docker(args: &[&str]) -> anyhow::Result<String> {
    run("docker", args).await
}

/// Runs `docker compose` with `args` on the stack.
pub async fn compose(args: &[&str]) -> anyhow::Result<String> {
    let args: Vec<&str> = ["compose", "--file", "docker-compose.yml"]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    run("docker", &args).await
}

/// Runs a command of an operator, `ambassador ARGS…`, in a container on `network`, and returns what it says.
///
/// # Errors
/// With what it wrote to standard error, when it fails.
///
/// # Panics
/// Outside of a suite, which names the engine's socket.
pub async fn operate(network: &str, args: &[&str]) -> anyhow::Result<String> {
    let variable = |name| std::env::var(name).expect("tests/run names the engine's socket");
    let (socket, folder) = (variable("DOCKER_SOCKET"), variable("DOCKER_SOCKET_MOUNT"));
    let (mount, host) = (format!("{folder}:{folder}"), format!("DOCKER_HOST=unix://{socket}"));
    let words = ["run", "--rm", "--user", "0:0", "--network", network];
    let more = ["--label", "SERVICE_IGNORE=true", "--volume", &mount, "--env", &host];
    let image = ["--env", "CONSUL_HTTP_ADDR=http://consul:8500", "ambassador/ambassador"];
    docker(&[&words[..], &more[..], &image[..], args].concat()).await
}

/// Brings the stack to exactly these numbers of containers, and waits for Compose to say so.
pub async fn scale(services: &[(&str, u32)]) -> anyhow::Result<()> {
    let scales: Vec<String> = services.iter().map(|(name, n)| format!("{name}={n}")).collect();
    let mut args = vec!["up", "--detach", "--no-build", "--quiet-pull"];
    for scale in &scales {
        args.extend(["--scale", scale]);
    }
    compose(&args).await.map(drop)
}

/// A running container of the stack.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its full id.
    pub id: String,
    /// Its address on the network `backends`, or on its first network.
    pub address: String,
    /// Its main process.
    pub pid: u32,
    /// How often the engine restarted it.
    pub restarts: u64,
    /// When it was started last, as the engine writes it.
    pub started_at: String,
}

/// Returns the running containers of one Compose service.
pub async fn containers(service: &str) -> anyhow::Result<Vec<Container>> {
    let ids = compose(&["ps", "--quiet", "--status", "running", service]).await?;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let args: Vec<&str> = std::iter::once("inspect").chain(ids).collect();
    let documents: Vec<Value> = serde_json::from_str(&docker(&args).await?)?;
    documents.iter().map(container).collect()
}

fn container(document: &Value) -> anyhow::Result<Container> {
    let networks = document["NetworkSettings"]["Networks"].as_object().context("no networks")?;
    let network = networks
        .iter()
        .find(|(name, _)| name.ends_with("_backends"))
        .or_else(|| networks.iter().next())
        .context("no network")?
        .1;
    Ok(Container {
        id: text(&document["Id"]),
        address: text(&network["IPAddress"]),
        pid: u32::try_from(document["State"]["Pid"].as_u64().context("no pid")?)?,
        restarts: document["RestartCount"].as_u64().context("no restart count")?,
        started_at: text(&document["State"]["StartedAt"]),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns the addresses of the instances that Consul's agent lists as passing for `service`.
pub async fn registered(service: &str) -> anyhow::Result<Vec<String>> {
    let url = format!("http://127.0.0.1:8500/v1/health/service/{service}?passing");
    let entries = crate::http::json(&url).await?;
    let mut addresses: Vec<String> = entries
        .as_array()
        .context("no list")?
        .iter()
        .map(|entry| text(&entry["Service"]["Address"]))
        .collect();
    addresses.sort();
    Ok(addresses)
}

/// Returns when the engine last started each container, by id and its own clock, since `since`.
pub async fn starts(since: &str) -> anyhow::Result<BTreeMap<String, SystemTime>> {
    let (until, format) = (crate::coins::now(), "{{.Actor.ID}} {{.TimeNano}}");
    let window = ["events", "--since", since, "--until", &until];
    let what = ["--filter", "event=start", "--format", format];
    docker(&[&window[..], &what[..]].concat())
        .await?
        .lines()
        .map(|line| {
            let (id, nanos) = line.split_once(' ').context("no time in an event")?;
            Ok((id.to_owned(), UNIX_EPOCH + Duration::from_nanos(nanos.trim().parse()?)))
        })
        .collect()
}
