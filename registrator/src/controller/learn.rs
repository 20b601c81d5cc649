//! What Docker says about containers, taken over.

use daemon::error::chain;

use super::{Controller, Found};
use crate::ending;
use crate::model::Actual;

impl Controller {
    /// Takes over what Docker says about a container.
    pub(super) fn learn(&mut self, id: &str, found: Option<Found>, event_time: Option<i64>) {
        self.due.containers.insert(id.to_owned());
        self.look.learned(id);
        let short = id.get(..12).unwrap_or(id).to_owned();
        let found = match found {
            Some((Ok(container), document)) => Some((container, document)),
            Some((Err(error), _)) => {
                tracing::warn!(container = short, error = chain(&error), "cannot be understood");
                self.parts.metrics.warnings.inc();
                None
            }
            None => None,
        };
        match found {
            Some((mut container, document)) if container.running => {
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
                container.forget_labels(&self.parts.options);
                known.container = Some(container);
                for problem in problems {
                    self.warn(id, &name, problem);
                }
                self.derive(id);
                self.derive_guests(id, &name);
                if let Some(signal) = self.look.forget_signal(id) {
                    self.drain(id, &signal);
                }
            }
            Some((container, _)) => {
                let policy = self.parts.keep.deregister;
                let reason =
                    ending::tombstone(policy, container.exit_code, container.out_of_memory);
                self.end(id, short, reason, container.started_at);
            }
            None => self.end(id, short, None, String::new()),
        }
    }

    fn end(&mut self, id: &str, short: String, tombstone: Option<String>, since: String) {
        self.look.forget_signal(id);
        self.guests.remove(id);
        let name = self.containers.get(id).and_then(|known| known.container.as_ref());
        let name = name.map(|container| container.name.clone()).unwrap_or_default();
        if tombstone.is_some() {
            let known = self.containers.remove(id).unwrap_or_default();
            for desired in &known.desired {
                let instance = &desired.registration.id;
                if self
                    .noted
                    .insert(instance.clone(), String::new())
                    .is_some_and(|since| !since.is_empty())
                {
                    self.journal.note("stop", &Actual::of(desired).service);
                }
            }
            self.containers.insert(id.to_owned(), known.buried(tombstone, since));
        } else {
            self.containers.remove(id);
            self.ended.insert(short);
        }
        self.derive_guests(id, &name);
    }

    /// Forgets the containers that are neither in the list nor newer than it.
    pub(super) fn forget_unlisted(&mut self) {
        let unlisted = self.containers.keys().filter(|id| self.look.is_unlisted(id));
        for id in unlisted.cloned().collect::<Vec<_>>() {
            let known = self.containers.remove(&id).and_then(|known| known.container);
            self.guests.remove(&id);
            self.derive_guests(&id, &known.map(|container| container.name).unwrap_or_default());
        }
    }
}
