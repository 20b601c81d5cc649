//! What is not done now although it differs: removals that nobody confirmed, and what Consul refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Controller, DOUBT, chain};
use crate::guard;
use crate::model::{Actual, CONTAINER, Desired};
use crate::plan::{Action, pairs};

/// How long what Consul refuses for good is left alone, unless it changes.
const REFUSAL_PAUSE: Duration = Duration::from_secs(30);

/// What an agent says that must not run commands.
const SCRIPTS_DISABLED: &str = "Scripts are disabled";

/// What Consul refused to register.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(super) desired: Arc<Desired>,
    error: String,
    until: Instant,
}

impl Controller {
    /// Returns what must not be removed now: instances of containers that were not yet looked at,
    /// and without --cleanup those of containers that nobody saw ending.
    pub(super) fn kept(&self, actual: &BTreeMap<String, Actual>) -> BTreeSet<String> {
        let stays = |actual: &Actual| {
            let Some(short) = container(actual) else { return !self.parts.keep.cleanup };
            self.look.is_pending(short) || (!self.parts.keep.cleanup && !self.is_confirmed(short))
        };
        pairs(&self.desired, actual)
            .filter_map(|(id, desired, actual)| {
                let actual = actual.filter(|_| desired.is_none())?;
                (actual.is_owned_by(&self.parts.node.name) && stays(actual)).then(|| id.clone())
            })
            .collect()
    }

    /// Tells whether Docker itself said of this very container that it ended or changed.
    fn is_confirmed(&self, short: &str) -> bool {
        self.ended.contains(short) || self.containers.keys().any(|id| id.starts_with(short))
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

    /// Leaves out what Consul refused a moment ago, unless it has changed since.
    pub(super) fn leave_refused(&mut self, actions: &mut Vec<Action>) {
        let now = Instant::now();
        let desired = &self.desired;
        self.refused.retain(|id, refusal| desired.get(id) == Some(&refusal.desired));
        actions.retain(|action| match action {
            Action::Register(one) => {
                self.refused.get(&one.registration.id).is_none_or(|refusal| refusal.until <= now)
            }
            _ => true,
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
            self.due = true;
            return Ok(());
        }
        let id = desired.registration.id.clone();
        let text = chain(&error);
        if self.refused.get(&id).is_none_or(|refusal| refusal.error != text) {
            tracing::warn!(id, error = text, "consul refuses to register it, will retry");
            self.parts.metrics.warnings.inc();
        }
        let until = Instant::now() + REFUSAL_PAUSE;
        self.clock.retry.get_or_insert(until);
        self.refused.insert(id, Refusal { desired, error: text, until });
        Ok(())
    }
}

/// Returns the container of an instance, by its short ID.
pub(super) fn container(actual: &Actual) -> Option<&str> {
    actual.service.meta.get(CONTAINER).map(String::as_str).filter(|short| !short.is_empty())
}
