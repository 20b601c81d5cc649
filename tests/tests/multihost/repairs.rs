//! What comes back is right again within five seconds: a client, a backend, a node's registrator.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use multihost::node::Node;
use multihost::{Cluster, coins, settled, status};
use tests::eventually;

use crate::common::{failures, none, seconds};

/// How soon everything is exact after a part came back. Five seconds are promised to hosts of their own; here five
/// share one machine with everything else that is tested meanwhile.
pub(crate) const EXACT: Duration = Duration::from_secs(10);

/// Returns the running containers of a service of DockerCoins on a node, the oldest last.
pub(crate) async fn containers(node: &Node, service: &str) -> anyhow::Result<Vec<String>> {
    let filter = format!("label=com.docker.compose.service={service}");
    let ids = node.docker_run(&["ps", "--quiet", "--no-trunc", "--filter", &filter]).await?;
    Ok(ids.lines().map(str::to_owned).collect())
}

/// Returns how long it takes from now until everything is exact; an error if that is too long.
pub(crate) async fn exact(cluster: &Cluster, what: &str) -> anyhow::Result<Duration> {
    let started = Instant::now();
    settled(cluster).await?;
    let took = started.elapsed();
    ensure!(took < EXACT, "{what}: exact only after {}", seconds(took));
    Ok(took)
}

/// Waits until a container's own network reaches a service at this address.
pub(crate) async fn reaches(node: &Node, client: &str, url: &str) -> anyhow::Result<Duration> {
    let script = "nsenter --target $(docker inspect --format {{.State.Pid}} $0) --net \
                  curl --noproxy '*' --silent --fail --max-time 1 --output /dev/null $1";
    let asked = || async {
        let mut command = node.inside("bash").ok()?;
        let output = command.args(["-c", script, client, url]).output().await.ok()?;
        output.status.success().then_some(())
    };
    Ok(eventually("the client reaches the service", EXACT, asked).await?.1)
}

/// A backend comes back with another port, and a client in another network of its own.
pub(crate) async fn restarted(cluster: &Cluster) -> anyhow::Result<String> {
    let node = cluster.node("3")?;
    let fault = async {
        let before = status::running(&node).await?;
        let backend = containers(&node, "rng").await?.pop().context("no rng")?;
        node.docker_run(&["restart", &backend]).await?;
        let backend = exact(cluster, "a backend was restarted").await?;
        ensure!(status::running(&node).await? != before, "the backend has its old port");
        let client = containers(&node, "worker").await?.pop().context("no worker")?;
        node.docker_run(&["restart", &client]).await?;
        let since = coins::now();
        let works = || async {
            let logs = node.docker(&["logs", "--since", &since, &client]).output().await.ok()?;
            let text = String::from_utf8_lossy(&logs.stdout).into_owned();
            text.contains("units of work done").then_some(())
        };
        let ((), client) = eventually("the client works", EXACT, works).await?;
        Ok((backend, client))
    };
    let ((backend, client), errors) = failures(cluster, &[], fault).await?;
    none(&errors)?;
    Ok(format!(
        "0 requests failed, exact {} after the backend was back, the client said that it works {} after it was back",
        seconds(backend),
        seconds(client)
    ))
}

/// A node's registrator is away while three instances start there and two are killed.
pub(crate) async fn registrator_away(cluster: &Cluster) -> anyhow::Result<String> {
    let (node, registrator) = (cluster.node("4")?, "ambassador-registrator-1");
    let fault = async {
        node.docker_run(&["kill", registrator]).await?;
        let old = containers(&node, "rng").await?;
        coins::scale_node(&node, 4, 4).await?;
        let all = containers(&node, "rng").await?;
        let new = all.iter().find(|id| !old.contains(id)).context("nothing was started")?;
        node.docker_run(&["kill", &old[0], new]).await?;
        // The engine lists what was killed for a moment longer.
        let two = || async { (containers(&node, "rng").await.ok()?.len() == 2).then_some(()) };
        eventually("two of four are left", EXACT, two).await?;
        node.docker_run(&["start", registrator]).await?;
        exact(cluster, "a registrator was away").await
    };
    let result = failures(cluster, &[], fault).await;
    // Whatever happened, the next scenario finds it running.
    node.docker_run(&["start", registrator]).await?;
    coins::scale_node(&node, 4, 1).await?;
    let (took, errors) = result?;
    none(&errors)?;
    Ok(format!("0 requests failed, exact {} after it was back", seconds(took)))
}
