//! The end-to-end suite's view of the system: the Compose stack, its load balancer and its application, on an engine of the suite's own.
//!
//! `tests/run` prepares that engine and starts the suites; nothing here works outside of it.

pub mod coins;
pub mod compose;
pub mod haproxy;
pub mod http;
pub mod steady;
pub mod unregistered;

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks `probe` every 20 ms until it answers `Some`, and returns that with the time it took.
///
/// # Errors
/// Names `what` when `limit` has passed without an answer.
pub async fn eventually<T, F>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> anyhow::Result<(T, Duration)>
where
    F: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Ok((value, started.elapsed()));
        }
        anyhow::ensure!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How often what depends on time is measured before it counts as wrong: a machine that is busy with something else
/// for a moment says nothing about the system.
const ATTEMPTS: u32 = 3;

/// Measures until everything is as expected.
///
/// # Panics
/// When it was not, three times.
pub async fn measured(mut measure: impl AsyncFnMut() -> Result<(), String>) {
    for attempt in 1.. {
        match measure().await {
            Ok(()) => return,
            Err(why) if attempt < ATTEMPTS => println!("{why}; measured again"),
            Err(why) => panic!("{why}, {ATTEMPTS} times"),
        }
    }
}

/// Prints a measured value.
///
/// # Errors
/// Says so when it is not between `low` and `high`.
pub fn within(value: f64, low: f64, high: f64, what: &str) -> Result<(), String> {
    println!("{what}: {value:.2} (expected {low:.2} to {high:.2})");
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("{what} is {value:.2}, not in {low:.2} to {high:.2}"))
}

/// Returns the median of `samples`.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn median(samples: &[Duration]) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

/// Brings the stack to `workers` and `rng`, and waits until the ambassador serves exactly those instances.
///
/// Returns the ambassador and how long it took after Compose was done.
pub async fn settle(workers: u32, rng: u32) -> anyhow::Result<(haproxy::Ambassador, Duration)> {
    compose::scale(&[("worker", workers), ("rng", rng)]).await?;
    let ambassador = haproxy::Ambassador::of_the_stack().await?;
    let what = format!("the ambassador serves {rng} rng, one hasher and redis");
    let ((), took) = eventually(&what, Duration::from_mins(1), || async {
        let expected = rng_addresses().await.ok()?;
        (expected.len() == rng as usize
            && ambassador.serving("rng").await.ok()? == expected
            && ambassador.serving("hasher").await.ok()?.len() == 1
            && ambassador.serving("redis").await.ok()?.len() == 1)
            .then_some(())
    })
    .await?;
    Ok((ambassador, took))
}

/// Returns where the running rng containers listen (`ip:port`, sorted), as Docker knows it.
pub async fn rng_addresses() -> anyhow::Result<Vec<String>> {
    let mut addresses: Vec<String> =
        compose::containers("rng").await?.iter().map(|c| format!("{}:80", c.address)).collect();
    addresses.sort();
    Ok(addresses)
}
