//! Which containers are to be looked at, and which are being. Pure.

mod ask;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Inspected, ListedAll};

/// How many inspections run at a time.
const AT_A_TIME: usize = 8;
/// How many are asked for before their containers have started.
const EARLY: usize = 8;
/// What the list is called among what could not be looked at.
const LIST: &str = "";
/// So many are enough for a pass, however many more wait: it goes on while these are registered.
const BATCH: usize = 32;

/// Who is looked at, and who is to be.
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
    busy: BTreeMap<String, Busy>,
    /// To be inspected before their start.
    early: Vec<String>,
    failed: Vec<String>,
    /// How often in a row a container, or the list ([`LIST`]), could not be looked at.
    failures: BTreeMap<String, u32>,
    /// The signal that was sent to one that is still to be inspected.
    killed: BTreeMap<String, String>,
    /// Inspected since the list was asked for: newer than what it says.
    newer: BTreeSet<String>,
    turns: Arc<Semaphore>,
    /// How many were inspected since the last pass.
    fresh: usize,
}

/// A container that is being inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    /// Since it joined a network: the engine answers when the start under way is done, which is sooner than if it were
    /// asked after its event.
    Early,
    /// So, and the event of the start has come: an answer that it runs is up to date.
    Started,
    /// The answer says what is.
    Asked,
    /// Something happened since the question.
    Again,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            everywhere: false,
            listed: false,
            inspections: JoinSet::new(),
            listing: JoinSet::new(),
            retry: None,
            fingerprints: BTreeMap::new(),
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            busy: BTreeMap::new(),
            early: Vec::new(),
            failed: Vec::new(),
            failures: BTreeMap::new(),
            killed: BTreeMap::new(),
            newer: BTreeSet::new(),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            fresh: 0,
        }
    }
}

impl Look {
    /// Asks for an inspection because of an event.
    pub(crate) fn at(&mut self, id: String, time_nano: i64) {
        let asked = self.asked.entry(id.clone()).or_default();
        *asked = time_nano.max(*asked);
        match self.busy.get_mut(&id) {
            Some(busy) => *busy = Busy::Again,
            None if !self.waiting.contains(&id) => self.waiting.push_back(id),
            None => {}
        }
    }

    /// Asks for an inspection because the container started.
    pub(crate) fn at_start(&mut self, id: String, time_nano: i64) {
        match self.busy.get_mut(&id) {
            Some(busy @ Busy::Early) => {
                *busy = Busy::Started;
                self.asked.insert(id, time_nano);
            }
            _ => self.at(id, time_nano),
        }
    }

    /// Asks for an inspection of a container that is about to start, if not many are.
    pub(crate) fn ahead(&mut self, id: String) {
        let early = self.busy.values().filter(|busy| matches!(busy, Busy::Early | Busy::Started));
        if early.count() < EARLY && !self.busy.contains_key(&id) {
            self.busy.insert(id.clone(), Busy::Early);
            self.early.push(id);
        }
    }

    /// Notes down the signal that was sent to a container, if it is still to be inspected.
    pub(crate) fn killed(&mut self, id: &str, signal: &str) {
        if self.is_pending(id) {
            self.killed.insert(id.to_owned(), signal.to_owned());
        }
    }

    /// Forgets the signal that was sent to a container, and returns it.
    pub(crate) fn forget_signal(&mut self, id: &str) -> Option<String> {
        self.killed.remove(id)
    }

    /// Notes down that a container was inspected.
    pub(super) fn learned(&mut self, id: &str) {
        self.fresh += 1;
        if !self.listing.is_empty() {
            self.newer.insert(id.to_owned());
        }
    }

    /// Tells whether a container is neither in the last list nor newer than it.
    pub(super) fn is_unlisted(&self, id: &str) -> bool {
        let listed = self.fingerprints.contains_key(id);
        !listed && !self.busy.contains_key(id) && !self.newer.contains(id)
    }

    /// Asks again for what failed.
    pub(crate) fn again(&mut self) {
        self.everywhere |= self.failures.contains_key(LIST);
        for id in std::mem::take(&mut self.failed) {
            self.at(id, 0);
        }
    }

    /// Tells whether it pays to wait for more: more containers are to be looked at than can be at
    /// a time, and only a few have been.
    pub(crate) fn is_crowded(&self) -> bool {
        let waiting = self.waiting.len() + self.busy().count();
        waiting > AT_A_TIME && self.fresh < BATCH
    }

    /// Notes down that a pass works with what was inspected so far.
    pub(crate) fn passed(&mut self) {
        self.fresh = 0;
    }

    /// Notes down that a container, or the list ([`LIST`]), could not be looked at; tells whether that is worth
    /// a warning: the first time may be an engine that is about to go.
    fn fail(&mut self, id: &str) -> bool {
        let failures = self.failures.entry(id.to_owned()).or_default();
        *failures += 1;
        *failures == 2
    }

    /// Tells whether a container, by its short ID, is still to be looked at.
    pub(crate) fn is_pending(&self, short_id: &str) -> bool {
        let ids = self.waiting.iter().chain(self.busy()).chain(&self.failed);
        ids.into_iter().any(|id| id.starts_with(short_id))
    }

    /// Returns those of which an answer is awaited that counts.
    fn busy(&self) -> impl Iterator<Item = &String> {
        self.busy.iter().filter(|(_, busy)| **busy != Busy::Early).map(|(id, _)| id)
    }

    /// Returns what is worth printing.
    pub(crate) fn summary(&self) -> Value {
        json!({"waiting": self.waiting, "busy": self.busy.keys().collect::<Vec<_>>(),
               "failed": self.failed})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_failed_is_asked_for_again_when_its_time_has_come() {
        let mut look = Look::default();
        assert!(!look.fail(LIST), "the first time may be an engine that is about to go");
        assert!(!look.everywhere, "not before");
        look.again();
        assert!(look.everywhere);
    }

    #[test]
    fn a_signal_is_kept_for_one_that_is_still_to_be_inspected_and_for_nobody_else() {
        let mut look = Look::default();
        look.at("new".into(), 1);
        look.killed("new", "15");
        look.killed("strange", "15");
        assert_eq!(look.killed.iter().collect::<Vec<_>>(), [(&"new".into(), &"15".into())]);
        look.forget_signal("new");
        assert!(look.killed.is_empty());
    }

    #[test]
    fn an_answer_from_before_the_start_counts_only_once_its_event_has_come() {
        let mut look = Look::default();
        look.ahead("new".into());
        assert!(!look.is_pending("new") && !look.is_crowded());
        look.at_start("new".into(), 1);
        assert!(look.is_pending("new"));
        assert_eq!((look.busy["new"], look.asked["new"]), (Busy::Started, 1));
        look.at("new".into(), 2);
        assert_eq!((look.busy["new"], look.asked["new"]), (Busy::Again, 2));
    }

    #[test]
    fn only_a_few_are_asked_for_before_their_start() {
        let mut look = Look::default();
        (0..=EARLY).for_each(|number| look.ahead(format!("c{number}")));
        assert_eq!(look.early.len(), EARLY);
    }
}
