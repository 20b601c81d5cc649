//! Looking at containers: lists and inspections, beside the loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use services::{Container, NetworkMode};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::known::Known;
use super::{Controller, Inspected, ListedAll, chain};
use crate::args::Deregister;
use crate::ending;

/// How many inspections run at a time.
const AT_A_TIME: usize = 8;
/// How long until a failed list or inspection is tried again; Docker being away altogether is
/// noticed by whoever reads its events.
const PAUSE: Duration = Duration::from_secs(1);

/// Who is looked at, and who is to be.
#[derive(Default)]
pub(crate) struct Look {
    /// Whether everything is to be listed.
    pub(crate) everywhere: bool,
    /// Whether everything was listed at least once.
    pub(crate) listed: bool,
    pub(crate) inspections: JoinSet<Inspected>,
    pub(crate) listing: JoinSet<ListedAll>,
    /// When to look again at what failed.
    pub(crate) retry: Option<Instant>,
    /// The state of containers in the last list.
    fingerprints: BTreeMap<String, u64>,
    waiting: VecDeque<String>,
    /// The time of the event that led there; 0 where it was the list.
    asked: BTreeMap<String, i64>,
    /// Being inspected; true = something happened since.
    busy: BTreeMap<String, bool>,
    failed: Vec<String>,
    /// Inspected since the list was asked for: newer than what it says.
    newer: BTreeSet<String>,
}

impl Look {
    /// Asks for an inspection because of an event.
    pub(crate) fn at(&mut self, id: String, time_nano: i64) {
        let asked = self.asked.entry(id.clone()).or_default();
        *asked = time_nano.max(*asked);
        match self.busy.get_mut(&id) {
            Some(again) => *again = true,
            None if !self.waiting.contains(&id) => self.waiting.push_back(id),
            None => {}
        }
    }

    /// Asks again for what failed.
    pub(crate) fn again(&mut self) {
        for id in std::mem::take(&mut self.failed) {
            self.at(id, 0);
        }
    }

    /// Tells whether more containers are to be looked at than can be at a time.
    pub(crate) fn is_crowded(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells whether a container, by its short ID, is still to be looked at.
    pub(crate) fn is_pending(&self, short_id: &str) -> bool {
        let ids = self.waiting.iter().chain(self.busy.keys()).chain(&self.failed);
        ids.into_iter().any(|id| id.starts_with(short_id))
    }

    /// Returns what is worth printing.
    pub(crate) fn summary(&self) -> Value {
        json!({"waiting": self.waiting, "busy": self.busy.keys().collect::<Vec<_>>(),
               "failed": self.failed})
    }
}

impl Controller {
    /// Starts the lists and inspections that can be started now.
    pub(crate) fn start_looking(&mut self) {
        let Some(engine) = self.parts.engine.borrow().clone() else { return };
        if self.look.everywhere && self.look.listing.is_empty() {
            self.look.everywhere = false;
            self.look.newer.clear();
            let (engine, all) = (engine.clone(), self.parts.keep.deregister != Deregister::Always);
            self.look.listing.spawn(async move { engine.list(all).await });
        }
        while self.look.busy.len() < AT_A_TIME
            && let Some(id) = self.look.waiting.pop_front()
        {
            self.look.busy.insert(id.clone(), false);
            let engine = engine.clone();
            self.look.inspections.spawn(async move {
                let inspected = engine.inspect(&id).await;
                (id, inspected)
            });
        }
    }

    pub(crate) fn listed(&mut self, listed: Result<ListedAll, JoinError>) {
        let listed = match listed {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                tracing::debug!(
                    error = chain(&error),
                    "the containers cannot be listed, will retry"
                );
                self.look.retry = Some(Instant::now() + PAUSE);
                self.look.everywhere = true;
                return;
            }
            Err(_) => return,
        };
        let before = std::mem::take(&mut self.look.fingerprints);
        for one in &listed {
            let unchanged = before.get(&one.id) == Some(&one.fingerprint)
                && (self.containers.contains_key(&one.id) || !one.running);
            // A container that ended before we came matters only if its instances may stay.
            if !unchanged && (one.running || self.parts.keep.deregister != Deregister::Always) {
                self.look.at(one.id.clone(), 0);
            }
            self.look.fingerprints.insert(one.id.clone(), one.fingerprint);
        }
        let super::look::Look { fingerprints, busy, newer, .. } = &self.look;
        self.containers.retain(|id, _| {
            fingerprints.contains_key(id) || busy.contains_key(id) || newer.contains(id)
        });
        self.look.listed = true;
        self.believe = std::mem::take(&mut self.doubting);
        self.due = true;
    }

