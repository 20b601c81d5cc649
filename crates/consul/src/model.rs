//! What Consul answers, as far as we use it. Missing, unknown and `null` fields are all fine, so
//! that old and new versions of Consul can be read alike.
//!
//! The `CreateIndex` and `ModifyIndex` of services, nodes and checks are left out on purpose: two
//! values are equal when they mean the same to a load balancer.

mod agent_self;
mod pair;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::nullable::{nullable, port, weight};

pub use agent_self::AgentSelf;
pub use pair::KvPair;

/// One instance of a service, with its node and all checks that concern it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceEntry {
    /// The node it is registered on.
    pub node: Node,
    /// The instance itself.
    pub service: AgentService,
    /// The node's checks and its own.
    #[serde(deserialize_with = "nullable")]
    pub checks: Vec<Check>,
}

impl ServiceEntry {
    /// Returns the instance's own address, or its node's where it has none.
    #[must_use]
    pub fn address(&self) -> &str {
        match self.service.address.as_str() {
            "" => &self.node.address,
            address => address,
        }
    }

    /// Returns what the instance is called among all of its service.
    #[must_use]
    pub fn key(&self) -> Cow<'_, str> {
        instance_key(&self.node.name, &self.service.id)
    }

    /// Returns the worst status of all checks; without checks, passing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Passing)
    }

    /// Tells whether the instance, or its node, is in maintenance.
    #[must_use]
    pub fn in_maintenance(&self) -> bool {
        self.checks.iter().any(Check::is_maintenance)
    }
}

/// Returns what an instance is called among all of its service, on whichever node.
///
/// IDs are unique on a node only, and a label such as `SERVICE_ID=web` may say the same on two. Those that begin with
/// their node's name, as registrator's own do, stay as they are; others get it before them between colons, so that no ID which
/// a label chooses is another's.
#[must_use]
pub fn instance_key<'a>(node: &str, id: &'a str) -> Cow<'a, str> {
    if node.is_empty() || id.strip_prefix(node).is_some_and(|rest| rest.starts_with(':')) {
        Cow::Borrowed(id)
    } else {
        Cow::Owned(format!(":{node}:{id}"))
    }
}

/// A member of the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// Its UUID; empty for nodes that only the catalog knows.
    #[serde(rename = "ID", deserialize_with = "nullable")]
    pub id: String,
    /// Its name.
    #[serde(rename = "Node", deserialize_with = "nullable")]
    pub name: String,
    /// Its address, a host name or an IP address.
    #[serde(deserialize_with = "nullable")]
    pub address: String,
    /// Its datacenter.
    #[serde(deserialize_with = "nullable")]
    pub datacenter: String,
    /// Its addresses by purpose: `lan`, `wan`, `lan_ipv6`, …
    #[serde(deserialize_with = "nullable")]
    pub tagged_addresses: BTreeMap<String, String>,
    /// What else its operator says about it.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
}

/// A node and everything registered on it, by ID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeServices {
    /// The node.
    pub node: Node,
    /// Its instances, by ID.
    #[serde(deserialize_with = "nullable")]
    pub services: BTreeMap<String, AgentService>,
}

/// An instance as agent, health and catalog endpoints describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentService {
    /// Unique on its agent.
    #[serde(rename = "ID", deserialize_with = "nullable")]
    pub id: String,
    /// The service's name.
    #[serde(rename = "Service", deserialize_with = "nullable")]
    pub name: String,
    /// Its tags, in the order they were given.
    #[serde(deserialize_with = "nullable")]
    pub tags: Vec<String>,
    /// What else was said about it.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// Its address; empty = its node's.
    #[serde(deserialize_with = "nullable")]
    pub address: String,
    /// Its TCP or UDP port; 0 = none.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// Its further addresses by purpose: `lan_ipv4`, `lan_ipv6`, `wan`, …
    #[serde(deserialize_with = "nullable")]
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    /// Its share of the requests.
    #[serde(deserialize_with = "nullable")]
    pub weights: Weights,
    /// Whether others may change its tags in the catalog.
    #[serde(deserialize_with = "nullable")]
    pub enable_tag_override: bool,
    /// `connect-proxy`, `mesh-gateway`, …; empty for an ordinary service.
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
    /// Its datacenter; empty where Consul does not say.
    #[serde(deserialize_with = "nullable")]
    pub datacenter: String,
    /// Its namespace; empty outside Consul Enterprise.
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
}

/// A further address of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceAddress {
    /// A host name or an IP address.
    #[serde(deserialize_with = "nullable")]
    pub address: String,
    /// The port there.
    #[serde(deserialize_with = "port")]
    pub port: u16,
}

/// Shares of the requests, by status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Weights {
    /// While all checks pass.
    #[serde(deserialize_with = "weight")]
    pub passing: u16,
    /// While one of them warns.
    #[serde(deserialize_with = "weight")]
    pub warning: u16,
}

impl Default for Weights {
    /// What Consul uses where nothing is said.
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// A check and its result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Check {
    /// The node it runs on.
    #[serde(deserialize_with = "nullable")]
    pub node: String,
    /// Unique on its agent.
    #[serde(rename = "CheckID", deserialize_with = "nullable")]
    pub id: String,
    /// For people.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Its result.
    pub status: Status,
    /// For people.
    #[serde(deserialize_with = "nullable")]
    pub notes: String,
    /// What the last run said.
    #[serde(deserialize_with = "nullable")]
    pub output: String,
    /// The instance it is for; empty = the node.
    #[serde(rename = "ServiceID", deserialize_with = "nullable")]
    pub service_id: String,
    /// The name of that instance's service.
    #[serde(deserialize_with = "nullable")]
    pub service_name: String,
    /// `http`, `ttl`, …; empty where Consul does not say.
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub kind: String,
}

impl Check {
    /// Tells whether this check is how Consul notes down maintenance, of an instance or a node.
    #[must_use]
    pub fn is_maintenance(&self) -> bool {
        self.id == "_node_maintenance" || self.id.starts_with("_service_maintenance:")
    }
}

/// The result of a check, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Passing,
    /// Not quite.
    Warning,
    /// It does not work; also what we make of a word we do not know.
    #[default]
    Critical,
}

impl Status {
    /// Returns Consul's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<String>::deserialize(deserializer)?.as_deref() {
            Some("passing") => Self::Passing,
            Some("warning") => Self::Warning,
            _ => Self::Critical,
        })
    }
}

#[cfg(test)]
mod tests;
