//! Guards a resource against mass removal: what vanished under doubt is held for a while.
//! Pure: no I/O, no clock, no async.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::dependency::Dependency;
use crate::instance::Instance;
use crate::resource::Guard as Limits;
use crate::snapshot::{Data, Doubt, Snapshot};

/// The time within which removals are counted together.
const WINDOW: Duration = Duration::from_secs(30);
/// So many may always go: a small service has nothing else than big steps.
const ALWAYS: usize = 3;

/// Instances of one service that are held although the source does not list them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Since when.
    pub since: SystemTime,
    /// Why they may not be gone.
    pub doubt: Doubt,
    /// What is held.
    pub held: Vec<Instance>,
}

/// What one service had, and lost lately.
#[derive(Clone, Debug, Default)]
struct Service {
    served: Vec<Instance>,
    /// When how many went.
    removals: VecDeque<(SystemTime, usize)>,
    hold: Option<Hold>,
}

/// Remembers what each service of a resource had, and holds it where it vanishes under doubt.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    services: BTreeMap<Dependency, Service>,
}

impl Guard {
    /// Remembers what an earlier process served, from the generation it accepted last.
    #[must_use]
    pub fn remembering(inputs: Vec<(Dependency, Data)>) -> Self {
        let mut guard = Self::default();
        for (dependency, data) in inputs {
            if let Some(served) = listed(&data) {
                let served = served.into_owned();
                guard.services.insert(dependency, Service { served, ..Service::default() });
            }
        }
        guard
    }

    /// Returns `snapshot` with everything in it that has to be held.
    ///
    /// A removal is believed where the source confirmed it and nothing speaks against it. It is
    /// held where there is doubt, and more would go within 30 s than `limits` allow. A hold ends
    /// when the missing are back, when they are within the limits again, or after `limits.hold`.
    pub fn filter(
        &mut self,
        asked: &BTreeSet<Dependency>,
        snapshot: &Snapshot,
        limits: &Limits,
        now: SystemTime,
    ) -> Snapshot {
        let mut guarded = snapshot.clone();
        self.services.retain(|dependency, _| asked.contains(dependency));
        for dependency in asked {
            let Some(entry) = snapshot.get(dependency) else { continue };
            let Some(listed) = listed(&entry.data) else { continue };
            let service = self.services.entry(dependency.clone()).or_default();
            let shown = service.step(&listed, entry.doubt.as_ref(), limits, now);
            if shown != *listed {
                let data = unlisted(&entry.data, shown);
                guarded.update(&Arc::new(dependency.clone()), data, None, now);
            }
        }
        guarded
    }

    /// Begins to guard what was asked for the first time.
    pub fn note(&mut self, asked: &BTreeSet<Dependency>, shown: &Snapshot) {
        for dependency in asked {
            if let Some(listed) = shown.get(dependency).and_then(|entry| listed(&entry.data)) {
                let service = self.services.entry(dependency.clone()).or_default();
                service.served = listed.into_owned();
            }
        }
    }

    /// Returns the questions whose answers are guarded.
    #[must_use]
    pub fn guarded(&self) -> BTreeSet<Dependency> {
        self.services.keys().cloned().collect()
    }

    /// Returns what is held, by question.
    #[must_use]
    pub fn holds(&self) -> BTreeMap<&Dependency, &Hold> {
        let holds =
            self.services.iter().filter_map(|(d, service)| Some((d, service.hold.as_ref()?)));
        holds.collect()
    }

    /// Returns when the next hold ends by itself.
    #[must_use]
    pub fn next_end(&self, limits: &Limits) -> Option<SystemTime> {
        self.holds().values().map(|hold| hold.since + limits.hold.0).min()
    }

    /// Believes every removal that is held, because someone who knows says so.
    pub fn accept(&mut self) {
        for service in self.services.values_mut() {
            if let Some(hold) = service.hold.take() {
                let held: BTreeSet<_> = hold.held.iter().map(identity).collect();
                service.served.retain(|instance| !held.contains(&identity(instance)));
                service.removals.clear();
            }
        }
    }
}

/// Returns what an answer lists, as instances: a name of a service is one too.
fn listed(data: &Data) -> Option<Cow<'_, [Instance]>> {
    match data {
        Data::Instances(instances) => Some(Cow::Borrowed(instances)),
        Data::Services(services) => Some(Cow::Owned(
            services
                .iter()
                .map(|(name, tags)| Instance {
                    id: name.clone(),
                    tags: tags.iter().cloned().collect(),
                    ..Instance::default()
                })
                .collect(),
        )),
        _ => None,
    }
}

/// The reverse of [`listed`], for an answer of the same kind as `like`.
fn unlisted(like: &Data, instances: Vec<Instance>) -> Data {
    match like {
        Data::Services(_) => Data::Services(
            instances.into_iter().map(|i| (i.id, i.tags.into_iter().collect())).collect(),
        ),
        _ => Data::Instances(instances),
    }
}

fn identity(instance: &Instance) -> (&str, &str) {
    (&instance.node, &instance.id)
}

impl Service {
    /// Returns the instances to show.
    fn step(
        &mut self,
        listed: &[Instance],
        doubt: Option<&Doubt>,
        limits: &Limits,
        now: SystemTime,
    ) -> Vec<Instance> {
        let here: BTreeSet<_> = listed.iter().map(identity).collect();
        let missing: Vec<Instance> =
            self.served.iter().filter(|i| !here.contains(&identity(i))).cloned().collect();
        while self
            .removals
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at).is_ok_and(|age| age >= WINDOW))
        {
            self.removals.pop_front();
        }
        let lately: usize = self.removals.iter().map(|(_, count)| count).sum();
        let before = self.served.len() + lately;
        let allowed = limits.max_removal.of(before).max(ALWAYS);
        let too_many = lately + missing.len() > allowed
            || (!missing.is_empty() && listed.len() < limits.min_instances);
        let doubt = doubt.or(self.hold.as_ref().map(|hold| &hold.doubt));
        let since = self.hold.as_ref().map_or(now, |hold| hold.since);
        let expired = now.duration_since(since).is_ok_and(|age| age >= limits.hold.0);
        self.hold = match doubt {
            Some(doubt) if too_many && !expired => {
                Some(Hold { since, doubt: doubt.clone(), held: missing.clone() })
            }
            _ => None,
        };
        let mut shown = listed.to_vec();
        if self.hold.is_some() {
            shown.extend(missing);
            shown.sort_by(Instance::order);
        } else if !missing.is_empty() {
            self.removals.push_back((now, missing.len()));
        }
        self.served.clone_from(&shown);
        shown
    }
}

#[cfg(test)]
mod tests;
