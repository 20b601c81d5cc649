//! What goes on between passes: the session, the heartbeats, the journal, and what is said of Consul.

use daemon::listener::Readiness;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{Controller, JOURNAL_PAUSE, NEIGHBOUR_PAUSE, chain, neighbour_pause};

impl Controller {
    /// Keeps the session of the keys alive.
    pub(super) async fn renew(&mut self) {
        let Some(mirror) = &mut self.parts.mirror else { return };
        match mirror.renew().await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("the session of the keys ended, they are written again");
                self.parts.metrics.sessions_lost.inc();
                self.due = true;
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Repeats what is known to TTL checks before it is forgotten.
    pub(super) async fn beat(&mut self, now: Instant) {
        let due: Vec<_> =
            self.beats.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for check in due {
            let beat = self.desired.values().find_map(|desired| desired.beats.get(&check)).cloned();
            let Some(beat) = beat else {
                self.beats.remove(&check);
                continue;
            };
            self.beats.insert(check.clone(), now + beat.ttl / 3);
            if let Err(error) = self.parts.client.ttl(&check, beat.status, &beat.note).await {
                self.fail(&error);
                return;
            }
        }
    }

    /// Notes down that Consul did not do what it was asked, and when to try again.
    pub(super) fn fail(&mut self, error: &consul::Error) {
        self.doubt_consul();
        let pause = neighbour_pause(&mut self.delays, &mut self.failing_since);
        self.clock.retry = Some(Instant::now() + pause);
        let away = error.status().is_none_or(|status| status >= 500 || status == 403);
        if away && self.consul_away.is_none() {
            self.consul_away = Some(Instant::now());
            self.parts.metrics.set_up("consul", false);
            let error = format!("{:#}", anyhow::Error::msg(chain(error)));
            tracing::warn!(error, "consul is away, what is registered stays; will retry");
        }
        self.tell_readiness();
    }

    /// Forgets what Consul has: a request that was not answered may have been carried out.
    pub(super) fn doubt_consul(&mut self) {
        self.actual = None;
        if let Some(mirror) = &mut self.parts.mirror {
            mirror.stale = true;
        }
    }

    /// Notes down that Consul did what it was asked.
    pub(super) fn succeed(&mut self) {
        self.delays.reset();
        self.failing_since = None;
        if let Some(since) = self.consul_away.take() {
            tracing::info!(after = ?since.elapsed(), "consul is back");
        }
        self.parts.metrics.set_up("consul", true);
        self.tell_readiness();
    }

    /// Tells the listener whether we can do our work.
    pub(super) fn tell_readiness(&self) {
        let readiness = if self.consul_away.is_some() || self.actual.is_none() {
            Readiness::NotReady("consul does not answer".into())
        } else if self.parts.engine.borrow().is_none() {
            Readiness::NotReady("docker does not answer".into())
        } else if !self.look.listed {
            Readiness::NotReady("the containers are not yet listed".into())
        } else {
            Readiness::Ready
        };
        self.parts.ready.send_if_modified(|before| {
            let changed = *before != readiness;
            *before = readiness;
            changed
        });
    }

    /// Starts writing the journal, if it changed.
    pub(super) fn write_journal(&mut self) {
        let Some(key) = self.parts.journal_key.clone() else { return };
        if !self.journal.changed {
            return;
        }
        if !self.writing.is_empty() || !self.journal_loaded {
            self.clock.journal = Some(Instant::now() + JOURNAL_PAUSE);
            return;
        }
        self.journal.changed = false;
        let (client, text) = (self.parts.client.clone(), self.journal.text());
        self.writing.spawn(async move { client.kv_put(&key, &text).await });
    }

    /// Takes over what came of writing it.
    pub(super) fn written(&mut self, written: Result<Result<(), consul::Error>, JoinError>) {
        if let Ok(Err(error)) = written {
            self.journal.changed = true;
            self.clock.journal = Some(Instant::now() + NEIGHBOUR_PAUSE);
            tracing::debug!(error = chain(&error), "the journal is not written, will retry");
        }
    }
}
