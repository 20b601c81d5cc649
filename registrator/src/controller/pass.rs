//! The pass: what is wanted, what is, and the difference applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::assembly::Assembly;
use super::scope::{Due, Scope};
use super::{Controller, patience};
use crate::ending;
use crate::model::Actual;
use crate::plan::{Action, plan};

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
            Err(error) => {
                // The agent has said what it has, and now what it does not do: it is there.
                if error.status().is_some() {
                    self.answered();
                }
                self.refused_to(&error);
            }
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
                let known = self.containers.get(&desired.container);
                let ended = known.is_none_or(|known| known.container.is_none());
                let since = || if ended { String::new() } else { desired.since.clone() };
                self.noted.entry(id.clone()).or_insert_with(since);
            }
        }
    }
}
