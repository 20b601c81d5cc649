//! The miner: random bytes from rng, their digest from hasher, counts and coins to redis.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::{http, shutdown};

/// The worker's own part of a unit of work.
const DELAY: Duration = Duration::from_millis(100);
/// The count is written when this has passed since it was written last.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest pause after an error: how late a worker may find out that an outage is over.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long redis may take. A command that was given up may have been carried out all the same, and
/// its hashes would then be counted twice: better to wait out a short hang.
const STORE_LIMIT: Duration = Duration::from_secs(10);
/// How many random bytes are hashed at a time.
const SIZE: usize = 32;

/// Where the worker finds the others.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where random bytes come from
    #[arg(long, value_name = "HOST:PORT", env = "RNG", default_value = "rng:80", value_parser = crate::address)]
    pub rng: String,
    /// Where digests come from
    #[arg(long, value_name = "HOST:PORT", env = "HASHER", default_value = "hasher:80", value_parser = crate::address)]
    pub hasher: String,
    /// Where counts and coins go
    #[arg(long, value_name = "HOST:PORT", env = "REDIS", default_value = "redis:6379", value_parser = crate::address)]
    pub redis: String,
    /// Ignore SIGTERM, as the workshop's worker does: `docker stop` then takes its ten seconds
    #[arg(long)]
    pub stubborn: bool,
}

/// Mines until `token` is cancelled, then writes what is not written yet.
///
/// # Errors
/// Only if the address of redis is none; whatever fails later is logged and tried again.
pub async fn run(args: &Args, token: CancellationToken) -> anyhow::Result<()> {
    let store = Store::new(&args.redis, STORE_LIMIT)?;
    let mut worker = Worker { args, store, hashes: 0, coin: None };
    if shutdown::within_grace(&token, worker.work(&token)).await.is_none() {
        tracing::warn!("redis is away, {} units of work are lost", worker.hashes);
    }
    Ok(())
}

/// What was hashed, and its digest.
struct Unit {
    bytes: Vec<u8>,
    digest: String,
}

struct Worker<'a> {
    args: &'a Args,
    store: Store,
    /// Units done that redis does not know of yet.
    hashes: u64,
    /// A coin that redis does not know of yet.
    coin: Option<Unit>,
}

impl Worker<'_> {
    async fn work(&mut self, token: &CancellationToken) {
        let mut pauses = daemon::backoff::delays();
        while !token.is_cancelled() {
            let Err(error) = self.mine(token, &mut pauses).await else { continue };
            let pause = pauses.next_delay().min(LONGEST_PAUSE);
            tracing::error!("{error:#}; trying again in {} ms", pause.as_millis());
            token.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        if (self.hashes > 0 || self.coin.is_some())
            && let Err(error) = self.finish().await
        {
            tracing::error!("{error:#}; {} units of work are lost", self.hashes);
        }
    }

    /// Mines until something fails or `token` is cancelled.
    ///
    /// A unit is given up for the signal at any point, a command to redis is not: nobody would
    /// know whether it was carried out.
    async fn mine(
        &mut self,
        token: &CancellationToken,
        pauses: &mut daemon::backoff::Delays,
    ) -> anyhow::Result<()> {
        loop {
            self.finish().await?;
            let due = Instant::now() + INTERVAL;
            while Instant::now() <= due {
                let Some(unit) = token.run_until_cancelled(self.unit()).await else {
                    return Ok(());
                };
                let unit = unit?;
                pauses.reset();
                self.hashes += 1;
                if unit.digest.starts_with('0') {
                    tracing::info!("Coin found: {}...", &unit.digest[..8]);
                    self.coin = Some(unit);
                    self.write_coin().await?;
                }
            }
        }
    }

    async fn unit(&self) -> anyhow::Result<Unit> {
        tokio::time::sleep(DELAY).await;
        let bytes = http::get(&self.args.rng, &format!("/{SIZE}")).await?;
        anyhow::ensure!(bytes.len() == SIZE, "rng sent {} bytes, not {SIZE}", bytes.len());
        let digest = http::post(&self.args.hasher, &bytes).await?;
        let digest = std::str::from_utf8(&digest).ok().filter(|digest| is_digest(digest));
        let digest = digest.context("hasher sent something that is no digest")?.to_owned();
        tracing::debug!("{digest}");
        Ok(Unit { bytes: bytes.into(), digest })
    }

    /// Writes what redis does not know of yet.
    async fn finish(&mut self) -> anyhow::Result<()> {
        self.write_coin().await?;
        tracing::info!("{} units of work done, updating hash counter", self.hashes);
        let (_,): (i64,) = self.store.run(redis::pipe().incr("hashes", self.hashes)).await?;
        self.hashes = 0;
        Ok(())
    }

    async fn write_coin(&mut self) -> anyhow::Result<()> {
        if let Some(Unit { bytes, digest }) = &self.coin {
            let (new,): (bool,) =
                self.store.run(redis::pipe().hset("wallet", digest, bytes)).await?;
            if !new {
                tracing::info!("We already had that coin");
            }
            self.coin = None;
        }
        Ok(())
    }
}

/// Tells whether `text` is a SHA-256 in lower-case hex.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sixty_four_lower_case_hex_digits() {
        assert!(is_digest(&"0123456789abcdef".repeat(4)));
        for bad in [String::new(), "0".repeat(63), "0".repeat(65), "A".repeat(64), "g".repeat(64)] {
            assert!(!is_digest(&bad), "{bad}");
        }
    }
}
