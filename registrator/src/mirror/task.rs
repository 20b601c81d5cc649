//! The task that makes the keys what they must be, and says that we live. The catalog waits for none of this.

use std::sync::Arc;
use std::time::Duration;

use daemon::backoff::Delays;
use daemon::error::chain;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::wanted::{Progress, Wanted};
use super::{Doubt, Mirror};
use crate::metrics::Metrics;
use crate::neighbour;

/// Keeps the keys as they are wanted until `stop` is cancelled, and returns what holds them.
pub(crate) async fn keep(
    mirror: Mirror,
    wanted: Arc<Wanted>,
    renewal: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) -> Mirror {
    let (delays, failing_since) = (daemon::backoff::delays(), None);
    let mut keeper = Keeper { mirror, wanted, renewal, metrics, delays, failing_since };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keeper.work() => {}
    }
    keeper.mirror
}

struct Keeper {
    mirror: Mirror,
    wanted: Arc<Wanted>,
    renewal: Duration,
    metrics: Metrics,
    delays: Delays,
    failing_since: Option<Instant>,
}

impl Keeper {
    async fn work(&mut self) {
        let mut renew_at = Instant::now() + self.renewal;
        let mut retry_at: Option<Instant> = None;
        loop {
            let wanted = self.wanted.clone();
            let retry = tokio::time::sleep_until(retry_at.unwrap_or(renew_at));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(renew_at) => {
                    let (pause, lost) = self.renew().await;
                    renew_at = Instant::now() + pause;
                    if lost {
                        retry_at = Some(Instant::now());
                    }
                }
                () = retry, if retry_at.is_some() => retry_at = self.write().await,
                () = wanted.changed(), if retry_at.is_none() => retry_at = self.write().await,
            }
        }
    }

    /// Keeps the session alive; returns how long until it must be again, and whether it ended all the same.
    async fn renew(&mut self) -> (Duration, bool) {
        match self.mirror.renew().await {
            Ok(true) => (self.renewal, false),
            Ok(false) => {
                tracing::warn!("the session of the keys ended, they are written again");
                self.metrics.sessions_lost.inc();
                (self.renewal, true)
            }
            Err(error) => {
                let error = chain(&error);
                tracing::debug!(error, "the session of the keys is not renewed, will retry");
                (self.renewal.min(neighbour::PAUSE), false)
            }
        }
    }

    /// Writes what is wanted; returns when to try again, if that is needed.
    async fn write(&mut self) -> Option<Instant> {
        let order = self.wanted.take(self.mirror.doubted());
        self.mirror.doubt(order.doubt);
        match self.mirror.bring_about(&order).await {
            Ok(0) => {}
            Ok(keys) => {
                tracing::warn!(keys, "another node holds keys of the same IDs, they stay its");
            }
            Err(error) => {
                self.mirror.doubt(Doubt::All);
                if self.failing_since.is_none() {
                    let error = chain(&error);
                    tracing::warn!(error, "the keys are not written, the catalog is; will retry");
                }
                return Some(
                    Instant::now() + neighbour::pause(&mut self.delays, &mut self.failing_since),
                );
            }
        }
        // The session ended under us.
        if self.mirror.doubted() != Doubt::No {
            return Some(Instant::now());
        }
        if self.failing_since.take().is_some() {
            tracing::info!("the keys are written again");
        }
        self.delays.reset();
        self.wanted.reached(Progress { done: order.round, held: self.mirror.held() });
        None
    }
}