    pub(crate) fn inspected(&mut self, done: Result<Inspected, JoinError>) {
        let Ok((id, inspected)) = done else { return };
        let again = self.look.busy.remove(&id).unwrap_or_default();
        let event_time = self.look.asked.get(&id).copied().filter(|time| *time != 0);
        if again {
            self.look.waiting.push_back(id.clone());
        } else {
            self.look.asked.remove(&id);
        }
        match inspected {
            Ok(document) => self.learn(&id, document, event_time),
            Err(error) => {
                tracing::debug!(id, error = chain(&error), "cannot be inspected, will retry");
                self.look.failed.push(id);
                self.look.retry = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// Takes over what Docker says about a container.
    fn learn(&mut self, id: &str, document: Option<Value>, event_time: Option<i64>) {
        self.due = true;
        self.look.newer.insert(id.to_owned());
        let short = id.get(..12).unwrap_or(id).to_owned();
        let container = document.as_ref().map(Container::from_inspect).transpose();
        let container = match container {
            Ok(container) => container,
            Err(error) => {
                tracing::warn!(container = short, error = chain(&error), "cannot be understood");
                self.parts.metrics.warnings.inc();
                None
            }
        };
        match (container, document) {
            (Some(container), Some(document)) if container.running => {
                self.ended.remove(&short);
                let known = self.containers.entry(id.to_owned()).or_default();
                known.tombstone = None;
                known.event_time = event_time.or(known.event_time);
                if known.container.as_ref().is_none_or(|old| old.started_at != container.started_at)
                {
                    known.revive();
                }
                let (tags, problems) = self.tags.of(&document);
                known.tags = tags;
                let name = container.name.clone();
                known.container = Some(container);
                for problem in problems {
                    self.warn(id, &name, problem);
                }
                self.derive(id);
                self.derive_guests(id, &name);
            }
            (Some(container), Some(_)) => {
                let policy = self.parts.keep.deregister;
                let reason =
                    ending::tombstone(policy, container.exit_code, container.out_of_memory);
                self.end(id, short, reason);
            }
            _ => self.end(id, short, None),
        }
    }

    fn end(&mut self, id: &str, short: String, tombstone: Option<String>) {
        let name = self.containers.get(id).and_then(|known| known.container.as_ref());
        let name = name.map(|container| container.name.clone());
        if tombstone.is_some() {
            self.containers.insert(id.to_owned(), Known::buried(tombstone));
        } else {
            self.containers.remove(id);
            self.ended.insert(short);
        }
        if let Some(name) = name {
            self.derive_guests(id, &name);
        }
    }

    /// Works out the instances of a container.
    fn derive(&mut self, id: &str) {
        let Some(known) = self.containers.get(id) else { return };
        let Some(container) = &known.container else { return };
        let mut options = self.parts.options.clone();
        options.tags.clone_from(&known.tags);
        let owner = |wanted: &str| {
            let named =
                |known: &&Known| known.container.as_ref().is_some_and(|one| one.name == wanted);
            let known = self.containers.get(wanted);
            known.or_else(|| self.containers.values().find(named))?.container.as_ref()
        };
        let derived = services::instances(container, &options, &self.parts.node, &owner);
        let name = container.name.clone();
        for warning in derived.warnings {
            self.warn(id, &name, warning.to_string());
        }
        if let Some(known) = self.containers.get_mut(id) {
            known.set_instances(derived.instances, self.without_commands);
        }
    }

    /// Works out again the instances of all containers that use this one's network.
    fn derive_guests(&mut self, id: &str, name: &str) {
        let guests: Vec<_> = self
            .containers
            .iter()
            .filter(|(_, known)| {
                known.container.as_ref().is_some_and(|guest| {
                    matches!(&guest.network_mode, NetworkMode::Container(host) if host == id || host == name)
                })
            })
            .map(|(guest, _)| guest.clone())
            .collect();
        for guest in guests {
            self.derive(&guest);
        }
    }

    /// Works out all instances again, after what shapes them has changed.
    pub(crate) fn derive_all(&mut self) {
        for id in self.containers.keys().cloned().collect::<Vec<_>>() {
            self.derive(&id);
        }
    }

    /// Says what is wrong with a container, once.
    pub(crate) fn warn(&mut self, id: &str, name: &str, problem: String) {
        let Some(known) = self.containers.get_mut(id) else { return };
        if known.warnings.contains(&problem) {
            return;
        }
        self.parts.metrics.warnings.inc();
        tracing::warn!(container = name, problem, "a setting cannot be used");
        known.warnings.insert(problem);
    }
}

impl Controller {
    /// Looks at everything once, Docker and Consul, and changes nothing.
    pub(crate) async fn look_once(&mut self) -> anyhow::Result<()> {
        self.ask().await?;
        self.look.everywhere = true;
        self.start_looking();
        while let Some(listed) = self.look.listing.join_next().await {
            if let Ok(Err(error)) = listed {
                return Err(error.into());
            }
            self.listed(listed);
        }
        self.start_looking();
        while let Some(done) = self.look.inspections.join_next().await {
            self.inspected(done);
            self.start_looking();
        }
        Ok(())
    }

    /// Returns what is wanted and what is, side by side.
    pub(crate) fn rows(&self) -> Vec<crate::list::Row> {
        let nothing = BTreeMap::new();
        let actual = self.actual.as_ref().unwrap_or(&nothing);
        crate::list::rows(&self.desired, actual, &self.parts.node.name)
    }
}
