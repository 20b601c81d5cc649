//! Two queries that stand for many: they tell when anything at all has changed.

use std::sync::Arc;

use consul::{Consistency, Query};
use tokio::sync::watch;

use super::{PAUSE, Watches};
use crate::source;

impl Watches {
    /// While some questions are parked, tells them when anything at all has changed.
    pub(super) async fn stand_sentinel(self: Arc<Self>, sentinel: Sentinel) {
        let mut parked = self.parked.subscribe();
        let mut delays = daemon::backoff::delays();
        let mut index = None;
        loop {
            // The sender is part of `self`.
            drop(parked.wait_for(|parked| *parked > 0).await);
            let query = Query {
                index,
                wait: source::WAIT,
                consistency: Consistency::Stale,
                ..Query::default()
            };
            let answered = match sentinel {
                Sentinel::Catalog => self.client.catalog_services(&query).await.map(|a| a.index),
                // Its index moves with every check; the failing ones are the fewest.
                Sentinel::Checks => {
                    self.client.health_state("critical", &query).await.map(|a| a.index)
                }
            };
            if let Ok(answered) = answered {
                delays.reset();
                if answered != index || answered.is_none() {
                    self.news.send_modify(|count| *count += 1);
                }
                index = consul::index::next(index, answered);
                if index.is_none() {
                    tokio::time::sleep(PAUSE).await;
                }
            } else {
                // The watches themselves say what is wrong.
                index = None;
                tokio::time::sleep(delays.next_delay()).await;
            }
        }
    }
}

/// What tells of changes to anything.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sentinel {
    Catalog,
    Checks,
}

/// Counts a parked question as long as it lives.
pub(super) struct Parked<'a>(&'a watch::Sender<usize>);

impl<'a> Parked<'a> {
    pub(super) fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
