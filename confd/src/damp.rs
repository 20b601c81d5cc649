//! Leaves out an instance that comes and goes, until it stays. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::dependency::Dependency;
use crate::instance::Instance;
use crate::resource::Flap;
use crate::snapshot::{Data, Entry, Snapshot};

/// A penalty below this is forgotten.
const NEGLIGIBLE: f64 = 0.1;

/// What makes an instance the same when it comes back. A new container is a new instance, whatever its name.
type Identity = (String, String, String);

/// An instance that has gone at least once, lately.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// One for each time that it went, halved every half-life.
    penalty: f64,
    /// When the penalty was that.
    at: SystemTime,
    held: bool,
}

impl Record {
    fn penalty(&self, half_life: Duration, now: SystemTime) -> f64 {
        let age = now.duration_since(self.at).unwrap_or_default().as_secs_f64();
        self.penalty * 0.5_f64.powf(age / half_life.as_secs_f64().max(1e-3))
    }
}

#[derive(Clone, Debug, Default)]
struct Service {
    before: Option<Arc<Entry>>,
    records: BTreeMap<Identity, Record>,
}

/// Remembers which instances of a resource's services came and went.
#[derive(Clone, Debug, Default)]
pub struct Damper {
    services: BTreeMap<Dependency, Service>,
    /// Who is left out now.
    held: BTreeSet<String>,
}

fn identity(instance: &Instance) -> Identity {
    let container = instance.meta.get("container").unwrap_or_default().to_owned();
    (instance.node.clone(), instance.id.clone(), container)
}

impl Damper {
    /// Returns `snapshot` without the instances that flap, but never without all of a service.
    pub fn filter(
        &mut self,
        asked: &BTreeSet<Dependency>,
        snapshot: &Snapshot,
        settings: &Flap,
        now: SystemTime,
    ) -> Snapshot {
        let mut damped = snapshot.clone();
        self.held.clear();
        if settings.limit == 0 {
            self.services.clear();
            return damped;
        }
        self.services.retain(|dependency, _| asked.contains(dependency));
        for dependency in asked {
            let Some(entry) = snapshot.get(dependency) else {
                self.services.remove(dependency);
                continue;
            };
            let Data::Instances(listed) = &entry.data else { continue };
            let service = self.services.entry(dependency.clone()).or_default();
            service.note(entry, listed, settings, now);
            if !service.records.values().any(|record| record.held) {
                continue;
            }
            let is_held =
                |i: &&Arc<Instance>| service.records.get(&identity(i)).is_some_and(|r| r.held);
            let (held, rest): (Vec<&Arc<Instance>>, Vec<&Arc<Instance>>) =
                listed.iter().partition(is_held);
            if rest.is_empty() || held.is_empty() {
                continue;
            }
            self.held.extend(held.iter().map(|i| format!("{} on {}", i.id, i.node)));
            let rest = rest.into_iter().cloned().collect();
            let doubt = entry.doubt.clone();
            damped.update(&Arc::new(dependency.clone()), Data::Instances(rest), doubt, now);
        }
        damped
    }

    /// Returns who is left out, as `ID on NODE`.
    #[must_use]
    pub fn held(&self) -> &BTreeSet<String> {
        &self.held
    }

    /// Returns when somebody may be let in again.
    #[must_use]
    pub fn next_end(&self, settings: &Flap) -> Option<SystemTime> {
        let records = self.services.values().flat_map(|service| service.records.values());
        let ends = records.filter(|record| record.held).map(|record| {
            let halvings = (record.penalty / settings.release()).log2().max(0.0);
            record.at + settings.half_life.0.mul_f64(halvings) + Duration::from_millis(1)
        });
        ends.min()
    }
}

