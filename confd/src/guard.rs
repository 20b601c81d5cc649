//! Guards a resource against mass removal: what vanished under doubt is held for a while.
//! Pure: no I/O, no clock, no async.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::dependency::Dependency;
use crate::instance::Instance;
use crate::resource::Guard as Limits;
use crate::snapshot::{Data, Doubt, Entry, Snapshot};

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
    pub held: Vec<Arc<Instance>>,
}

/// What one service had, and lost lately.
#[derive(Clone, Debug, Default)]
struct Service {
    /// What templates saw last, shared with the snapshot it came from: a copy of every instance is many megabytes
    /// in a large cluster.
    served: Option<Arc<Entry>>,
    /// When how many went.
    removals: VecDeque<(SystemTime, usize)>,
    hold: Option<Hold>,
    /// Whether it is what an earlier process knew, and was not asked for since.
    is_memory: bool,
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
            let served = Some(remembered(data));
            let service = Service { served, is_memory: true, ..Service::default() };
            guard.services.insert(dependency, service);
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
        // What an earlier process asked may be asked again only after other answers have come.
        self.services.retain(|dependency, known| asked.contains(dependency) || known.is_memory);
        for dependency in asked {
            let Some(entry) = snapshot.get(dependency) else { continue };
            let service = self.services.entry(dependency.clone()).or_default();
            service.is_memory = false;
            if !is_listed(&entry.data) {
                if let Some(data) = service.whole(entry, limits, now) {
                    guarded.update(&Arc::new(dependency.clone()), data, None, now);
                }
                continue;
            }
            let same = service.served.as_ref().is_some_and(|served| Arc::ptr_eq(served, entry));
            if same && service.hold.is_none() {
                continue;
            }
            let Some(listed) = listed(&entry.data) else { continue };
            let names = matches!(entry.data, Data::Services(_));
            match service.step(&listed, names, entry.doubt.as_ref(), limits, now) {
                None => service.served = Some(Arc::clone(entry)),
                Some(shown) => {
                    let data = unlisted(&entry.data, shown);
                    guarded.update(&Arc::new(dependency.clone()), data, None, now);
                    service.served = guarded.get(dependency).cloned();
                }
            }
        }
        guarded
    }

    /// Begins to guard what was asked for the first time.
    pub fn note(&mut self, asked: &BTreeSet<Dependency>, shown: &Snapshot) {
        for dependency in asked {
            if let Some(entry) = shown.get(dependency) {
                let service = self.services.entry(dependency.clone()).or_default();
                service.served = Some(Arc::clone(entry));
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
            if let Some(hold) = service.hold.take()
                && let Some(served) = &service.served
            {
                if !is_listed(&served.data) {
                    service.served = None;
                    continue;
                }
                let held: BTreeSet<_> = hold.held.iter().map(|i| identity(i)).collect();
                let mut rest = listed(&served.data).unwrap_or_default().into_owned();
                rest.retain(|instance| !held.contains(&identity(instance)));
                service.served = Some(remembered(unlisted(&served.data, rest)));
                service.removals.clear();
            }
        }
    }
}

fn is_listed(data: &Data) -> bool {
    matches!(data, Data::Instances(_) | Data::Services(_))
}

/// Returns what is served as an answer of its own.
fn remembered(data: Data) -> Arc<Entry> {
    Arc::new(Entry::following(None, data, SystemTime::UNIX_EPOCH))
}

/// Returns what an answer lists, as instances: a name of a service is one too.
fn listed(data: &Data) -> Option<Cow<'_, [Arc<Instance>]>> {
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
                .map(Arc::new)
                .collect(),
        )),
        _ => None,
    }
}

/// The reverse of [`listed`], for an answer of the same kind as `like`.
fn unlisted(like: &Data, instances: Vec<Arc<Instance>>) -> Data {
    match like {
        Data::Services(_) => Data::Services(
            instances.iter().map(|i| (i.id.clone(), i.tags.iter().cloned().collect())).collect(),
        ),
        _ => Data::Instances(instances),
    }
}

fn identity(instance: &Instance) -> (&str, &str) {
    (&instance.node, &instance.id)
}

/// Returns what two answers have together, the newer one's where both have it.
fn union(before: &Data, now: &Data) -> Data {
    match (before, now) {
        (Data::Keys(before), Data::Keys(now)) => {
            let mut keys = before.clone();
            keys.extend(now.iter().map(|(key, value)| (key.clone(), value.clone())));
            Data::Keys(keys)
        }
        (Data::Nodes(before), Data::Nodes(now)) => {
            let here: BTreeSet<&str> = now.iter().map(|node| node.name.as_str()).collect();
            let gone = before.iter().filter(|node| !here.contains(node.name.as_str()));
            let mut nodes: Vec<_> = gone.chain(now).cloned().collect();
            nodes.sort_by(|one, other| one.name.cmp(&other.name));
            Data::Nodes(nodes)
        }
        (before, _) => before.clone(),
    }
}

impl Service {
    /// Returns what to show instead of an answer that lists no instances; `None` if it is that. Nothing of it may go
    /// under doubt: nobody can tell which part of it a backend is made of.
    fn whole(&mut self, entry: &Arc<Entry>, limits: &Limits, now: SystemTime) -> Option<Data> {
        let doubt = entry.doubt.as_ref().or(self.hold.as_ref().map(|hold| &hold.doubt)).cloned();
        let since = self.hold.as_ref().map_or(now, |hold| hold.since);
        let expired = now.duration_since(since).is_ok_and(|age| age >= limits.hold.0);
        if let (Some(doubt), Some(served), false) = (doubt, &self.served, expired)
            && entry.data.shrank(&served.data)
        {
            let shown = union(&served.data, &entry.data);
            self.hold = Some(Hold { since, doubt, held: Vec::new() });
            self.served = Some(remembered(shown.clone()));
            return Some(shown);
        }
        self.hold = None;
        self.served = Some(Arc::clone(entry));
        None
    }

    /// Returns the instances (or `names` of services) to show instead of those that are listed; `None` if it is those.
    fn step(
        &mut self,
        listed: &[Arc<Instance>],
        names: bool,
        doubt: Option<&Doubt>,
        limits: &Limits,
        now: SystemTime,
    ) -> Option<Vec<Arc<Instance>>> {
        let here: BTreeSet<_> = listed.iter().map(|i| identity(i)).collect();
        let served = self.served.clone();
        let served = served.as_ref().and_then(|entry| self::listed(&entry.data));
        let served = served.as_deref().unwrap_or_default();
        let missing: Vec<Arc<Instance>> =
            served.iter().filter(|i| !here.contains(&identity(i))).cloned().collect();
        while self
            .removals
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at).is_ok_and(|age| age >= WINDOW))
        {
            self.removals.pop_front();
        }
        let lately: usize = self.removals.iter().map(|(_, count)| count).sum();
        let before = served.len() + lately;
        // A service whose name goes takes all of its instances with it: under doubt none may.
        let allowed = if names { 0 } else { limits.max_removal.of(before).max(ALWAYS) };
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
        if missing.is_empty() {
            return None;
        }
        if self.hold.is_none() {
            self.removals.push_back((now, missing.len()));
            return None;
        }
        let mut shown = listed.to_vec();
        shown.extend(missing);
        shown.sort_by(|one, other| one.order(other));
        Some(shown)
    }
}

#[cfg(test)]
mod tests;
