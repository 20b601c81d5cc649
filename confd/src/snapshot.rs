//! Everything the source of services has answered, normalised: what templates are rendered from.
//! Pure: no I/O, no clock, no async.

mod data;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tera::Value;

use crate::dependency::Dependency;
use crate::instance::Instance;

pub use data::{Check, Data, Doubt, Node};

/// What `status` says of an instance that is only remembered.
pub const GONE: &str = "gone";
/// An answer of at least this many things is a large one.
const LARGE: usize = 500;

/// An answer, and what earlier answers had that it has not.
#[derive(Debug)]
pub struct Entry {
    /// The latest answer.
    pub data: Data,
    /// Why what it lacks may not be gone.
    pub doubt: Option<Doubt>,
    /// Names of services that went, with their last tags and when.
    former_services: BTreeMap<String, (BTreeSet<String>, SystemTime)>,
    /// The last instances of a service that has none now, and when they went.
    former_instances: Option<(Vec<Arc<Instance>>, SystemTime)>,
    /// The latest answer as templates see it, made when the first one asks and kept until there is a newer answer.
    value: Mutex<Option<Value>>,
}

impl Entry {
    /// Returns the entry for `data`, the answer after `before`, at the time `now`.
    #[must_use]
    pub fn following(before: Option<&Self>, data: Data, now: SystemTime) -> Self {
        let mut former_services = BTreeMap::new();
        let mut former_instances = None;
        match (before.map(|entry| (entry, &entry.data)), &data) {
            (Some((entry, Data::Services(had))), Data::Services(has)) => {
                former_services.clone_from(&entry.former_services);
                former_services
                    .extend(had.iter().map(|(name, tags)| (name.clone(), (tags.clone(), now))));
                former_services.retain(|name, _| !has.contains_key(name));
            }
            (Some((entry, Data::Instances(had))), Data::Instances(has)) if has.is_empty() => {
                former_instances = if had.is_empty() {
                    entry.former_instances.clone()
                } else {
                    let gone = |i: &Arc<Instance>| {
                        Arc::new(Instance { status: GONE.into(), ..Instance::clone(i) })
                    };
                    Some((had.iter().map(gone).collect(), now))
                };
            }
            _ => {}
        }
        Self { data, doubt: None, former_services, former_instances, value: Mutex::default() }
    }

    /// Returns the answer as templates see it.
    pub fn value(&self) -> Value {
        let mut kept = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_with(|| self.data.value()).clone()
    }

    /// Tells whether it is large enough that what templates see of it is not kept for long.
    pub(crate) fn is_large(&self) -> bool {
        self.data.len() >= LARGE
    }

    /// Forgets how templates see it; the next one makes it anew.
    pub(crate) fn forget_value(&self) {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Returns the answer with what went less than `keep` before `now`.
    #[must_use]
    pub fn value_with_former(&self, keep: Duration, now: SystemTime) -> Value {
        let recent = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age < keep);
        match (&self.data, &self.former_instances) {
            (Data::Services(has), _) if !self.former_services.is_empty() => {
                let former = self.former_services.iter().filter(|(_, (_, at))| recent(at));
                let mut all = has.clone();
                all.extend(former.map(|(name, (tags, _))| (name.clone(), tags.clone())));
                Data::Services(all).value()
            }
            (Data::Instances(_), Some((former, at))) if recent(at) => {
                Value::from_serializable(former)
            }
            _ => self.value(),
        }
    }
}

/// The latest answers to all questions. A copy is cheap and never changes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(BTreeMap<Arc<Dependency>, Arc<Entry>>);

impl Snapshot {
    /// Returns the answer to `dependency`, if there was one yet.
    #[must_use]
    pub fn get(&self, dependency: &Dependency) -> Option<&Arc<Entry>> {
        self.0.get(dependency)
    }

    /// Takes in an answer, and tells whether it differs from the one before.
    pub fn update(
        &mut self,
        dependency: &Arc<Dependency>,
        data: Data,
        doubt: Option<Doubt>,
        now: SystemTime,
    ) -> bool {
        let before = self.0.get(dependency);
        if before.is_some_and(|entry| entry.data == data && entry.doubt == doubt) {
            return false;
        }
        let entry = Entry { doubt, ..Entry::following(before.map(AsRef::as_ref), data, now) };
        if let Some(before) = before {
            // Older snapshots may live for long.
            before.forget_value();
        }
        self.0.insert(Arc::clone(dependency), Arc::new(entry));
        true
    }

    /// Forgets how templates see large answers, which takes as much memory as these: the next one makes it anew, in about
    /// a microsecond for each instance.
    pub(crate) fn give_back(&self) {
        for entry in self.0.values().filter(|entry| entry.is_large()) {
            entry.forget_value();
        }
    }

    /// Forgets the answer to `dependency`.
    pub fn remove(&mut self, dependency: &Dependency) {
        self.0.remove(dependency);
    }

    /// Returns all that is known about the service `name`: the answers to `asked`, and its tags.
    #[must_use]
    pub fn known(&self, name: &str, asked: &BTreeSet<Dependency>) -> Vec<Data> {
        let answers =
            asked.iter().filter_map(|dependency| Some(self.get(dependency)?.data.clone()));
        let tags = self.0.values().filter_map(|entry| match &entry.data {
            Data::Services(all) => {
                let tags = all.get(name).cloned()?;
                Some(Data::Services(BTreeMap::from([(name.to_owned(), tags)])))
            }
            _ => None,
        });
        answers.chain(tags).collect()
    }

    /// Returns this snapshot as if the services `names` did not exist, and never had.
    #[must_use]
    pub fn without(&self, names: &[String]) -> Self {
        let mut rest = self.clone();
        for (dependency, entry) in &mut rest.0 {
            let data = match (&**dependency, &entry.data) {
                (Dependency::Service(service), _) if names.contains(&service.name) => {
                    Data::Instances(Vec::new())
                }
                (_, Data::Services(all)) => {
                    let mut all = all.clone();
                    all.retain(|name, _| !names.contains(name));
                    let mut former = entry.former_services.clone();
                    former.retain(|name, _| !names.contains(name));
                    let left = Entry::following(None, Data::Services(all), SystemTime::UNIX_EPOCH);
                    *entry = Arc::new(Entry { former_services: former, ..left });
                    continue;
                }
                _ => continue,
            };
            *entry = Arc::new(Entry::following(None, data, SystemTime::UNIX_EPOCH));
        }
        rest
    }

    /// Returns the part of this snapshot that answers `dependencies`, as it is stored with a generation.
    #[must_use]
    pub fn inputs<'a>(
        &'a self,
        dependencies: &'a BTreeSet<Dependency>,
    ) -> Vec<(&'a Dependency, &'a Data)> {
        let entry = |d: &'a Dependency| self.get(d).map(|entry| (d, &entry.data));
        dependencies.iter().filter_map(entry).collect()
    }
}

#[cfg(test)]
mod tests;
