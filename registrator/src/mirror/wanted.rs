//! What the keys must be: said by the controller, which waits for none of them, and read by the task that writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::Doubt;

/// What an instance's key must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// This key, with this value.
    Is(String, Arc<[u8]>),
    /// Whatever it is: nobody knows yet what becomes of the instance.
    Any,
}

/// What is wanted of the instances, by ID; `None` = no key.
pub(crate) type Wants = BTreeMap<String, Option<Want>>;

/// What all keys must be. Newer wants replace older ones, so that however slow Consul is, what is written is what is
/// wanted last.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    state: Mutex<State>,
    noticed: Notify,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct State {
    all: BTreeMap<String, Want>,
    /// What changed since it was read last.
    changed: BTreeSet<String>,
    doubt: Doubt,
    /// How often something was wanted.
    round: u64,
    /// The round that was not waited for any longer.
    given_up: u64,
}

/// How far the keys are what they must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last round that was carried out.
    pub(crate) done: u64,
    /// How many keys are held.
    pub(crate) held: usize,
}

/// Something to carry out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) round: u64,
    pub(crate) doubt: Doubt,
    /// What is wanted of those that changed, or of all.
    pub(crate) wants: Wants,
}

impl Wanted {
    /// Says what is wanted of some instances, or (`everything`) of all there are.
    pub(crate) fn say(&self, wants: Wants, everything: bool, doubt: Doubt) {
        let mut state = self.state();
        let before = state.changed.len();
        if everything {
            let gone: Vec<_> =
                state.all.keys().filter(|id| !wants.contains_key(*id)).cloned().collect();
            for id in gone {
                state.all.remove(&id);
                state.changed.insert(id);
            }
        }
        for (id, want) in wants {
            if state.all.get(&id) == want.as_ref() {
                continue;
            }
            match want {
                Some(want) => drop(state.all.insert(id.clone(), want)),
                None => drop(state.all.remove(&id)),
            }
            state.changed.insert(id);
        }
        state.doubt = state.doubt.max(doubt);
        if state.changed.len() > before || doubt != Doubt::No {
            state.round += 1;
            self.noticed.notify_one();
        }
    }

    /// Waits until something else is wanted.
    pub(crate) async fn changed(&self) {
        self.noticed.notified().await;
    }

    /// Returns what is to be done now: of all instances if what is known of the keys is in doubt, else of those that
    /// changed.
    pub(crate) fn take(&self, known: Doubt) -> Order {
        let mut state = self.state();
        let changed = std::mem::take(&mut state.changed);
        let doubt = std::mem::take(&mut state.doubt).max(known);
        let wants = if doubt == Doubt::No {
            let want = |id: String| {
                let want = state.all.get(&id).cloned();
                (id, want)
            };
            changed.into_iter().map(want).collect()
        } else {
            state.all.iter().map(|(id, want)| (id.clone(), Some(want.clone()))).collect()
        };
        Order { round: state.round, doubt, wants }
    }

    /// Notes down how far the keys are.
    pub(crate) fn reached(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }

    /// Returns how far the keys are.
    pub(crate) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until the keys are what was wanted so far, but not for long; once that was in vain, not at all until they
    /// are written again.
    pub(crate) async fn caught_up(&self, limit: Duration) {
        let (round, given_up) = {
            let state = self.state();
            (state.round, state.given_up)
        };
        let mut progress = self.progress.subscribe();
        if progress.borrow_and_update().done < given_up {
            return;
        }
        let done = tokio::time::timeout(limit, progress.wait_for(|now| now.done >= round)).await;
        if done.is_err() {
            self.state().given_up = round;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(value: &str) -> Want {
        Want::Is("key".into(), value.as_bytes().into())
    }

    fn wants<const N: usize>(wants: [(&str, Option<Want>); N]) -> Wants {
        wants.map(|(id, want)| (id.to_owned(), want)).into()
    }

    #[test]
    fn of_several_wants_the_last_is_carried_out_and_only_what_changed() {
        let wanted = Wanted::default();
        wanted.say(wants([("a", Some(is("1"))), ("b", Some(is("1")))]), true, Doubt::No);
        wanted.say(wants([("a", Some(is("2")))]), false, Doubt::No);
        assert_eq!(
            wanted.take(Doubt::No).wants,
            wants([("a", Some(is("2"))), ("b", Some(is("1")))])
        );
        wanted.say(wants([("a", None), ("b", Some(is("1")))]), false, Doubt::No);
        assert_eq!(wanted.take(Doubt::No).wants, wants([("a", None)]));
        assert_eq!(wanted.take(Doubt::Ours).wants, wants([("b", Some(is("1")))]));
        wanted.say(Wants::new(), true, Doubt::No);
        assert_eq!(wanted.take(Doubt::No).wants, wants([("b", None)]));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_nobody_writes_are_waited_for_once() {
        let wanted = Wanted::default();
        let limit = Duration::from_millis(50);
        let in_vain = async || {
            let before = tokio::time::Instant::now();
            wanted.caught_up(limit).await;
            before.elapsed() >= limit
        };
        assert!(!in_vain().await);
        wanted.say(wants([("a", Some(is("1")))]), false, Doubt::No);
        assert!(in_vain().await);
        wanted.say(wants([("a", Some(is("2")))]), false, Doubt::No);
        assert!(!in_vain().await);
        wanted.reached(Progress { done: wanted.take(Doubt::No).round, held: 1 });
        wanted.say(wants([("a", Some(is("3")))]), false, Doubt::No);
        assert!(in_vain().await);
    }
}
