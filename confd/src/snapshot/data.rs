//! The answer to one question, normalised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tera::Value;

use crate::ambassadors::Ambassador;
use crate::instance::Instance;

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

/// The normalised answer to one [`Dependency`](crate::dependency::Dependency). What changes without meaning (indexes, the
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
    /// Returns the keys of the instances in it.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        let instances = if let Self::Instances(instances) = self { &instances[..] } else { &[] };
        instances.iter().map(|instance| instance.key().into_owned())
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

    /// Returns the answer as templates see it.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Services(services) => {
                let entry = |(name, tags): (&String, &BTreeSet<String>)| {
                    Value::from(BTreeMap::from([
                        ("name".to_owned(), Value::normal_string(name)),
                        ("tags".to_owned(), Value::from_serializable(tags)),
                    ]))
                };
                Value::from(services.iter().map(entry).collect::<Vec<_>>())
            }
            Self::Instances(instances) => Value::from_serializable(instances),
            Self::Nodes(nodes) => Value::from_serializable(nodes),
            Self::Node(None) | Self::Key(None) | Self::Refused(_) => Value::none(),
            Self::Node(Some((node, instances))) => Value::from(BTreeMap::from([
                ("node".to_owned(), Value::from_serializable(node)),
                ("services".to_owned(), Value::from_serializable(instances)),
            ])),
            Self::Names(names) => Value::from_serializable(names),
            Self::Key(Some(value)) => Value::normal_string(value),
            Self::Keys(keys) => Value::from_serializable(keys),
            Self::Checks(checks) => Value::from_serializable(checks),
            Self::Ambassadors(ambassadors) => Value::from_serializable(ambassadors),
        }
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
