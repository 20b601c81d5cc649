//! The difference applied: actions carried out, and what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::doubts::container;
use super::scope::Scope;
use super::{Controller, JOURNAL_PAUSE};
use crate::model::{Actual, Desired, REGISTERED_TIME};
use crate::plan::{Action, applied};

/// How many instances are worked on at a time.
pub(super) const AT_A_TIME: usize = 8;

/// What came of an action.
struct Outcome {
    action: Action,
    result: Result<(), consul::Error>,
}

impl Controller {
    /// Applies actions: keys go before instances, and come after them. Instances do not wait for keys that cannot be
    /// written.
    pub(super) async fn carry_out(
        &mut self,
        actions: Vec<Action>,
        scope: &Scope,
    ) -> Result<(), consul::Error> {
        let mut trouble = None;
        let (removals, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Deregister(_)));
        // What concerns one instance keeps its order: registrations first, then the rest.
        let (registrations, rest): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|action| matches!(action, Action::Register(_)));
        if !removals.is_empty() {
            self.remove_keys(scope, &removals).await;
        }
        for mut actions in [removals, registrations, rest] {
            self.leave_unregistered(&mut actions);
            let client = &self.parts.client;
            let outcomes: Vec<Outcome> = stream::iter(actions)
                .map(|action| async move {
                    let result = carry_out(client, &action).await;
                    Outcome { action, result }
                })
                .buffer_unordered(AT_A_TIME)
                .collect()
                .await;
            for outcome in outcomes {
                if let Err(error) = self.note(outcome) {
                    trouble = Some(error);
                }
            }
        }
        self.want_keys(scope, &BTreeSet::new());
        self.keep_beating(scope);
        // What could not be removed is confirmed to have ended for the next pass, too.
        if !self.ended.is_empty() {
            let left: BTreeSet<&str> =
                self.actual.iter().flat_map(BTreeMap::values).filter_map(container).collect();
            self.ended.retain(|short| left.contains(short.as_str()));
        }
        if self.journal.changed && self.clock.journal.is_none() {
            self.clock.journal = Some(Instant::now() + JOURNAL_PAUSE);
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Leaves out what is about an instance, or a check, that the agent does not have: it was refused, and to ask for
    /// more of it would only be refused again.
    fn leave_unregistered(&self, actions: &mut Vec<Action>) {
        let Some(actual) = &self.actual else { return };
        actions.retain(|action| match action {
            Action::Maintain(id, _) => actual.contains_key(id),
            Action::Beat(check, _) => actual.values().any(|one| one.checks.contains_key(check)),
            Action::Deregister(_) | Action::Register(_) => true,
        });
    }

    /// Has the keys removed of what goes.
    async fn remove_keys(&mut self, scope: &Scope, removals: &[Action]) {
        let gone = removals.iter().filter_map(|action| match action {
            Action::Deregister(id) => Some(id.as_str()),
            _ => None,
        });
        self.want_keys(scope, &gone.collect());
        if let Some(keys) = &self.keys {
            keys.caught_up().await;
        }
    }

    /// Has every TTL check repeated in time, also those that a run before this one registered.
    fn keep_beating(&mut self, scope: &Scope) {
        let Some(actual) = &self.actual else { return };
        let now = Instant::now();
        for (id, desired) in scope.of(&self.assembly.desired) {
            for check in desired.beats.keys() {
                if actual.contains_key(id) && !self.beats.contains_key(check) {
                    self.beats.insert(check.clone(), (id.clone(), now));
                }
            }
        }
    }

    /// Takes over what came of an action; returns an error that another pass may mend.
    fn note(&mut self, Outcome { action, result }: Outcome) -> Result<(), consul::Error> {
        let done = result.is_ok();
        self.parts.metrics.count(name(&action), done);
        if let Err(error) = result {
            return self.refuse(action, error);
        }
        let now = Instant::now();
        match &action {
            Action::Deregister(id) => {
                let unknown = self.unknown_container(id);
                self.removed.extend(unknown.map(|container| (id.clone(), container)));
                let ended = self.noted.remove(id).is_some_and(|since| since.is_empty());
                if let Some(gone) = self.actual.as_ref().and_then(|actual| actual.get(id)) {
                    tracing::info!(id, "deregistered");
                    if !ended {
                        self.journal.note("stop", &gone.service);
                    }
                }
            }
            Action::Register(desired) => self.registered(desired, now),
            Action::Maintain(id, reason) => tracing::info!(id, reason, "maintenance"),
            Action::Beat(check, beat) => {
                tracing::info!(check, status = %beat.status, "health");
                if let Some((_, at)) = self.beats.get_mut(check) {
                    *at = now + beat.ttl / 3;
                }
            }
        }
        if let Some(actual) = &mut self.actual {
            applied(&action, actual);
        }
        Ok(())
    }

    fn registered(&mut self, desired: &Desired, now: Instant) {
        let told = &desired.registration;
        let address = format!("{}:{}", told.address, told.port);
        tracing::info!(id = told.id, service = told.name, address, "registered");
        for (check, beat) in &desired.beats {
            self.beats.insert(check.clone(), (told.id.clone(), now + beat.ttl / 3));
        }
        let mut known = self.containers.get_mut(&desired.container);
        if let Some(time) = known.as_mut().and_then(|known| known.answer_event()) {
            self.parts.metrics.observe_since(time);
        }
        if known.is_some_and(|known| known.container.is_some()) {
            let is_start = match self.noted.insert(told.id.clone(), desired.since.clone()) {
                Some(before) => before != desired.since,
                None => self.actual.as_ref().is_some_and(|actual| !actual.contains_key(&told.id)),
            };
            if is_start {
                self.journal.note("start", &Actual::of(desired).service);
            }
        }
        self.refused.remove(&told.id);
        self.removed.remove(&told.id);
    }
}

async fn carry_out(client: &consul::Client, action: &Action) -> Result<(), consul::Error> {
    match action {
        Action::Deregister(id) => client.deregister(id).await,
        Action::Register(desired) => client.register(&stamped(&desired.registration)).await,
        Action::Maintain(id, reason) => client.maintenance(id, reason.as_deref()).await,
        Action::Beat(check, beat) => client.ttl(check, beat.status, &beat.note).await,
    }
}

fn name(action: &Action) -> &'static str {
    match action {
        Action::Deregister(_) => "deregister",
        Action::Register(_) => "register",
        Action::Maintain(..) => "maintain",
        Action::Beat(..) => "beat",
    }
}

/// Returns a registration with the time at which the agent is told: whoever reads it there knows how long that took.
fn stamped(registration: &consul::Registration) -> consul::Registration {
    let mut stamped = registration.clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    stamped.meta.insert(REGISTERED_TIME.into(), now.as_nanos().to_string());
    stamped
}
