//! What goes on between passes: the heartbeats, the journal, and what is said of Consul.

use daemon::error::chain;
use daemon::listener::Readiness;
use futures_util::stream::{self, StreamExt};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::apply::AT_A_TIME;
use super::{Controller, JOURNAL_PAUSE};
use crate::mirror::Doubt;
use crate::neighbour;

/// A step of writing the journal.
#[derive(Debug)]
pub(super) enum JournalStep {
    /// What a run before this one wrote.
    Read(Option<Vec<u8>>),
    /// It is written.
    Written,
}

impl Controller {
    /// Repeats what is known to TTL checks before it is forgotten.
    pub(super) async fn beat(&mut self, now: Instant) {
        let desired = &self.assembly.desired;
        let mut due = Vec::new();
        self.beats.retain(|check, (id, at)| {
            let beat = desired.get(id).and_then(|one| one.beats.get(check));
            let Some(beat) = beat else { return false };
            if *at <= now {
                *at = now + beat.ttl / 3;
                due.push((check.clone(), beat.clone()));
            }
            true
        });
        if due.is_empty() {
            return;
        }
        let client = &self.parts.client;
        let beats = due.iter().map(|(check, beat)| client.ttl(check, beat.status, &beat.note));
        let done: Vec<_> = stream::iter(beats).buffer_unordered(AT_A_TIME).collect().await;
        if let Some(error) = done.into_iter().find_map(Result::err) {
            self.refused_to(&error);
        }
    }

    /// Notes down that the agent did not do something, and when to try again. If it answered at all, what else there
    /// is to do does not wait.
    pub(super) fn refused_to(&mut self, error: &consul::Error) {
        if error.status().is_none() {
            return self.fail(error);
        }
        self.doubt_consul(Doubt::Ours);
        let pause = neighbour::pause(&mut self.delays, &mut self.failing_since);
        self.clock.retry = Some(Instant::now() + pause);
        let text = chain(error);
        if self.refusal.as_ref() != Some(&text) {
            tracing::warn!(error = text, "consul did not do what it was asked, will retry");
        }
        self.refusal = Some(text);
    }

    /// Notes down that the agent could not be asked, and when to try again.
    pub(super) fn fail(&mut self, error: &consul::Error) {
        self.doubt_consul(Doubt::All);
        let pause = neighbour::pause(&mut self.delays, &mut self.failing_since);
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
    pub(super) fn doubt_consul(&mut self, doubt: Doubt) {
        self.actual = None;
        if let Some(keys) = &mut self.keys {
            keys.doubt(doubt);
        }
    }

    /// Notes down that Consul did what it was asked.
    pub(super) fn succeed(&mut self) {
        self.delays.reset();
        self.failing_since = None;
        self.refusal = None;
        self.answered();
    }

    /// Notes down that Consul is there, whatever it thinks of what it was asked.
    pub(super) fn answered(&mut self) {
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

    /// Starts writing the journal, if it changed; before the first time it is read, to go on with that of a run before
    /// this one.
    pub(super) fn write_journal(&mut self) {
        let Some(key) = self.parts.journal_key.clone() else { return };
        if !self.journal.changed {
            return;
        }
        if !self.writing.is_empty() {
            self.clock.journal = Some(Instant::now() + JOURNAL_PAUSE);
            return;
        }
        let client = self.parts.client.clone();
        if self.journal_loaded {
            self.journal.changed = false;
            let text = self.journal.text();
            self.writing.spawn(async move {
                client.kv_put(&key, &text).await.map(|()| JournalStep::Written)
            });
        } else {
            self.writing.spawn(async move {
                let found = client.kv_get(&key, &consul::Query::default()).await?.value;
                Ok(JournalStep::Read(found.map(|pair| pair.value)))
            });
        }
    }

    /// Takes over what came of reading or writing it.
    pub(super) fn journal_done(
        &mut self,
        done: Result<Result<JournalStep, consul::Error>, JoinError>,
    ) {
        match done {
            Ok(Ok(JournalStep::Read(earlier))) => {
                self.journal.load(&earlier.unwrap_or_default());
                self.journal_loaded = true;
                self.clock.journal = Some(Instant::now());
            }
            Ok(Ok(JournalStep::Written)) | Err(_) => {}
            Ok(Err(error)) => {
                self.journal.changed = true;
                self.clock.journal = Some(Instant::now() + neighbour::PAUSE);
                tracing::debug!(error = chain(&error), "the journal is not written, will retry");
            }
        }
    }
}
