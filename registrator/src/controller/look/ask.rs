//! Asks the engine, beside the loop: lists and inspections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daemon::error::chain;
use serde_json::Value;
use services::Container;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{Busy, LIST};
use crate::args::Deregister;
use crate::controller::{Controller, Inspected, ListedAll};

/// How many are begun or wait for their turn by themselves, so that a pass under way holds none up.
const AHEAD: usize = 32;
/// How long until a failed list or inspection is tried again; Docker being away altogether is
/// noticed by whoever reads its events.
const PAUSE: Duration = Duration::from_secs(1);

impl Controller {
    /// Starts the lists and inspections that can be started now.
    pub(crate) fn start_looking(&mut self) {
        let Some(engine) = self.parts.engine.borrow().clone() else { return };
        if self.look.everywhere && self.look.listing.is_empty() {
            self.look.everywhere = false;
            self.look.newer.clear();
            let (engine, all) = (engine.clone(), self.parts.keep.deregister != Deregister::Always);
            self.look.listing.spawn(async move { engine.list(all).await });
        }
        let templates = self.tags.has_templates();
        let mut start = |id: String, turns: Option<Arc<Semaphore>>| {
            let engine = engine.clone();
            self.look.inspections.spawn(async move {
                let _turn = match &turns {
                    Some(turns) => turns.acquire().await.ok(),
                    None => None,
                };
                let inspected = engine.inspect(&id).await.map(|document| {
                    let document = document?;
                    let container = Container::from_inspect(&document);
                    // Large, and there may be many.
                    Some((container, if templates { document } else { Value::Null }))
                });
                (id, inspected)
            });
        };
        // These wait for starts, and must hold up nobody who waits for his turn.
        self.look.early.drain(..).for_each(|id| start(id, None));
        while self.look.busy.len() < AHEAD
            && let Some(id) = self.look.waiting.pop_front()
        {
            self.look.busy.insert(id.clone(), Busy::Asked);
            start(id, Some(self.look.turns.clone()));
        }
    }

    pub(crate) fn listed(&mut self, listed: Result<ListedAll, JoinError>) {
        let listed = match listed {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                let error = chain(&error);
                if self.look.fail(LIST) {
                    tracing::warn!(error, "the containers cannot be listed, will retry");
                } else {
                    tracing::debug!(error, "the containers cannot be listed, will retry");
                }
                self.look.retry = Some(Instant::now() + PAUSE);
                return;
            }
            Err(_) => return,
        };
        self.look.failures.retain(|id, _| listed.iter().any(|one| one.id == *id));
        let before = std::mem::take(&mut self.look.fingerprints);
        for one in &listed {
            let unchanged = before.get(&one.id) == Some(&one.fingerprint)
                && (self.containers.contains_key(&one.id) || !one.running);
            // A container that ended before we came matters only if its instances may stay. One that ran is listed also
            // while it waits to be started again.
            let matters = one.running
                || self.containers.contains_key(&one.id)
                || self.parts.keep.deregister != Deregister::Always;
            if !unchanged && matters {
                self.look.at(one.id.clone(), 0);
            }
            self.look.fingerprints.insert(one.id.clone(), one.fingerprint);
        }
        self.forget_unlisted();
        self.look.listed = true;
        for guest in self.guests.iter().cloned().collect::<Vec<_>>() {
            self.derive(&guest);
        }
        self.believe = std::mem::take(&mut self.doubting);
        self.due.everything = true;
    }

    pub(crate) fn inspected(&mut self, done: Result<Inspected, JoinError>) {
        let Ok((id, inspected)) = done else { return };
        let busy = self.look.busy.remove(&id).unwrap_or(Busy::Asked);
        let runs = matches!(&inspected, Ok(Some((Ok(container), _))) if container.running);
        match busy {
            // Its event is to come, and asks again.
            Busy::Early => return,
            Busy::Started if !runs => return self.look.waiting.push_back(id),
            _ => {}
        }
        let again = busy == Busy::Again;
        let event_time = self.look.asked.get(&id).copied().filter(|time| *time != 0);
        if again {
            self.look.waiting.push_back(id.clone());
        } else {
            self.look.asked.remove(&id);
        }
        match inspected {
            Ok(found) => {
                self.look.failures.remove(&id);
                self.learn(&id, found, event_time);
            }
            Err(error) => {
                let error = chain(&error);
                if self.look.fail(&id) {
                    tracing::warn!(id, error, "a container cannot be inspected, will retry");
                } else {
                    tracing::debug!(id, error, "a container cannot be inspected, will retry");
                }
                self.look.failed.push(id);
                self.look.retry = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// Looks at everything once, Docker and Consul, and changes nothing.
    pub(crate) async fn look_once(&mut self) -> anyhow::Result<()> {
        self.ask().await?;
        self.look.everywhere = true;
        self.start_looking();
        while let Some(listed) = self.look.listing.join_next().await {
            if let Ok(Err(error)) = listed {
                return Err(error.into());
            }
            self.listed(listed);
        }
        self.start_looking();
        while let Some(done) = self.look.inspections.join_next().await {
            self.inspected(done);
            self.start_looking();
        }
        Ok(())
    }

    /// Returns what is wanted and what is, side by side.
    pub(crate) fn rows(&self) -> Vec<crate::list::Row<'_>> {
        static NOTHING: BTreeMap<String, crate::model::Actual> = BTreeMap::new();
        let actual = self.actual.as_ref().unwrap_or(&NOTHING);
        crate::list::rows(&self.assembly.desired, actual, &self.parts.node.name)
    }
}
