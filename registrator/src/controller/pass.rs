//! The pass: what is wanted, what is, and the difference applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::assembly::Assembly;
use super::doubts::container;
use super::known::Known;
use super::scope::{Due, Scope};
use super::{Controller, JOURNAL_PAUSE, patience};
use crate::ending;
use crate::model::{Actual, Desired, REGISTERED_TIME};
use crate::plan::{Action, applied, plan};

/// How many instances are worked on at a time.
pub(super) const AT_A_TIME: usize = 8;

/// What came of an action.
struct Outcome {
    action: Action,
    result: Result<(), consul::Error>,
}

impl Controller {
    /// Compares, and applies the difference.
    pub(crate) async fn pass(&mut self) {
        let started = Instant::now();
        if self.actual.is_none()
            && let Err(error) = self.ask().await
        {
            self.fail(&error);
            return;
        }
        let due = std::mem::take(&mut self.due);
        if !self.look.listed {
            return;
        }
        self.look.passed();
        let scope = self.assemble(&due);
        let actions = self.choose(&scope);
        let done = self.carry_out(actions, &scope).await;
        self.parts.metrics.passes.inc();
        self.parts.metrics.pass_seconds.observe(started.elapsed().as_secs_f64());
        match done {
            Ok(()) => self.succeed(),
            Err(error) => self.refused_to(&error),
        }
        self.count();
        self.tell_readiness();
    }

    /// Tells the metrics what runs, and what is registered.
    fn count(&self) {
        let running = self.containers.values().filter(|known| known.container.is_some()).count();
        self.parts.metrics.containers.set(i64::try_from(running).unwrap_or_default());
        let host = &self.parts.node.name;
        let Some(actual) = &self.actual else { return };
        let registered = actual.values().filter(|one| one.is_owned_by(host)).count();
        self.parts.metrics.instances.set(i64::try_from(registered).unwrap_or_default());
    }

    /// Returns what must change now, without changing anything.
    pub(crate) fn preview(&mut self) -> Vec<Action> {
        let scope = self.assemble(&Due { everything: true, ..Due::default() });
        let Some(actual) = &self.actual else { return Vec::new() };
        let kept = self.kept(&scope, actual);
        plan(&self.assembly.desired, actual, &self.parts.node.name, &kept)
    }

    /// Asks the agent what it has, and who it is if it was away.
    pub(crate) async fn ask(&mut self) -> Result<(), consul::Error> {
        let client = self.parts.client.clone();
        if self.consul_away.is_some() {
            let node = crate::node(&self.parts.derive, &client.agent_self().await?);
            if node != self.parts.node {
                tracing::info!(name = node.name, address = node.address, "the node changed");
                self.parts.node = node;
                self.derive_all();
            }
        }
        let (services, checks) =
            tokio::try_join!(client.agent_services(None), client.agent_checks(None))?;
        self.actual = Some(Actual::all(services, checks));
        self.due.everything = true;
        self.has_answered = true;
        self.look_for_strangers();
        Ok(())
    }

    /// Works out what must be registered, and returns which instances that is about: those of the containers that are
    /// due, if they have nothing to do with others.
    fn assemble(&mut self, due: &Due) -> Scope {
        self.resume_drains(due);
        let nothing = BTreeMap::new();
        let actual = self.actual.as_ref().unwrap_or(&nothing);
        let host = &self.parts.node.name;
        if !due.everything
            && !self.unsettled
            && let Some(ids) = self.assembly.again(&due.containers, &self.containers, actual, host)
        {
            return Scope::Of(ids);
        }
        let (assembly, problems) = Assembly::of(&self.containers, actual, host);
        self.assembly = assembly;
        for (id, problem) in problems {
            let known = self.containers.get(&id).and_then(|known| known.container.as_ref());
            let name = known.map(|container| container.name.clone()).unwrap_or_default();
            self.warn(&id, &name, problem);
        }
        Scope::Everything
    }

    /// Goes on with the drains that a run before this one began: their containers are ending.
    fn resume_drains(&mut self, due: &Due) {
        let Some(actual) = &self.actual else { return };
        for (id, known) in &mut self.containers {
            if known.met || !(due.everything || due.containers.contains(id)) {
                continue;
            }
            let Some(container) = &known.container else { continue };
            known.met = !known.desired.is_empty();
            let reason = known.desired.iter().find_map(|desired| {
                let reason = actual.get(&desired.registration.id)?.maintenance.as_ref()?;
                ending::is_draining(reason, &container.started_at).then(|| reason.clone())
            });
            if let Some(reason) = reason {
                let until = Instant::now() + patience(container);
                known.drain(reason, until);
            }
        }
    }

    /// Returns what is to be done now.
    fn choose(&mut self, scope: &Scope) -> Vec<Action> {
        let actual = self.actual.as_ref().expect("asked before");
        let kept = self.kept(scope, actual);
        let wanted = scope.of(&self.assembly.desired);
        let mut actions = plan(wanted, scope.of(actual), &self.parts.node.name, &kept);
        self.unsettled = !kept.is_empty();
        self.remember(scope, &actions);
        self.guard(&mut actions);
        self.believe = false;
        self.leave_refused(&mut actions);
        actions
    }

    /// Notes down which instances are as they must be, so that the next pass need not compare them.
    fn remember(&mut self, scope: &Scope, actions: &[Action]) {
        let changed: BTreeSet<&str> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Register(desired) => Some(desired.registration.id.as_str()),
                _ => None,
            })
            .collect();
        let Some(actual) = &mut self.actual else { return };
        let host = &self.parts.node.name;
        for (id, desired) in scope.of(&self.assembly.desired) {
            if let Some(actual) = actual.get_mut(id)
                && actual.told.as_ref().is_none_or(|told| !Arc::ptr_eq(told, desired))
                && !changed.contains(id.as_str())
                && !actual.is_anothers(host, desired)
            {
                actual.told = Some(desired.clone());
            }
        }
    }

    /// Applies actions: keys go before instances, and come after them. Instances do not wait for keys that cannot be
    /// written.
    async fn carry_out(
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
        for actions in [removals, registrations, rest] {
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
                if let Some(gone) = self.actual.as_ref().and_then(|actual| actual.get(id)) {
                    tracing::info!(id, "deregistered");
                    self.journal.note("stop", &gone.service);
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
        let known = self.containers.get_mut(&desired.container);
        if let Some(time) = known.and_then(Known::answer_event) {
            self.parts.metrics.observe_since(time);
        }
        if self.actual.as_ref().is_some_and(|actual| !actual.contains_key(&told.id)) {
            self.journal.note("start", &Actual::of(desired).service);
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
