//! Where the keys are, and what they hold. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;
use std::sync::Arc;

use consul::AgentService;
use serde_json::json;

use crate::args::KvFormat;
use crate::model::{Desired, REGISTERED_TIME};

/// Whose keys they are. Nodes may share a host's name by mistake, and hosts a node on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The name of Consul's node.
    pub(crate) node: String,
    /// The name of this host in IDs.
    pub(crate) host: String,
}

impl Owner {
    /// Returns the key of the journal.
    #[must_use]
    pub(crate) fn journal(&self, prefix: &str) -> String {
        let Self { node, host } = self;
        let name = if node == host { node.clone() } else { format!("{node}:{host}") };
        format!("{prefix}-events/{name}")
    }

    /// Returns what the session is called that holds the keys.
    #[must_use]
    pub(crate) fn session(&self) -> String {
        format!("registrator {}", self.host)
    }
}

/// Where the keys are, and what they hold.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// What all keys begin with, without the slash behind it.
    pub(crate) prefix: String,
    /// How an instance is written.
    pub(crate) format: KvFormat,
    /// Whose they are.
    pub(crate) owner: Owner,
}

impl Layout {
    /// Returns the ID in a key; it may hold slashes itself, the service's name does not.
    #[must_use]
    pub(crate) fn id<'a>(&self, key: &'a str) -> &'a str {
        let rest = key.strip_prefix(&self.prefix).unwrap_or(key).trim_start_matches('/');
        rest.split_once('/').map_or("", |(_, id)| id)
    }

    /// Returns an instance's key, and what it holds; `registered` is the instance as the agent has it.
    #[must_use]
    pub(crate) fn pair(&self, desired: &Desired, registered: &AgentService) -> (String, Arc<[u8]>) {
        let key = format!("{}/{}/{}", self.prefix, registered.name, registered.id);
        // Not when: a registration that is repeated changes nothing, and so writes no key.
        let meta: BTreeMap<_, _> =
            registered.meta.iter().filter(|(key, _)| *key != REGISTERED_TIME).collect();
        let value = match self.format {
            KvFormat::Addr => format!("{}:{}", registered.address, registered.port),
            KvFormat::Json => json!({
                "id": registered.id,
                "name": registered.name,
                "address": registered.address,
                "port": registered.port,
                "tags": registered.tags,
                "meta": meta,
                "node": self.owner.node,
                "container": desired.container,
                "since": desired.since,
                "health": desired.health(),
            })
            .to_string(),
        };
        (key, value.into_bytes().into())
    }
}
