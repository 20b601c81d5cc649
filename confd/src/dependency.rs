//! What a template can ask for: the keys of the snapshot.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One question to the source of services. Everything that changes the answer is part of it, so
/// that each question is watched once per process, however many templates ask it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
    /// The names of all services, with their tags.
    Services {
        /// Another datacenter than the agent's.
        dc: Option<String>,
    },
    /// The instances of one service.
    Service(Service),
    /// All nodes.
    Nodes {
        /// Another datacenter than the agent's.
        dc: Option<String>,
    },
    /// One node with its services.
    Node {
        /// The node's name.
        name: String,
        /// Another datacenter than the agent's.
        dc: Option<String>,
    },
    /// The known datacenters.
    Datacenters,
    /// One key.
    Key {
        /// The whole path, without a slash before it.
        path: String,
    },
    /// All keys that begin with a path.
    Prefix {
        /// The whole path, without a slash before it.
        path: String,
    },
    /// All checks in one state.
    Checks {
        /// `any`, `passing`, `warning` or `critical`.
        state: String,
    },
    /// The ambassadors of this node; Docker answers this.
    Ambassadors,
}

/// The question for a service's instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// Only instances with this tag.
    pub tag: Option<String>,
    /// Another datacenter than the agent's.
    pub dc: Option<String>,
    /// A node; the answer's weight of nearness is the server's.
    pub near: Option<String>,
    /// Only instances all of whose checks pass.
    pub passing: bool,
    /// An expression in Consul's filter language.
    pub filter: Option<String>,
}

impl Service {
    /// Returns the question for all passing instances of `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), tag: None, dc: None, near: None, passing: true, filter: None }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dc = |f: &mut fmt::Formatter<'_>, dc: &Option<String>| match dc {
            Some(dc) => write!(f, " in {dc}"),
            None => Ok(()),
        };
        match self {
            Self::Services { dc: from } => f.write_str("services").and_then(|()| dc(f, from)),
            Self::Service(service) => {
                write!(f, "service {}", service.name)?;
                if let Some(tag) = &service.tag {
                    write!(f, " tagged {tag}")?;
                }
                if !service.passing {
                    f.write_str(" passing or not")?;
                }
                if let Some(filter) = &service.filter {
                    write!(f, " where {filter}")?;
                }
                dc(f, &service.dc)
            }
            Self::Nodes { dc: from } => f.write_str("nodes").and_then(|()| dc(f, from)),
            Self::Node { name, dc: from } => write!(f, "node {name}").and_then(|()| dc(f, from)),
            Self::Datacenters => f.write_str("datacenters"),
            Self::Key { path } => write!(f, "key {path}"),
            Self::Prefix { path } => write!(f, "keys below {path}"),
            Self::Checks { state } => write!(f, "checks that are {state}"),
            Self::Ambassadors => f.write_str("ambassadors"),
        }
    }
}
