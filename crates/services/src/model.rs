//! What a service instance is, and what shapes its derivation. Pure data.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

/// One address and port at which a container offers a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Unique on the node: `<host>:<container name>:<port>[:udp]`, or what `SERVICE_ID` says.
    pub id: String,
    /// The service's name, a DNS label.
    pub service: String,
    /// An IP address, never a wildcard.
    pub address: String,
    /// The port at that address; 0 for a container that is registered without ports.
    pub port: u16,
    /// In the order given, without duplicates.
    pub tags: Vec<String>,
    /// What the labels add, and who owns the entry.
    pub meta: BTreeMap<String, String>,
    /// The instance's share of the traffic.
    pub weights: Weights,
    /// The checks that Consul shall run.
    pub checks: Vec<Check>,
    /// The same endpoint in the other address family, by Consul's name for it (`lan_ipv6`).
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Whether others may change the tags in the catalog.
    pub enable_tag_override: bool,
    /// The full id of the container.
    pub container: String,
    /// The container's name.
    pub container_name: String,
    /// What Docker's own health check says, where it counts; a paused container is critical.
    pub docker_health: Option<DockerHealth>,
}

/// An address of another family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaggedAddress {
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// How much traffic an instance takes, relative to the others of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Weights {
    /// While its checks pass; at least 1.
    pub passing: u16,
    /// While one of them warns.
    pub warning: u16,
}

impl Default for Weights {
    /// Consul's default: 1 and 1.
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// The state of a check, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Passing,
    /// It works, with reservations.
    Warning,
    /// It does not.
    Critical,
}

/// What Docker knows about a container's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DockerHealth {
    /// Healthy is passing; starting, unhealthy and paused are critical.
    pub status: Status,
    /// Why: the state's name and the output of the last probe.
    pub note: String,
}

/// A check of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Unique within the instance: the kind, after its number if it has one (`http`, `2-tcp`).
    pub name: String,
    /// What is checked.
    #[serde(flatten)]
    pub kind: CheckKind,
    /// How often; Consul's own default for services is 10 s, and so is ours.
    pub interval: Duration,
    /// How long one attempt may take; Consul's default where absent.
    pub timeout: Option<Duration>,
    /// The state before the first attempt; Consul's default is critical.
    pub initial_status: Option<Status>,
    /// How long critical until Consul removes the instance by itself.
    pub deregister_after: Option<Duration>,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum CheckKind {
    /// Fetches a URL; 2xx passes, 429 warns.
    Http {
        /// Where.
        url: String,
        /// The method; GET where absent.
        method: Option<String>,
        /// Additional headers.
        headers: BTreeMap<String, Vec<String>>,
        /// The request's body.
        body: Option<String>,
        /// Whether any certificate is good.
        tls_skip_verify: bool,
    },
    /// Opens a connection.
    Tcp {
        /// `host:port`.
        target: String,
    },
    /// Waits for us to say that all is well.
    Ttl {
        /// How long our word holds.
        ttl: Duration,
    },
    /// Asks the gRPC health service.
    Grpc {
        /// `host:port[/service]`.
        target: String,
        /// Whether over TLS.
        tls: bool,
        /// Whether any certificate is good.
        tls_skip_verify: bool,
    },
    /// Runs a command beside the agent.
    Command {
        /// The program and its arguments.
        args: Vec<String>,
    },
}

/// The node that instances are registered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The first part of every id, and the owner in every entry.
    pub name: String,
    /// Where published ports are reached: the Consul agent's advertised address.
    pub address: String,
    /// Its address in the other family, if it has one.
    pub other_family: Option<IpAddr>,
}

impl Node {
    /// Makes a node that has an address in one family only.
    pub fn new(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self { name: name.into(), address: address.into(), other_family: None }
    }
}

/// What the operator decides for all containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Register only containers that have a `SERVICE_NAME`.
    pub explicit: bool,
    /// Register exposed ports at the containers' own addresses.
    pub internal: bool,
    /// The address of published ports, instead of the node's.
    pub ip: Option<IpAddr>,
    /// A label whose value is the address of published ports.
    pub use_ip_from_label: Option<String>,
    /// The network whose addresses count.
    pub network: Option<String>,
    /// The network whose addresses count, by one that contains them: `10.1.0.0/16`.
    pub network_cidr: Option<String>,
    /// What stands before `SERVICE_` and `service.` in labels.
    pub label_prefix: String,
    /// Tags for every instance, after its own.
    pub tags: Vec<String>,
    /// Name services after Compose and Swarm services instead of images.
    pub compose_names: bool,
}

/// What a container offers, and what of its labels could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Sorted by port, then by binding.
    pub instances: Vec<Instance>,
    /// Sorted, without duplicates.
    pub warnings: Vec<Warning>,
    /// Whether it is left out as a part of this system: by its image's name, or a label.
    pub is_system: bool,
}

/// Something in a container's settings that could not be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// The setting, as `SERVICE_80_NAME`; or the field concerned.
    pub setting: String,
    /// What is wrong with it, and what was done instead.
    pub problem: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}
