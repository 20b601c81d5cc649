//! Everything the source of services has answered, normalised: what templates are rendered from.
//! Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tera::Value;

use crate::ambassadors::Ambassador;
use crate::dependency::Dependency;
use crate::instance::Instance;

/// What `status` says of an instance that is only remembered.
pub const GONE: &str = "gone";
/// An answer of at least this many things is a large one.
const LARGE: usize = 500;

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Its meta data.
    pub meta: BTreeMap<String, String>,
}

/// The outcome of one health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Check {
    /// The node it runs on.
    pub node: String,
    /// Unique on its node.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// What its author noted.
    pub notes: String,
    /// The instance it belongs to; empty for a check of the node.
    pub service_id: String,
    /// The service it belongs to; empty for a check of the node.
    pub service_name: String,
}

/// The normalised answer to one [`Dependency`]. What changes without meaning (indexes, the
/// output of checks) is not part of it, so that equal answers compare equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// Names and tags of services.
    Services(BTreeMap<String, BTreeSet<String>>),
    /// Instances, by node and id. Those that are as they were are shared with the answer before: several answers are in
    /// use at a time, and a large one is many megabytes.
    Instances(Vec<Arc<Instance>>),
    /// Nodes, by name.
    Nodes(Vec<Node>),
    /// A node, if there is one of that name, and the instances on it.
    Node(Option<(Node, Vec<Arc<Instance>>)>),
    /// Names, in the source's order.
    Names(Vec<String>),
    /// A key's value, if there is one.
    Key(Option<String>),
    /// Keys, relative to the path asked for, and their values.
    Keys(BTreeMap<String, String>),
    /// Checks, by node and id.
    Checks(Vec<Check>),
    /// Ambassadors, by client.
    Ambassadors(Vec<Ambassador>),
    /// No answer, and there will be none: why.
    Refused(String),
}

impl Data {
    /// Returns the IDs of the instances in it.
    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        let instances = if let Self::Instances(instances) = self { &instances[..] } else { &[] };
        instances.iter().map(|instance| instance.id.clone())
    }

    /// Shares with `before` what is the same in both.
    pub(crate) fn share(&mut self, before: &Self) {
        let (Self::Instances(now), Self::Instances(before)) = (self, before) else { return };
        let known: BTreeMap<_, _> = before.iter().map(|i| ((&i.node, &i.id), i)).collect();
        for instance in now {
            if let Some(same) = known.get(&(&instance.node, &instance.id))
                && **same == *instance
            {
                *instance = Arc::clone(same);
            }
        }
    }

    /// Tells whether something that `before` had is missing here.
    #[must_use]
    pub fn shrank(&self, before: &Self) -> bool {
        match (before, self) {
            (Self::Services(before), Self::Services(now)) => {
                before.keys().any(|name| !now.contains_key(name))
            }
            (Self::Instances(before), Self::Instances(now)) => {
                let now: BTreeSet<_> = now.iter().map(|i| (&i.node, &i.id)).collect();
                before.iter().any(|i| !now.contains(&(&i.node, &i.id)))
            }
            (Self::Keys(before), Self::Keys(now)) => {
                before.keys().any(|key| !now.contains_key(key))
            }
            (Self::Nodes(before), Self::Nodes(now)) => now.len() < before.len(),
            (Self::Node(Some((_, before))), Self::Node(Some((_, now)))) => now.len() < before.len(),
            (Self::Node(Some(_)), Self::Node(None)) | (Self::Key(Some(_)), Self::Key(None)) => true,
            (Self::Checks(before), Self::Checks(now)) => now.len() < before.len(),
            (Self::Names(before), Self::Names(now)) => now.len() < before.len(),
            _ => false,
        }
    }

    /// Returns how many things this answer lists.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Services(services) => services.len(),
            Self::Instances(instances) => instances.len(),
            Self::Nodes(nodes) => nodes.len(),
            Self::Node(node) => node.as_ref().map_or(0, |(_, instances)| 1 + instances.len()),
            Self::Names(names) => names.len(),
            Self::Key(value) => usize::from(value.is_some()),
            Self::Keys(keys) => keys.len(),
            Self::Checks(checks) => checks.len(),
            Self::Ambassadors(ambassadors) => ambassadors.len(),
            Self::Refused(_) => 0,
        }
    }

    /// Tells whether this answer lists nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why what an answer lacks may not be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The source lost its state: its index went back.
    Restarted,
    /// The source was away, and lacks it since: it may have lost its state, and more has happened since than before.
    Interrupted,
    /// The nodes they ran on are gone or failing, so nobody could tell.
    Nodes(BTreeSet<String>),
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Restarted => f.write_str("consul lost its state"),
            Self::Interrupted => f.write_str("consul was away, and knows less since"),
            Self::Nodes(nodes) => {
                let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
                write!(f, "nodes gone or failing: {}", nodes.join(", "))
            }
        }
    }
}

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
        kept.get_or_insert_with(|| value(&self.data)).clone()
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
                value(&Data::Services(all))
            }
            (Data::Instances(_), Some((former, at))) if recent(at) => {
                Value::from_serializable(former)
            }
            _ => self.value(),
        }
    }
}

fn value(data: &Data) -> Value {
    match data {
        Data::Services(services) => {
            let entry = |(name, tags): (&String, &BTreeSet<String>)| {
                Value::from(BTreeMap::from([
                    ("name".to_owned(), Value::normal_string(name)),
                    ("tags".to_owned(), Value::from_serializable(tags)),
                ]))
            };
            Value::from(services.iter().map(entry).collect::<Vec<_>>())
        }
        Data::Instances(instances) => Value::from_serializable(instances),
        Data::Nodes(nodes) => Value::from_serializable(nodes),
        Data::Node(None) | Data::Key(None) | Data::Refused(_) => Value::none(),
        Data::Node(Some((node, instances))) => Value::from(BTreeMap::from([
            ("node".to_owned(), Value::from_serializable(node)),
            ("services".to_owned(), Value::from_serializable(instances)),
        ])),
        Data::Names(names) => Value::from_serializable(names),
        Data::Key(Some(value)) => Value::normal_string(value),
        Data::Keys(keys) => Value::from_serializable(keys),
        Data::Checks(checks) => Value::from_serializable(checks),
        Data::Ambassadors(ambassadors) => Value::from_serializable(ambassadors),
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
