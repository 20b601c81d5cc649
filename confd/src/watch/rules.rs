//! How the index of blocking queries is followed, and when an answer is doubted. Pure: no I/O, no clock, no async.

use crate::snapshot::Doubt;

/// What a watch knows of the source from one answer to the next.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The index to wait with; `None` asks for an answer at once.
    index: Option<u64>,
    /// The newest index that an answer which counted had.
    newest: Option<u64>,
    /// Whether there was no connection since the last answer.
    cut_off: bool,
}

impl Rules {
    /// Returns the index to wait with.
    pub(super) fn index(&self) -> Option<u64> {
        self.index
    }

    /// Notes the index of any answer, and tells whether it went back.
    pub(super) fn heard(&mut self, index: Option<u64>) -> bool {
        let went_back = index < self.index;
        self.index = consul::index::next(self.index, index);
        went_back
    }

    /// Notes that there was no answer. A source that comes back may have forgotten what it knew: nobody waits for it to
    /// get past the old index.
    pub(super) fn missed(&mut self, cut_off: bool) {
        self.index = None;
        self.cut_off |= cut_off;
    }

    /// Has the next question answered at once.
    pub(super) fn start_afresh(&mut self) {
        self.index = None;
    }

    /// Returns the index of the last answer that counted.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Looks for a reason in the source itself to doubt that what is missing from a consistent answer with this `index` is
    /// gone. `newest` is the index when it was there, and `ours` says whether it was this process that saw it.
    pub(super) fn doubt(
        &self,
        index: Option<u64>,
        newest: Option<u64>,
        ours: bool,
    ) -> Option<Doubt> {
        if index < newest {
            Some(Doubt::Restarted)
        } else if self.cut_off && ours {
            Some(Doubt::Interrupted)
        } else {
            None
        }
    }

    /// Notes that the answer with this index counts.
    pub(super) fn taken(&mut self, index: Option<u64>) {
        self.newest = index.or(self.newest);
        self.cut_off = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What can happen to a Consul, or to the way to it.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Comes(u8),
        Goes(u8),
        /// Nothing of ours, but the index jumps.
        Other(u64),
        /// It starts empty, with any index.
        Loses(u64),
        /// It restarts with what it had, and with any index: a snapshot was restored.
        Restores(u64),
        /// It answers an error, such as 429.
        Busy,
        /// A server that is behind answers the next stale read: from an empty catalog, with an index of its own.
        Behind(u64),
    }

    fn events(with_losses: bool) -> impl Strategy<Value = Vec<Event>> {
        let usual = prop_oneof![
            (0..6_u8).prop_map(Event::Comes),
            (0..6_u8).prop_map(Event::Goes),
            (1..9_u64).prop_map(Event::Other),
            Just(Event::Busy),
            (0..40_u64).prop_map(Event::Behind),
        ];
        let losses =
            prop_oneof![(0..60_u64).prop_map(Event::Loses), (0..60_u64).prop_map(Event::Restores),];
        let one =
            if with_losses { prop_oneof![4 => usual, 1 => losses].boxed() } else { usual.boxed() };
        prop::collection::vec(one, 0..40)
    }

    #[derive(Default)]
    struct World {
        truth: BTreeSet<u8>,
        index: u64,
        /// Whether something was lost since the last answer.
        lost: bool,
        errors: Vec<bool>,
        behind: Option<u64>,
        rules: Rules,
        known: Option<BTreeSet<u8>>,
        doubt: Option<Doubt>,
    }

    impl World {
        fn happens(&mut self, event: Event) {
            match event {
                Event::Comes(one) => drop(self.truth.insert(one)),
                Event::Goes(one) => drop(self.truth.remove(&one)),
                Event::Other(more) => self.index += more,
                Event::Busy => self.errors.push(false),
                Event::Behind(index) => self.behind = Some(index),
                Event::Loses(index) | Event::Restores(index) => {
                    if matches!(event, Event::Loses(_)) {
                        self.lost |= self.known.as_ref().is_some_and(|known| !known.is_empty());
                        self.truth.clear();
                    }
                    self.index = index;
                    self.errors.push(true);
                }
            }
            self.index += 1;
        }

        /// Asks once, as `Watches::ask` does.
        fn ask(&mut self) {
            if let Some(cut_off) = self.errors.pop() {
                return self.rules.missed(cut_off);
            }
            let (mut answer, mut index) = (self.truth.clone(), Some(self.index));
            if let Some(behind) = self.behind.take().filter(|_| self.known.is_some()) {
                (answer, index) = (BTreeSet::new(), Some(behind));
            }
            self.rules.heard(index);
            if let Some(known) = &self.known {
                if known.is_subset(&answer) {
                    self.doubt = if *known == answer { self.doubt.take() } else { None };
                } else {
                    (answer, index) = (self.truth.clone(), Some(self.index));
                    if !known.is_subset(&answer) {
                        self.doubt = self.rules.doubt(index, self.rules.newest(), true);
                    }
                }
            }
            self.rules.taken(index);
            self.known = Some(answer);
        }
    }

    proptest! {
        #[test]
        fn what_is_known_follows_what_is_true(all in events(true)) {
            let mut world = World::default();
            for event in all {
                world.happens(event);
                world.ask();
            }
            // All errors, one answer that may be behind, and one that waits in vain.
            for _ in 0..world.errors.len() + 2 {
                world.ask();
            }
            prop_assert_eq!(world.known, Some(world.truth));
            prop_assert_eq!(world.rules.index().is_some_and(|index| index > world.index.max(1)), false);
        }

        #[test]
        fn what_goes_with_the_sources_memory_is_doubted_and_nothing_else_is(
            all in events(true), calm in events(false)
        ) {
            let mut world = World::default();
            for event in all {
                world.happens(event);
                let (before, answers) = (world.known.clone(), world.errors.is_empty());
                world.ask();
                let shrank = before.is_some_and(|b| !b.is_subset(world.known.as_ref().unwrap()));
                if world.lost && shrank {
                    prop_assert!(world.doubt.is_some());
                }
                world.lost &= !answers;
            }
            let mut world = World::default();
            for event in calm {
                world.happens(event);
                world.ask();
                prop_assert_eq!(&world.doubt, &None);
            }
        }
    }
}
