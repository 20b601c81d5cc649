//! What must change in the agent. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use itertools::{EitherOrBoth, Itertools};

use crate::model::{Actual, Beat, DRAINING, Desired, State};

/// One change. Actions are ordered: removals come first, as a replaced container may reuse the
/// address it frees; what concerns one instance keeps its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Removes an instance.
    Deregister(String),
    /// Adds an instance, or replaces it together with its checks.
    Register(Arc<Desired>),
    /// Begins the maintenance of an instance with a reason, or ends it.
    Maintain(String, Option<String>),
    /// Sets the status of a TTL check.
    Beat(String, Beat),
}

/// Returns the changes that turn `actual` into `desired`.
///
/// Removed is only what `host` owns, and what is not in `kept`; what another host's registrator registered is not
/// replaced either. Maintenance that somebody else began is left as it is, and begun again where a registration ends it.
#[must_use]
pub fn plan<'a>(
    desired: impl IntoIterator<Item = (&'a String, &'a Arc<Desired>)>,
    actual: impl IntoIterator<Item = (&'a String, &'a Actual)>,
    host: &str,
    kept: &BTreeSet<String>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut additions = Vec::new();
    for (id, desired, actual) in pairs(desired, actual) {
        match (desired, actual) {
            (Some(desired), Some(actual)) if actual.is_anothers(host, desired) => {}
            (Some(desired), actual) => changes(id, desired, actual, &mut additions),
            (None, Some(actual)) if !kept.contains(id) && actual.is_owned_by(host) => {
                actions.push(Action::Deregister(id.clone()));
            }
            (None, _) => {}
        }
    }
    actions.append(&mut additions);
    actions
}

/// Walks through two maps side by side: each key once, with what either holds of it.
pub(crate) fn pairs<'a, K: Ord + 'a, A, B>(
    one: impl IntoIterator<Item = (&'a K, A)>,
    other: impl IntoIterator<Item = (&'a K, B)>,
) -> impl Iterator<Item = (&'a K, Option<A>, Option<B>)> {
    let both = one.into_iter().merge_join_by(other, |(one, _), (other, _)| one.cmp(other));
    both.map(|either| match either {
        EitherOrBoth::Both((key, one), (_, other)) => (key, Some(one), Some(other)),
        EitherOrBoth::Left((key, one)) => (key, Some(one), None),
        EitherOrBoth::Right((key, other)) => (key, None, Some(other)),
    })
}

fn changes(id: &str, desired: &Arc<Desired>, actual: Option<&Actual>, actions: &mut Vec<Action>) {
    let fresh = actual.is_none_or(|actual| {
        let told = actual.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, desired));
        !told && !actual.matches(desired)
    });
    if fresh {
        actions.push(Action::Register(desired.clone()));
    }
    let before = actual.and_then(|actual| actual.maintenance.as_deref());
    let foreign = before.filter(|reason| !reason.starts_with(DRAINING));
    let wanted = foreign.or(desired.maintenance.as_deref());
    // A registration replaces all checks, and maintenance is one of them.
    let holds = if fresh { None } else { before };
    if wanted != holds {
        actions.push(Action::Maintain(id.to_owned(), wanted.map(str::to_owned)));
    }
    for (check, beat) in &desired.beats {
        // A registration sets the first status of its checks, and says nothing about them.
        let holds = if fresh {
            beat.note.is_empty()
        } else {
            let known = actual.and_then(|actual| actual.checks.get(check));
            known.is_some_and(|known| known.matches(beat))
        };
        if !holds {
            actions.push(Action::Beat(check.clone(), beat.clone()));
        }
    }
}

/// Returns what `actual` is after an action was carried out.
pub fn applied(action: &Action, actual: &mut BTreeMap<String, Actual>) {
    match action {
        Action::Deregister(id) => drop(actual.remove(id)),
        Action::Register(desired) => {
            let told = Some(desired.clone());
            let registered = Actual { told, ..Actual::of(desired) };
            actual.insert(desired.registration.id.clone(), registered);
        }
        Action::Maintain(id, reason) => {
            if let Some(actual) = actual.get_mut(id) {
                actual.maintenance.clone_from(reason);
            }
        }
        Action::Beat(check, beat) => {
            for actual in actual.values_mut() {
                if let Some(known) = actual.checks.get_mut(check) {
                    *known = State { status: beat.status, output: beat.note.clone() };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{HOST, actual, desired};
    use proptest::prelude::*;

    type Desireds = BTreeMap<String, Arc<Desired>>;
    type Actuals = BTreeMap<String, Actual>;

    fn apply(actions: &[Action], actual: &Actuals) -> Actuals {
        let mut world = actual.clone();
        for action in actions {
            applied(action, &mut world);
        }
        world
    }

    fn desireds() -> impl Strategy<Value = Desireds> {
        prop::collection::vec(desired(), 0..8).prop_map(|all| {
            all.into_iter().map(|one| (one.registration.id.clone(), Arc::new(one))).collect()
        })
    }

    fn actuals() -> impl Strategy<Value = Actuals> {
        prop::collection::vec(actual(), 0..8)
            .prop_map(|all| all.into_iter().map(|one| (one.service.id.clone(), one)).collect())
    }

    proptest! {
        #[test]
        fn applying_a_plan_reaches_the_desired_state_and_the_next_plan_is_empty(
            desired in desireds(), actual in actuals()
        ) {
            let none = BTreeSet::new();
            let world = apply(&plan(&desired, &actual, HOST, &none), &actual);
            for (id, wanted) in &desired {
                if let Some(other) = actual.get(id).filter(|one| one.is_anothers(HOST, wanted)) {
                    prop_assert_eq!(&world[id], other);
                    continue;
                }
                prop_assert!(world[id].matches(wanted), "{id}");
                for (check, beat) in &wanted.beats {
                    prop_assert!(world[id].checks[check].matches(beat));
                }
                let foreign = actual.get(id).and_then(|actual| actual.maintenance.as_ref())
                    .filter(|reason| !reason.starts_with(DRAINING));
                prop_assert_eq!(&world[id].maintenance, &foreign.cloned().or(wanted.maintenance.clone()));
            }
            for (id, left) in &world {
                prop_assert!(desired.contains_key(id) || !left.is_owned_by(HOST), "{id}");
            }
            prop_assert_eq!(plan(&desired, &world, HOST, &none), []);
        }

        #[test]
        fn only_what_is_ours_and_this_hosts_is_removed(desired in desireds(), actual in actuals()) {
            for action in plan(&desired, &actual, HOST, &BTreeSet::new()) {
                if let Action::Deregister(id) = action {
                    prop_assert!(!desired.contains_key(&id));
                    prop_assert!(actual[&id].is_owned_by(HOST));
                }
            }
        }

        #[test]
        fn what_is_kept_is_not_removed(actual in actuals()) {
            let kept = actual.keys().cloned().collect();
            prop_assert_eq!(plan(&BTreeMap::new(), &actual, HOST, &kept), []);
        }

        #[test]
        fn removals_come_first(desired in desireds(), actual in actuals()) {
            let actions = plan(&desired, &actual, HOST, &BTreeSet::new());
            let removals = actions.iter().take_while(|action| matches!(action, Action::Deregister(_)));
            let all = actions.iter().filter(|action| matches!(action, Action::Deregister(_)));
            prop_assert_eq!(removals.count(), all.count());
        }
    }
}
