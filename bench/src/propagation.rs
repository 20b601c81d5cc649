//! How long the ambassador takes to follow Docker: from the engine's own time stamp of a start to traffic being sent there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tests::haproxy::Ambassador;
use tests::{coins, compose, settle};
use tokio::task::JoinHandle;

/// Single starts that are measured: enough for a 90th percentile.
const STARTS: usize = 30;

/// Instances that a burst starts.
const BURST: u32 = 50;

/// When each address was first seen serving.
type Seen = BTreeMap<String, SystemTime>;

/// Watches the ambassador every millisecond, for as long as it runs, until `count` addresses of rng are served.
fn watch(ambassador: Ambassador, count: usize, limit: Duration) -> JoinHandle<Result<Seen>> {
    tokio::spawn(async move {
        let (mut seen, started) = (Seen::new(), Instant::now());
        loop {
            let serving = ambassador.serving("rng").await?;
            let now = SystemTime::now();
            for address in &serving {
                seen.entry(address.clone()).or_insert(now);
            }
            if serving.len() >= count {
                return Ok(seen);
            }
            anyhow::ensure!(started.elapsed() < limit, "only {} of {count} served", serving.len());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

/// Returns the value below which `percent` of the sorted `samples` lie.
fn percentile(samples: &[Duration], percent: usize) -> Duration {
    let last = samples.len() - 1;
    samples[(samples.len() * percent / 100).min(last)]
}

fn row(name: &str, mut samples: Vec<Duration>, reloads: u64) {
    samples.sort();
    let ms = |duration: Duration| format!("{:.1}", duration.as_secs_f64() * 1000.0);
    let (p50, p90) = (ms(percentile(&samples, 50)), ms(percentile(&samples, 90)));
    let worst = ms(samples[samples.len() - 1]);
    println!("| {name} | {} | {p50} | {p90} | {worst} | {reloads} |", samples.len());
}

/// Prints how long thirty single starts took to be served.
pub(crate) async fn single_starts() -> Result<()> {
    println!(
        "\n## From Docker's start event to serving\n\n| | starts | p50 ms | p90 ms | worst ms | reloads |\n|---|---|---|---|---|---|"
    );
    let (ambassador, _) = settle(1, 2).await?;
    let reloads = ambassador.reloads().await?;
    let subject = compose::containers("rng").await?.into_iter().next().context("no rng runs")?;
    let mut samples = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        compose::docker(&["stop", "--time", "1", &subject.id]).await?;
        let before = ambassador.serving("rng").await?;
        let (since, watcher) =
            (coins::now(), watch(ambassador.clone(), before.len() + 1, Duration::from_secs(20)));
        compose::docker(&["start", &subject.id]).await?;
        let started = compose::starts(&since).await?;
        let started = started.get(&subject.id).context("no start event")?;
        let seen = watcher.await??;
        let served =
            seen.iter().find(|(address, _)| !before.contains(address)).context("not served")?;
        samples.push(served.1.duration_since(*started).unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    row("single starts", samples, ambassador.reloads().await? - reloads);
    Ok(())
}

/// Prints how long each of fifty starts at once took to be served.
pub(crate) async fn burst() -> Result<()> {
    let (ambassador, _) = settle(1, 1).await?;
    let reloads = ambassador.reloads().await?;
    let before = ambassador.serving("rng").await?;
    let since = coins::now();
    let watcher = watch(ambassador.clone(), 1 + BURST as usize, Duration::from_mins(2));
    compose::scale(&[("worker", 1), ("rng", 1 + BURST)]).await?;
    let (seen, started) = (watcher.await??, compose::starts(&since).await?);
    let mut samples = Vec::new();
    for container in compose::containers("rng").await? {
        let address = format!("{}:80", container.address);
        if before.contains(&address) {
            continue;
        }
        let started = started.get(&container.id).context("no start event")?;
        let served = seen.get(&address).context("never served")?;
        samples.push(served.duration_since(*started).unwrap_or_default());
    }
    row("a burst of fifty", samples, ambassador.reloads().await? - reloads);
    settle(1, 1).await.map(drop)
}

/// Prints what a reload costs here: the way of every tool that has no other.
pub(crate) async fn reloads() -> Result<()> {
    let ambassador = Ambassador::of_the_stack().await?;
    let mut samples = Vec::new();
    for _ in 0..10 {
        let started = Instant::now();
        let answer = ambassador.reload().await?;
        samples.push(started.elapsed());
        anyhow::ensure!(answer.contains("Success=1"), "the reload failed: {answer}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    row("for comparison: one reload alone", samples, 10);
    Ok(())
}