impl Service {
    fn note(
        &mut self,
        entry: &Arc<Entry>,
        listed: &[Arc<Instance>],
        settings: &Flap,
        now: SystemTime,
    ) {
        let half_life = settings.half_life.0;
        if let Some(before) = &self.before
            && !Arc::ptr_eq(before, entry)
            && let Data::Instances(had) = &before.data
        {
            let here: BTreeSet<_> = listed.iter().map(|i| (&i.node, &i.id)).collect();
            for gone in had.iter().filter(|i| !here.contains(&(&i.node, &i.id))) {
                let fresh = Record { penalty: 0.0, at: now, held: false };
                let record = self.records.entry(identity(gone)).or_insert(fresh);
                // Twice the limit at most: whoever stays is back after two half-lives.
                let penalty = (record.penalty(half_life, now) + 1.0).min(settings.most());
                *record = Record { penalty, at: now, ..*record };
            }
        }
        self.before = Some(Arc::clone(entry));
        self.records.retain(|_, record| {
            let penalty = record.penalty(half_life, now);
            record.held = penalty >= f64::from(settings.limit) - 1e-9
                || record.held && penalty >= settings.release();
            record.held || penalty >= NEGLIGIBLE
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependency::Service as Question;
    use crate::units::Span;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rng() -> Dependency {
        Dependency::Service(Question::named("rng"))
    }

    fn snapshot(ids: &[usize], now: SystemTime) -> Snapshot {
        let list = ids.iter().map(|id| Instance { id: id.to_string(), ..Instance::default() });
        let mut snapshot = Snapshot::default();
        snapshot.update(&rng().into(), Data::Instances(list.map(Arc::new).collect()), None, now);
        snapshot
    }

    fn shown(snapshot: &Snapshot) -> BTreeSet<String> {
        match &snapshot.get(&rng()).unwrap().data {
            Data::Instances(list) => list.iter().map(|i| i.id.clone()).collect(),
            _ => unreachable!("asked for instances"),
        }
    }

    fn settings(limit: u32) -> Flap {
        Flap { limit, half_life: Span(SECOND * 60) }
    }

    #[test]
    fn whoever_flaps_is_left_out_and_comes_back_when_it_stays() {
        let (mut damper, asked, flap) = (Damper::default(), [rng()].into(), settings(3));
        let mut now = SystemTime::UNIX_EPOCH;
        let mut see = |ids: &[usize], seconds: u32| {
            now += SECOND * seconds;
            let shown = shown(&damper.filter(&asked, &snapshot(ids, now), &flap, now));
            (shown.len(), damper.next_end(&flap).map(|end| end.duration_since(now).unwrap()))
        };
        assert_eq!(see(&[1, 2], 0), (2, None));
        for _ in 0..2 {
            assert_eq!(see(&[1], 0).0, 1);
            assert_eq!(see(&[1, 2], 0), (2, None));
        }
        assert_eq!(see(&[1], 0).0, 1);
        let (count, end) = see(&[1, 2], 0);
        assert_eq!(count, 1, "the third time it is left out");
        assert_eq!(end.unwrap().as_secs(), 60, "one half-life");
        assert_eq!(see(&[1, 2], 59).0, 1);
        assert_eq!(see(&[1, 2], 2), (2, None));
    }

    proptest! {
        #[test]
        fn never_is_a_service_left_without_anybody_and_only_flapping_ones_are_left_out(
            steps in prop::collection::vec((prop::collection::btree_set(0_usize..5, 0..5), 0_u32..30), 1..60),
            limit in 0_u32..5,
        ) {
            let (mut damper, asked, flap) = (Damper::default(), [rng()].into(), settings(limit));
            let (mut now, mut before) = (SystemTime::UNIX_EPOCH, BTreeSet::<usize>::new());
            let mut went = BTreeMap::<usize, u32>::new();
            for (ids, seconds) in steps {
                now += SECOND * seconds;
                for gone in before.difference(&ids) {
                    *went.entry(*gone).or_default() += 1;
                }
                let list: Vec<usize> = ids.iter().copied().collect();
                let shown = shown(&damper.filter(&asked, &snapshot(&list, now), &flap, now));
                prop_assert_eq!(shown.is_empty(), ids.is_empty());
                for id in &ids {
                    let often = went.get(id).copied().unwrap_or_default();
                    prop_assert!(shown.contains(&id.to_string()) || (limit > 0 && often >= limit));
                }
                prop_assert_eq!(damper.held().len(), ids.len() - shown.len());
                before = ids;
            }
            // In the end, peace brings everybody back.
            let list: Vec<usize> = before.into_iter().collect();
            damper.filter(&asked, &snapshot(&list, now), &flap, now);
            now += SECOND * 60 * 3;
            let rest = shown(&damper.filter(&asked, &snapshot(&list, now), &flap, now));
            prop_assert_eq!(rest.len(), list.len());
        }
    }
}
