//! What the scenarios share: requests that fail, waiting for what ambassadors serve, a steady client.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use multihost::node::Node;
use multihost::{Cluster, coins, settled, status};
use tests::eventually;
use tokio::process::{Child, Command};

/// The container with a node's Consul agent.
pub(crate) const CONSUL: &str = "ambassador-consul-1";

/// Waits until everything is served everywhere, then counts what fails at the workers of these nodes while `fault` is played.
pub(crate) async fn failures<T>(
    cluster: &Cluster,
    of: &[&str],
    fault: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Vec<String>)> {
    settled(cluster).await.context("before the fault")?;
    let since = coins::now();
    let result = fault.await?;
    let mut errors = coins::errors(cluster, &since).await?;
    errors.retain(|line| {
        of.is_empty() || of.iter().any(|node| line.starts_with(&format!("{node}:")))
    });
    Ok((result, errors))
}

pub(crate) fn none(errors: &[String]) -> anyhow::Result<()> {
    ensure!(errors.is_empty(), "{} requests failed: {}", errors.len(), errors.join("; "));
    Ok(())
}

/// Measures until it is right, three times at most: a machine that is busy with something else for a moment says nothing.
pub(crate) async fn thrice<T>(measure: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 0..2 {
        match measure().await {
            Err(error) => println!("  measured again: {error:#}"),
            right => return right,
        }
    }
    measure().await
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Waits until these nodes' ambassadors have, or have not, instances on the node with this address.
pub(crate) async fn served(
    nodes: &[Node],
    address: &str,
    wanted: bool,
    limit: Duration,
) -> anyhow::Result<Duration> {
    let what = format!(
        "ambassadors {} instances on {address}",
        if wanted { "serve" } else { "do not serve" }
    );
    let all = || async {
        for node in nodes {
            let served = status::served(node).await.ok()?;
            if served.keys().any(|instance| instance.contains(&format!(" {address}:"))) != wanted {
                return None;
            }
        }
        Some(())
    };
    Ok(eventually(&what, limit, all).await?.1)
}

/// Runs curl with these arguments again and again, one after the other, and no more than ten times a second.
const AGAIN: &str = "while :; do sleep 0.1 & curl \"$@\"; wait; done";

/// A client that asks a node's ambassador for the same ten times a second, whatever the answers.
pub(crate) struct Steady {
    child: Child,
}

impl Steady {
    /// Starts asking for `/` of a service, over a new connection each time.
    pub(crate) async fn start(node: &Node, service: &str) -> anyhow::Result<Self> {
        let format = "{{(index .NetworkSettings.Networks \"clients\").IPAddress}}";
        let ambassador =
            node.docker_run(&["inspect", "--format", format, "ambassador-ambassador-1"]).await?;
        let space = node.space().context("the node is down")?;
        let mut command = Command::new("nsenter");
        command.args(["--target", &space.pid.to_string(), "--net", "--", "bash", "-c", AGAIN]);
        command.args(["again", "--noproxy", "*", "--silent", "--max-time", "30"]);
        command.args(["--header", "Connection: close", "--header", &format!("Host: {service}")]);
        // Standard error, as it is written at once; the answers' text goes nowhere.
        command.args(["--write-out", "%{stderr}%{http_code} %{time_total}\n"]);
        let child = command
            .arg(format!("http://{ambassador}/"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }

    /// Ends it, and says how many requests it made and how long the longest took; an error if one failed.
    pub(crate) async fn end(mut self) -> anyhow::Result<String> {
        self.child.start_kill()?;
        let output = self.child.wait_with_output().await?;
        let text = String::from_utf8_lossy(&output.stderr);
        let failed: Vec<&str> = text.lines().filter(|line| !line.starts_with("200 ")).collect();
        ensure!(failed.is_empty(), "{} requests failed: {failed:?}", failed.len());
        let seconds = text.lines().filter_map(|line| line.split_once(' ')?.1.parse::<f64>().ok());
        let slowest = seconds.fold(0.0, f64::max);
        let made = text.lines().count();
        ensure!(made > 10, "only {made} requests were made");
        Ok(format!(
            "0 of {made} requests of a steady client failed, the slowest took {slowest:.2} s"
        ))
    }
}
