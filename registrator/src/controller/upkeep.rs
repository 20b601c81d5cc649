//! What goes on between passes: the session, the heartbeats, the journal, and what is said of Consul.

use daemon::listener::Readiness;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{Controller, JOURNAL_PAUSE, NEIGHBOUR_PAUSE, chain, neighbour_pause};
use crate::mirror::Doubt;

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
            Err(error) => self.keys_done(Err(error)),
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
                self.refused_to(&error);
                return;
            }
        }
    }

    /// Notes down that the agent did not do something, and when to try again. If it answered at all, what else there
    /// is to do does not wait.
    pub(super) fn refused_to(&mut self, error: &consul::Error) {
        if error.status().is_none() {
            return self.fail(error);
        }
        self.doubt_consul(Doubt::Ours);
        let pause = neighbour_pause(&mut self.delays, &mut self.failing_since);
        self.clock.retry = Some(Instant::now() + pause);
        let text = chain(error);
        if self.refusal.as_ref() != Some(&text) {
            tracing::warn!(error = text, "consul did not do what it was asked, will retry");
        }
        self.refusal = Some(text);
    }

    /// Notes down what came of the keys; where they cannot be written, when to try again.
    pub(super) fn keys_done(&mut self, done: Result<(), consul::Error>) {
        let Err(error) = done else {
            if self.keys_failing_since.take().is_some() {
                tracing::info!("the keys are written again");
            }
            self.keys_delays.reset();
            return;
        };
        if let Some(mirror) = &mut self.parts.mirror {
            mirror.doubt(Doubt::All);
        }
        if self.keys_failing_since.is_none() {
            let error = chain(&error);
            tracing::warn!(error, "the keys are not written, the catalog is; will retry");
        }
        let pause = neighbour_pause(&mut self.keys_delays, &mut self.keys_failing_since);
        self.clock.keys = Some(Instant::now() + pause);
    }

    /// Takes over the journal of a run before this one, if it can be read now.
    pub(super) async fn load_journal(&mut self) {
        let key = self.parts.journal_key.clone().unwrap_or_default();
        match self.parts.client.kv_get(&key, &consul::Query::default()).await {
            Ok(answer) => {
                if let Some(pair) = answer.value {
                    self.journal.load(&pair.value);
                }
                self.journal_loaded = true;
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "the journal cannot be read, will retry");
            }
        }
    }

    /// Notes down that the agent could not be asked, and when to try again.
    pub(super) fn fail(&mut self, error: &consul::Error) {
        self.doubt_consul(Doubt::All);
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
    pub(super) fn doubt_consul(&mut self, keys: Doubt) {
        self.actual = None;
        if let Some(mirror) = &mut self.parts.mirror {
            mirror.doubt(keys);
        }
    }

    /// Notes down that Consul did what it was asked.
    pub(super) fn succeed(&mut self) {
        self.delays.reset();
        self.failing_since = None;
        self.refusal = None;
        if let Some(since) = self.consul_away.take() {
            tracing::info!(after = ?since.elapsed(), "consul is back");
        }
        self.parts.metrics.set_up("consul", true);
        self.tell_readiness();
    }

    /// Tells the listener whether we can do our work.
    pub(super) fn tell_readiness(&self) {
        let readiness = if self.consul_away.is_some() || !self.has_answered {
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
            let pause = if self.journal_loaded { JOURNAL_PAUSE } else { NEIGHBOUR_PAUSE };
            self.clock.journal = Some(Instant::now() + pause);
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
