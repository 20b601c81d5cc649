//! Bringing everything up, step by step, with the time each took.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use crate::node::Node;
use crate::settings::{Cluster, Options, Variant};
use crate::{acl, coins, images, network, stack};

/// How long everything may take to be known everywhere, once it runs.
const LIMIT: Duration = Duration::from_secs(90);

/// Prints what is being done and, when it is done, how long that took.
pub(crate) async fn step<T>(
    text: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    print!("    {text} ...");
    std::io::stdout().flush()?;
    let result = work.await;
    println!(
        " {} in {:.1} s",
        if result.is_ok() { "done" } else { "failed" },
        started.elapsed().as_secs_f64()
    );
    result.with_context(|| text.to_owned())
}

/// Does the same on every node at once.
pub(crate) async fn on_each<F>(
    nodes: impl Iterator<Item = Node>,
    work: impl Fn(Node) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for node in nodes {
        tasks.spawn(work(node));
    }
    // All may finish: what is stopped half-way is harder to repair than what failed.
    let results = tasks.join_all().await;
    results.into_iter().collect()
}

/// Makes the nodes and everything on them, and waits until all of it works.
///
/// # Errors
/// Says which step failed. What was made by then stays, to be looked at, until `down`.
pub async fn up(folder: &Path, repository: &Path, options: Options) -> anyhow::Result<Cluster> {
    // Whoever has nodes already is told that, not that their network is in use.
    let cluster = Cluster::new(folder, repository, options)?;
    network::ensure_free(&cluster.options).await?;
    cluster.save()?;
    let all = || cluster.nodes();
    let (servers, clients): (Vec<_>, Vec<_>) = all().partition(Node::is_server);
    step("loading the images, once", images::load(&cluster)).await?;
    step("the network", network::make_hub(&cluster)).await?;
    step(&format!("{} nodes with a Docker Engine each", cluster.options.nodes), async {
        on_each(all(), |node| {
            let cluster = cluster.clone();
            async move {
                images::share(&cluster, &node).await?;
                node.boot(&cluster).await
            }
        })
        .await
    })
    .await?;
    let bundle = stack::bundle(&cluster);
    step("secrets and configuration", bundle.write()).await?;
    let server = format!("http://{}:8500", servers[0].address());
    step("Consul: servers, a leader, policies and tokens", async {
        on_each(servers.into_iter(), |node| async move { stack::start_consul(&node).await })
            .await?;
        acl::bootstrap(&bundle, &server).await
    })
    .await?;
    step(
        "Consul's agents on the other nodes",
        on_each(clients.into_iter(), |node| async move { stack::start_consul(&node).await }),
    )
    .await?;
    step(
        "registrator, confd, the ambassadors",
        on_each(all(), |node| async move { stack::start_tiers(&node).await }),
    )
    .await?;
    step("DockerCoins", coins::scale(&cluster, cluster.options.workers, cluster.options.rng))
        .await?;
    step("every ambassador serves every instance", settled(&cluster)).await?;
    step("DockerCoins mines", mining(&cluster)).await?;
    Ok(cluster)
}

/// Adds one node to those that run; it takes part as the others do.
///
/// # Errors
/// Says which step failed.
pub async fn add(cluster: &mut Cluster) -> anyhow::Result<Node> {
    ensure!(cluster.options.nodes < 50, "50 nodes are enough");
    cluster.options.nodes += 1;
    cluster.save()?;
    let node = cluster.nodes().last().context("there is at least one")?;
    for other in cluster.nodes() {
        other.write_files(cluster)?;
    }
    let bundle = stack::bundle(cluster);
    let server = cluster
        .nodes()
        .find(|node| node.is_server() && node.space().is_some())
        .context("no Consul server is up")?;
    step(&format!("booting {}", node.name()), async {
        images::share(cluster, &node).await?;
        node.boot(cluster).await
    })
    .await?;
    step("secrets and configuration", bundle.write()).await?;
    step("tokens", acl::bootstrap(&bundle, &format!("http://{}:8500", server.address()))).await?;
    step("Consul, registrator, confd, the ambassador", async {
        stack::start_consul(&node).await?;
        stack::start_tiers(&node).await
    })
    .await?;
    step("DockerCoins", coins::scale_node(&node, cluster.options.workers, cluster.options.rng))
        .await?;
    Ok(node)
}

