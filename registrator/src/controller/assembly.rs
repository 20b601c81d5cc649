//! Which container has which ID: everything that must be registered. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::doubts::container;
use super::known::Known;
use crate::model::{Actual, Desired, HOST};
use crate::registration;

/// Everything that must be registered.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// By ID.
    pub(crate) desired: BTreeMap<String, Arc<Desired>>,
    /// The IDs of each container.
    ids: BTreeMap<String, BTreeSet<String>>,
    /// Whether who has which ID depends on more than the container itself.
    contested: bool,
}

/// A container, and what is wrong with an ID of its own.
pub(crate) type Problem = (String, String);

impl Assembly {
    /// Puts together what all containers want, and says who does not get the ID of his choice.
    pub(crate) fn of(
        containers: &BTreeMap<String, Known>,
        actual: &BTreeMap<String, Actual>,
        host: &str,
    ) -> (Self, Vec<Problem>) {
        let mut all = Self::default();
        let mut losers = all.claim(containers);
        all.evade(actual, host, &mut losers);
        let mut problems = Vec::new();
        for (key, loser, why) in losers {
            let Some(known) = containers.get(&loser) else { continue };
            let taken = format!("{key}:{}", loser.get(..12).unwrap_or(&loser));
            let place = known.instances.iter().position(|one| one.id == key);
            if let Some(desired) = place.and_then(|place| known.renamed(place, taken.clone())) {
                let problem = format!("the ID {key:?} is {why}, registered as {taken:?}");
                problems.push((loser, problem));
                all.desired.insert(taken, desired);
            }
        }
        all.bury(containers, actual, host);
        for (id, desired) in &all.desired {
            all.ids.entry(desired.container.clone()).or_default().insert(id.clone());
        }
        (all, problems)
    }

    /// Gives each ID to one container, and returns who else wanted it.
    fn claim(&mut self, containers: &BTreeMap<String, Known>) -> Vec<(String, String, String)> {
        let mut losers = Vec::new();
        for (id, known) in containers {
            for desired in &known.desired {
                let key = &desired.registration.id;
                let Some(other) = self.desired.get(key) else {
                    self.desired.insert(key.clone(), desired.clone());
                    continue;
                };
                // The one that started first keeps the ID.
                let is_later = (&desired.since, id) > (&other.since, &other.container);
                let loser = if is_later { id.clone() } else { other.container.clone() };
                losers.push((key.clone(), loser, "another container's".to_owned()));
                self.contested = true;
                if !is_later {
                    self.desired.insert(key.clone(), desired.clone());
                }
            }
        }
        losers
    }

    /// Leaves the IDs alone that another host's registrator has at this agent.
    fn evade(
        &mut self,
        actual: &BTreeMap<String, Actual>,
        host: &str,
        losers: &mut Vec<(String, String, String)>,
    ) {
        let foreign = |(id, desired): (&String, &Arc<Desired>)| {
            let other = actual.get(id).filter(|one| one.is_anothers(host, desired))?;
            let why = match other.service.meta.get(HOST) {
                Some(owner) => format!("registered by the registrator of host {owner:?}"),
                None => "that of a service that is not ours".to_owned(),
            };
            Some((id.clone(), desired.container.clone(), why))
        };
        let foreign: Vec<_> = self.desired.iter().filter_map(foreign).collect();
        for loser in foreign {
            self.contested = true;
            self.desired.remove(&loser.0);
            losers.push(loser);
        }
    }

    /// Adds what stays of containers that ended, where nobody else has the ID.
    fn bury(
        &mut self,
        containers: &BTreeMap<String, Known>,
        actual: &BTreeMap<String, Actual>,
        host: &str,
    ) {
        for (id, known) in containers {
            let Some(reason) = known.tombstone.as_deref() else { continue };
            self.contested = true;
            let left: Vec<_> = known.left.iter().map(|desired| Actual::of(desired)).collect();
            let its = |one: &&Actual| {
                one.is_owned_by(host) && container(one).is_some_and(|short| id.starts_with(short))
            };
            for one in left.iter().chain(actual.values().filter(its)) {
                let desired = registration::tombstone(one, id, &known.since, reason);
                let key = desired.registration.id.clone();
                self.desired.entry(key).or_insert_with(|| Arc::new(desired));
            }
        }
    }

