//! What is known about a container.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use services::{CheckKind, Container, Instance};
use tokio::time::Instant;

use crate::model::Desired;
use crate::registration;

/// What is known about a container.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The container, if it runs.
    pub(crate) container: Option<Container>,
    /// Why its instances stay although it ended.
    pub(crate) tombstone: Option<String>,
    /// When it started last, if it ended.
    pub(crate) since: String,
    /// What the operator's tag templates give for it.
    pub(crate) tags: Vec<String>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) desired: Vec<Arc<Desired>>,
    /// The latest event that led us to it, in nanoseconds since 1970.
    pub(crate) event_time: Option<i64>,
    /// The latest one that was answered by a registration.
    answered: Option<i64>,
    /// What was said about it already.
    pub(crate) warnings: BTreeSet<String>,
    drain: Option<(String, Instant)>,
    /// Whether its instances were compared at least once.
    pub(crate) met: bool,
    /// What was wanted of one that has ended: its agent may forget it.
    pub(crate) left: Vec<Arc<Desired>>,
}

impl Known {
    /// Returns this container after its end; its instances stay for this reason.
    pub(crate) fn buried(self, tombstone: Option<String>, since: String) -> Self {
        let left = if self.desired.is_empty() { self.left } else { self.desired };
        Self { tombstone, since, left, ..Self::default() }
    }

    /// Replaces the instances, `without_commands` leaving out checks that the agent would refuse.
    pub(crate) fn set_instances(&mut self, mut instances: Vec<Instance>, without_commands: bool) {
        if without_commands {
            for instance in &mut instances {
                instance.checks.retain(|check| !matches!(check.kind, CheckKind::Command { .. }));
            }
        }
        self.instances = instances;
        self.renew_desired();
    }

    /// Puts the instances into maintenance until the container ended, or survived.
    pub(crate) fn drain(&mut self, reason: String, until: Instant) {
        self.drain = Some((reason, until));
        self.renew_desired();
    }

    /// Returns until when the container may still be ending.
    pub(crate) fn drained_until(&self) -> Option<Instant> {
        self.drain.as_ref().map(|(_, until)| *until)
    }

    /// Ends the drain of a container that survived it; tells whether it did.
    pub(crate) fn end_drain(&mut self, now: Instant) -> bool {
        let over = self.drain.take_if(|(_, until)| *until <= now).is_some();
        if over {
            self.renew_desired();
        }
        over
    }

    /// Ends the drain, as the container was started again.
    pub(crate) fn revive(&mut self) {
        self.drain = None;
    }

    /// Returns the time of the latest event, the first time that it is answered by a registration.
    pub(crate) fn answer_event(&mut self) -> Option<i64> {
        let time = self.event_time.filter(|_| self.answered != self.event_time);
        self.answered = self.event_time;
        time
    }

    /// Returns an instance under another ID.
    pub(crate) fn renamed(&self, place: usize, id: String) -> Option<Arc<Desired>> {
        let instance = Instance { id, ..self.instances.get(place)?.clone() };
        Some(self.desire(instance))
    }

    fn renew_desired(&mut self) {
        self.desired = self.instances.iter().cloned().map(|one| self.desire(one)).collect();
    }

    fn desire(&self, instance: Instance) -> Arc<Desired> {
        let container = self.container.as_ref();
        let container = container.expect("only containers that run have instances");
        let mut desired = registration::desired(instance, container, self.event_time);
        desired.maintenance = self.drain.as_ref().map(|(reason, _)| reason.clone());
        Arc::new(desired)
    }

    /// Returns what is worth printing.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "name": self.container.as_ref().map(|container| &container.name),
            "instances": self.instances.iter().map(|one| &one.id).collect::<Vec<_>>(),
            "tombstone": self.tombstone,
            "draining": self.drain.as_ref().map(|(reason, _)| reason),
            "warnings": self.warnings,
        })
    }
}
