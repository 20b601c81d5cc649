//! What is not done now although it differs: removals that nobody confirmed, and what Consul refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daemon::error::chain;
use tokio::time::Instant;

use super::clock::sooner;
use super::scope::Scope;
use super::{Controller, DOUBT};
use crate::guard;
use crate::model::{Actual, CONTAINER, Desired};
use crate::plan::{Action, pairs};

/// How long what Consul refused is left alone, unless it changes: it may pass by itself, such as an election, or a token
/// that is not yet known everywhere.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long at the most, after it was refused again and again.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// What an agent says that must not run commands.
const SCRIPTS_DISABLED: &str = "Scripts are disabled";

/// What Consul refused to register.
#[derive(Debug)]
pub(crate) struct Refusal {
    desired: Arc<Desired>,
    error: String,
    pause: Duration,
    until: Instant,
}

impl Controller {
    /// Returns what must not be removed now: instances of containers that were not yet looked at, without --cleanup
    /// those of containers that nobody saw ending, and those that another registrator puts back.
    pub(super) fn kept(
        &self,
        scope: &Scope,
        actual: &BTreeMap<String, Actual>,
    ) -> BTreeSet<String> {
        let stays = |id: &String, actual: &Actual| {
            let short = container(actual);
            let unseen = !short.is_some_and(|short| self.is_confirmed(short));
            short.is_some_and(|short| self.is_awaited(short))
                || (unseen && (!self.parts.keep.cleanup || self.strangers.contains(id)))
        };
        pairs(scope.of(&self.assembly.desired), scope.of(actual))
            .filter_map(|(id, desired, actual)| {
                let actual = actual.filter(|_| desired.is_none())?;
                let kept = actual.is_owned_by(&self.parts.node.name) && stays(id, actual);
                kept.then(|| id.clone())
            })
            .collect()
    }

    /// Tells whether a container is still to be looked at, or the one whose network it uses.
    fn is_awaited(&self, short: &str) -> bool {
        self.look.is_pending(short) || self.guests.iter().any(|id| id.starts_with(short))
    }

    /// Tells whether Docker itself said of this very container that it ended or changed.
    fn is_confirmed(&self, short: &str) -> bool {
        let known = self.containers.range(short.to_owned()..).next();
        self.ended.contains(short) || known.is_some_and(|(id, _)| id.starts_with(short))
    }

    /// Takes the removals out if there are suspiciously many that nobody confirmed, and has Docker
    /// asked again.
    pub(super) fn guard(&mut self, actions: &mut Vec<Action>) {
        let Some(actual) = &self.actual else { return };
        let unconfirmed = |action: &Action| match action {
            Action::Deregister(id) => {
                let short = actual.get(id).and_then(container).unwrap_or_default();
                !self.is_confirmed(short)
            }
            _ => false,
        };
        let removals = actions.iter().filter(|action| unconfirmed(action)).count();
        if removals == 0 {
            return;
        }
        let owned = actual.values().filter(|one| one.is_owned_by(&self.parts.node.name)).count();
        let suspicious = guard::is_suspicious(removals, owned, self.parts.keep.max_removal);
        if suspicious && !self.believe {
            actions.retain(|action| !unconfirmed(action));
            if self.clock.doubt.is_none() {
                tracing::warn!(
                    removals,
                    owned,
                    "much would be removed at once, docker is asked again"
                );
                self.parts.metrics.guarded.inc();
                self.clock.doubt = Some(Instant::now() + DOUBT);
            }
        }
    }

    /// Returns the container of an instance that is to go, if Docker does not know it.
    pub(super) fn unknown_container(&self, id: &str) -> Option<String> {
        let short = container(self.actual.as_ref()?.get(id)?)?;
        (!self.is_confirmed(short)).then(|| short.to_owned())
    }

    /// Finds out whether somebody puts back what we removed because no container of ours is behind it: another
    /// registrator under our host's name. Two of them would remove each other's instances for ever.
    pub(super) fn look_for_strangers(&mut self) {
        let Some(actual) = &self.actual else { return };
        self.strangers.retain(|id| actual.contains_key(id));
        for (id, one) in actual {
            let removed = self.removed.get(id).map(String::as_str);
            let back = one.is_owned_by(&self.parts.node.name) && removed.is_some();
            if back && removed == container(one) && self.strangers.insert(id.clone()) {
                tracing::error!(
                    id,
                    host = self.parts.node.name,
                    "another registrator at this agent has our host's name and registers its containers as ours: \
                     give each a --hostname of its own; until then this instance is left to it",
                );
                self.parts.metrics.warnings.inc();
            }
        }
    }

    /// Leaves out what Consul refused a moment ago, unless it has changed since.
    pub(super) fn leave_refused(&mut self, actions: &mut Vec<Action>) {
        let now = Instant::now();
        let desired = &self.assembly.desired;
        self.refused.retain(|id, _| desired.contains_key(id));
        let (refused, retry) = (&self.refused, &mut self.clock.retry);
        actions.retain(|action| {
            let Action::Register(one) = action else { return true };
            let refusal = refused.get(&one.registration.id).filter(|last| last.desired == *one);
            let until = refusal.map(|refusal| refusal.until).filter(|until| *until > now);
            if let Some(until) = until {
                sooner(retry, until);
            }
            until.is_none()
        });
    }

    /// Notes down what the agent refused to register, which keeps nobody else from being
    /// registered; passes other errors on.
    pub(super) fn refuse(
        &mut self,
        action: Action,
        error: consul::Error,
    ) -> Result<(), consul::Error> {
        let (Action::Register(desired), consul::Error::Status { message, .. }) = (action, &error)
        else {
            return Err(error);
        };
        if message.contains(SCRIPTS_DISABLED) && !self.without_commands {
            tracing::warn!(
                "the agent runs no commands: SERVICE_CHECK_SCRIPT and _CMD are left out"
            );
            self.without_commands = true;
            self.derive_all();
            // Nothing else may wake us for a long time.
            sooner(&mut self.clock.retry, Instant::now());
            return Ok(());
        }
        let id = desired.registration.id.clone();
        let error = chain(&error);
        let before = self.refused.get(&id);
        if before.is_none_or(|refusal| refusal.error != error) {
            tracing::warn!(id, error, "consul refuses to register it, will retry");
            self.parts.metrics.warnings.inc();
        }
        let again = before.filter(|refusal| refusal.desired == desired);
        let pause = again.map_or(FIRST_PAUSE, |refusal| (refusal.pause * 2).min(LAST_PAUSE));
        let until = Instant::now() + pause;
        sooner(&mut self.clock.retry, until);
        self.refused.insert(id, Refusal { desired, error, pause, until });
        Ok(())
    }

    /// Forgets what Consul refused: it may be another one now.
    pub(super) fn forget_refusals(&mut self) {
        self.refused.clear();
        if std::mem::take(&mut self.without_commands) {
            self.derive_all();
        }
    }
}

/// Returns the container of an instance, by its short ID.
pub(super) fn container(actual: &Actual) -> Option<&str> {
    actual.service.meta.get(CONTAINER).map(String::as_str).filter(|short| !short.is_empty())
}