    /// Does the same again for some containers that have changed. Returns the IDs that they had or have; `None` if that
    /// depends on others, and all must be put together.
    pub(crate) fn again(
        &mut self,
        changed: &BTreeSet<String>,
        containers: &BTreeMap<String, Known>,
        actual: &BTreeMap<String, Actual>,
        host: &str,
    ) -> Option<BTreeSet<String>> {
        if self.contested {
            return None;
        }
        let mut concerned = BTreeSet::new();
        for id in changed.iter().filter_map(|id| self.ids.remove(id)).flatten() {
            self.desired.remove(&id);
            concerned.insert(id);
        }
        for id in changed {
            let Some(known) = containers.get(id) else { continue };
            if known.tombstone.is_some() {
                return None;
            }
            for desired in &known.desired {
                let key = desired.registration.id.clone();
                let foreign = actual.get(&key).is_some_and(|one| one.is_anothers(host, desired));
                if foreign || self.desired.insert(key.clone(), desired.clone()).is_some() {
                    return None;
                }
                concerned.insert(key.clone());
                self.ids.entry(id.clone()).or_default().insert(key);
            }
        }
        Some(concerned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{HOST, instance};
    use proptest::prelude::*;

    type Containers = BTreeMap<String, Known>;

    /// A container's instances by number, perhaps the same as another's.
    fn known(container: u8, ids: &BTreeSet<u8>, tombstone: bool) -> Known {
        let desired = ids.iter().map(|id| {
            let container = format!("{container:012}");
            Arc::new(Desired { container, ..instance(&format!("node1:c{id}:80")) })
        });
        let tombstone = tombstone.then(|| "exit status 1".to_owned());
        let mut known = Known::default().buried(tombstone, String::new());
        known.desired = desired.collect();
        known
    }

    fn containers() -> impl Strategy<Value = Containers> {
        let ids = prop::collection::btree_set(0..12_u8, 0..3);
        let ended = prop::sample::select(vec![false, false, false, false, false, true]);
        prop::collection::btree_map(0..5_u8, (ids, ended), 0..5).prop_map(|all| {
            let one = |(number, (ids, ended)): (u8, (BTreeSet<u8>, bool))| {
                let ids = if ended { BTreeSet::new() } else { ids };
                (format!("{number:012}"), known(number, &ids, ended))
            };
            all.into_iter().map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_put_together_piece_by_piece_is_the_same_as_all_at_once(
            before in containers(), after in containers()
        ) {
            let nothing = BTreeMap::new();
            let (mut some, _) = Assembly::of(&before, &nothing, HOST);
            let old = some.desired.clone();
            let (all, _) = Assembly::of(&after, &nothing, HOST);
            let changed = before.keys().chain(after.keys()).cloned().collect();
            if let Some(concerned) = some.again(&changed, &after, &nothing, HOST) {
                prop_assert_eq!(&some.desired, &all.desired);
                prop_assert_eq!(&some.ids, &all.ids);
                let all_ids: BTreeSet<_> = old.keys().chain(all.desired.keys()).cloned().collect();
                prop_assert_eq!(concerned, all_ids);
            } else {
                prop_assert!(Assembly::of(&before, &nothing, HOST).0.contested || all.contested);
            }
        }

        #[test]
        fn who_did_not_change_is_left_alone(before in containers(), number in 0..5_u8, id in 0..12_u8) {
            let nothing = BTreeMap::new();
            let (mut some, _) = Assembly::of(&before, &nothing, HOST);
            let changed = format!("{number:012}");
            let mut after = before;
            after.insert(changed.clone(), known(number, &[id].into(), false));
            let (all, _) = Assembly::of(&after, &nothing, HOST);
            if some.again(&[changed].into(), &after, &nothing, HOST).is_some() {
                prop_assert_eq!(some.desired, all.desired);
            }
        }
    }
}