/// Has backends reached at ports of their hosts, or at their own addresses on an overlay network.
///
/// Mining goes on after a pause: instances, registrators and ambassadors are made anew.
///
/// # Errors
/// Says which step failed.
pub async fn reach(cluster: &mut Cluster, overlay: bool) -> anyhow::Result<()> {
    if overlay {
        step("one swarm of all nodes", crate::overlay::swarm(cluster)).await?;
        let first = cluster.node("1")?;
        step("the network backends", crate::overlay::network(&first, stack::BACKENDS)).await?;
    }
    cluster.options.set(Variant::Overlay, overlay);
    cluster.save()?;
    step("secrets and configuration", stack::bundle(cluster).write()).await?;
    let all = || cluster.nodes().filter(|node| node.space().is_some());
    let tiers = on_each(all(), |node| async move {
        // A worker of the swarm does not know a network before something runs on it.
        let first = [
            "run",
            "--detach",
            "--rm",
            "--pull=never",
            "--name=first",
            "--label=SERVICE_IGNORE=true",
        ];
        let sleep =
            ["--network", stack::BACKENDS, "--entrypoint", "sleep", "ambassador/redis", "600"];
        if node.has(Variant::Overlay) {
            node.docker_run(&[&first[..], &sleep].concat()).await?;
        }
        let started = stack::start_tiers(&node).await;
        if node.has(Variant::Overlay) {
            node.docker_run(&["rm", "--force", "--volumes", "first"]).await?;
        }
        started
    });
    step("registrator, confd, the ambassadors", tiers).await?;
    step("DockerCoins", coins::scale(cluster, cluster.options.workers, cluster.options.rng))
        .await?;
    step("every ambassador serves every instance", settled(cluster)).await
}

/// Has each node's ambassador prefer the instances on its own node, or treat all alike.
///
/// # Errors
/// Says which step failed.
pub async fn near(cluster: &mut Cluster, on: bool) -> anyhow::Result<()> {
    cluster.options.set(Variant::Near, on);
    cluster.save()?;
    let all = cluster.nodes().filter(|node| node.space().is_some());
    step("confd", on_each(all, |node| async move { stack::start_tiers(&node).await })).await?;
    step("every ambassador serves every instance", settled(cluster)).await
}

/// Gives each worker and web interface an ambassador of its own. Mining goes on after a pause: they are made anew.
///
/// # Errors
/// Says which step failed.
pub async fn own_ambassadors(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.options.set(Variant::OwnAmbassadors, true);
    cluster.save()?;
    let all = || cluster.nodes().filter(|node| node.space().is_some());
    step("agents", on_each(all(), |node| async move { stack::start_tiers(&node).await })).await?;
    step("DockerCoins", coins::scale(cluster, cluster.options.workers, cluster.options.rng))
        .await?;
    step("every ambassador serves every instance", settled(cluster)).await
}

/// Removes a node for good: its power, its disk, its name in Consul, its tokens.
///
/// # Errors
/// If it is one of the servers, or something of it stays.
pub async fn remove(cluster: &mut Cluster, node: &Node) -> anyhow::Result<()> {
    ensure!(
        !node.is_server(),
        "{} runs a Consul server: replace it rather (docs/deploy.md)",
        node.name()
    );
    let server = cluster
        .nodes()
        .find(|node| node.is_server() && node.space().is_some())
        .context("no Consul server is up")?;
    node.crash().await?;
    let url = format!("http://{}:8500", server.address());
    noticed(&url, node).await?;
    acl::forget(&stack::bundle(cluster), node.name(), &url).await?;
    cluster.options.removed.insert(node.number());
    cluster.save()?;
    for folder in [node.files(), node.bundle()] {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Returns when Consul takes the node for dead.
async fn noticed(url: &str, node: &Node) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let checks = coins::get(&format!("{url}/v1/health/node/{}", node.name())).await?;
        let alive = |check: &serde_json::Value| {
            check["CheckID"] == "serfHealth" && check["Status"] == "passing"
        };
        if !checks.as_array().is_some_and(|checks| checks.iter().any(alive)) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "Consul takes {} for alive", node.name());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns when every ambassador serves every instance that Docker runs on the nodes that are up.
///
/// # Errors
/// With what is missing, when that takes too long.
pub async fn settled(cluster: &Cluster) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        match crate::status::wrong(cluster).await {
            Ok(wrong) if wrong.is_empty() => return Ok(()),
            Ok(wrong) => {
                ensure!(Instant::now() < end, "not within {LIMIT:?}: {}", wrong.join("; "));
            }
            Err(error) if Instant::now() < end => drop(error),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns when hashes are counted: workers that found nobody at first wait a while before they try again.
async fn mining(cluster: &Cluster) -> anyhow::Result<()> {
    let first = cluster.node("1")?;
    let end = Instant::now() + LIMIT;
    while cluster.options.workers > 0
        && !coins::hashes(&first).await.is_ok_and(|(hashes, _)| hashes > 0.0)
    {
        ensure!(Instant::now() < end, "nothing is mined within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Returns the project's folder: the current one, or one above it.
pub(crate) fn repository() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let found = here.ancestors().find(|folder| folder.join("deploy/compose.yml").exists());
    Ok(found.context("the project's files are not here: run this in its folder")?.to_owned())
}
