//! DockerCoins' throughput by the number of workers and rng instances, against the workshop's arithmetic.

use anyhow::Result;
use tests::{coins, settle};

/// Prints hashes per second, and what `min(N/0.3, 10·R)` predicts for N workers and R rng.
pub(crate) async fn table() -> Result<()> {
    println!(
        "\n## DockerCoins\n\n| workers | rng | hashes/s | predicted | worker errors |\n|---|---|---|---|---|"
    );
    for (workers, rng) in [(1, 1), (10, 1), (10, 3), (10, 10)] {
        settle(workers, rng).await?;
        let since = coins::now();
        let rate = coins::rate().await?;
        let predicted = (f64::from(workers) / 0.3).min(10.0 * f64::from(rng));
        let errors = coins::worker_errors(&since).await?.len();
        println!("| {workers} | {rng} | {rate:.1} | {predicted:.1} | {errors} |");
    }
    Ok(())
}
