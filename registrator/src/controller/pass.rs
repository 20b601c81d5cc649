//! The pass: what is wanted, what is, and the difference applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::doubts::container;
use super::known::Known;
use super::{Controller, JOURNAL_PAUSE};
use crate::model::{Actual, Desired, REGISTERED_TIME};
use crate::plan::{Action, applied, pairs, plan};
use crate::registration;

/// How many instances are worked on at a time.
const AT_A_TIME: usize = 8;
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
        self.due = false;
        if !self.look.listed {
            return;
        }
        self.look.passed();
        self.desired = self.assemble();
        let actual = self.actual.as_ref().expect("asked above");
        let kept = self.kept(actual);
        let mut actions = plan(&self.desired, actual, &self.parts.node.name, &kept);
        self.remember(&actions);
        self.guard(&mut actions);
        self.believe = false;
        self.leave_refused(&mut actions);
        let done = self.carry_out(actions).await;
        self.parts.metrics.passes.inc();
        self.parts.metrics.pass_seconds.observe(started.elapsed().as_secs_f64());
        match done {
            Ok(()) => self.succeed(),
            Err(error) => self.refused_to(&error),
        }
        let running = self.containers.values().filter(|known| known.container.is_some()).count();
        self.parts.metrics.containers.set(i64::try_from(running).unwrap_or_default());
        self.parts.metrics.instances.set(i64::try_from(self.desired.len()).unwrap_or_default());
        self.tell_readiness();
    }

    /// Notes down which instances are as they must be, so that the next pass need not compare them.
    fn remember(&mut self, actions: &[Action]) {
        let changed: BTreeSet<&str> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Register(desired) => Some(desired.registration.id.as_str()),
                _ => None,
            })
            .collect();
        for (id, desired, actual) in pairs(&self.desired, self.actual.iter_mut().flatten()) {
            if let (Some(desired), Some(actual)) = (desired, actual)
                && actual.told.as_ref().is_none_or(|told| !Arc::ptr_eq(told, desired))
                && !changed.contains(id.as_str())
            {
                actual.told = Some(desired.clone());
            }
        }
    }

    /// Returns what must change now, without changing anything.
    pub(crate) fn preview(&mut self) -> Vec<Action> {
        self.desired = self.assemble();
        let Some(actual) = &self.actual else { return Vec::new() };
        plan(&self.desired, actual, &self.parts.node.name, &self.kept(actual))
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
        self.has_answered = true;
        if !self.journal_loaded {
            self.load_journal().await;
        }
        Ok(())
    }

    /// Returns everything that must be registered, by ID.
    fn assemble(&mut self) -> BTreeMap<String, Arc<Desired>> {
        let mut all: BTreeMap<String, Arc<Desired>> = BTreeMap::new();
        let mut conflicts = Vec::new();
        for (id, known) in &self.containers {
            for (place, desired) in known.desired.iter().enumerate() {
                let key = &desired.registration.id;
                let Some(other) = all.get(key) else {
                    all.insert(key.clone(), desired.clone());
                    continue;
                };
                // The one that started first keeps the ID.
                let is_later = (&desired.since, id) > (&other.since, &other.container);
                let loser = if is_later { id.clone() } else { other.container.clone() };
                conflicts.push((key.clone(), loser, place));
                if !is_later {
                    all.insert(key.clone(), desired.clone());
                }
            }
        }
        for (key, loser, _) in conflicts {
            let Some(known) = self.containers.get(&loser) else { continue };
            let taken = format!("{key}:{}", loser.get(..12).unwrap_or(&loser));
            let place = known.instances.iter().position(|one| one.id == key);
            if let Some(desired) = place.and_then(|place| known.renamed(place, taken.clone())) {
                let name = known.instances.first().map(|one| one.container_name.clone());
                all.insert(taken.clone(), desired);
                let problem =
                    format!("the ID {key:?} is another container's, registered as {taken:?}");
                self.warn(&loser, &name.unwrap_or_default(), problem);
            }
        }
        for known in self.containers.iter().filter(|(_, known)| known.tombstone.is_some()) {
            let (id, reason) = (known.0, known.1.tombstone.as_deref().unwrap_or_default());
            for desired in &known.1.left {
                let desired = registration::tombstone(&Actual::of(desired), reason);
                all.entry(desired.registration.id.clone()).or_insert_with(|| Arc::new(desired));
            }
            for actual in self.actual.iter().flat_map(BTreeMap::values) {
                let ours = actual.is_owned_by(&self.parts.node.name);
                if ours && container(actual).is_some_and(|short| id.starts_with(short)) {
                    let desired = registration::tombstone(actual, reason);
                    all.entry(actual.service.id.clone()).or_insert_with(|| Arc::new(desired));
                }
            }
        }
        all
    }

    /// Applies actions: keys go before instances, and come after them. Instances do not wait for keys that cannot be
    /// written.
    async fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), consul::Error> {
        let mut trouble = None;
        let mut touched: BTreeSet<String> = BTreeSet::new();
        let everything = self.prepare_keys(&actions).await;
        let (removals, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Deregister(_)));
        // What concerns one instance keeps its order: registrations first, then the rest.
        let (registrations, rest): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|action| matches!(action, Action::Register(_)));
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
                if let Err(error) = self.note(outcome, &mut touched) {
                    trouble = Some(error);
                }
            }
        }
        if let Some(everything) = everything {
            let written = self.write_keys(&touched, everything).await;
            self.keys_done(written);
        }
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

    /// Takes over what came of an action; returns an error that another pass may mend.
    fn note(
        &mut self,
        Outcome { action, result }: Outcome,
        touched: &mut BTreeSet<String>,
    ) -> Result<(), consul::Error> {
        let done = result.is_ok();
        let Some(actual) = &mut self.actual else { return result };
        match &action {
            Action::Deregister(id) => {
                self.parts.metrics.count("deregister", done);
                if done && let Some(gone) = actual.get(id) {
                    tracing::info!(id, "deregistered");
                    self.journal.note("stop", &gone.service);
                }
            }
            Action::Register(desired) => {
                self.parts.metrics.count("register", done);
                let id = &desired.registration.id;
                touched.insert(id.clone());
                let now = Instant::now();
                for (check, beat) in &desired.beats {
                    self.beats.insert(check.clone(), now + beat.ttl / 3);
                }
                if done {
                    let told = &desired.registration;
                    let address = format!("{}:{}", told.address, told.port);
                    tracing::info!(id, service = told.name, address, "registered");
                    let known = self.containers.get_mut(&desired.container);
                    if let Some(time) = known.and_then(Known::answer_event) {
                        self.parts.metrics.observe_since(time);
                    }
                    if !actual.contains_key(id) {
                        self.journal.note("start", &Actual::of(desired).service);
                    }
                    self.refused.remove(id);
                }
            }
            Action::Maintain(id, reason) => {
                self.parts.metrics.count("maintain", done);
                touched.insert(id.clone());
                if done {
                    tracing::info!(id, reason, "maintenance");
                }
            }
            Action::Beat(check, beat) => {
                self.parts.metrics.count("beat", done);
                let owner = self.desired.iter().find(|(_, one)| one.beats.contains_key(check));
                touched.extend(owner.map(|(id, _)| id.clone()));
                if done {
                    tracing::info!(check, status = %beat.status, "health");
                    self.beats.insert(check.clone(), Instant::now() + beat.ttl / 3);
                }
            }
        }
        match result {
            Ok(()) => {
                applied(&action, actual);
                Ok(())
            }
            Err(error) => self.refuse(action, error),
        }
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

/// Returns a registration with the time at which the agent is told: whoever reads it there knows how long that took.
fn stamped(registration: &consul::Registration) -> consul::Registration {
    let mut stamped = registration.clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    stamped.meta.insert(REGISTERED_TIME.into(), now.as_nanos().to_string());
    stamped
}
