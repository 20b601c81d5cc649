//! The requests that consulrs does not have, or does not get right.
//!
//! Their answers are read by the caller; `response` only satisfies the derive.

use rustify_derive::Endpoint;
use serde::Serialize;

/// Registers an instance; consulrs cannot say check headers and `TLSSkipVerify`.
#[derive(Debug, Endpoint, Serialize)]
#[endpoint(path = "agent/service/register", method = "PUT")]
pub(crate) struct Register {
    #[endpoint(raw)]
    pub(crate) body: Vec<u8>,
    #[endpoint(query)]
    #[serde(rename = "replace-existing-checks")]
    pub(crate) replace_existing_checks: bool,
}

/// Begins or ends maintenance; consulrs cannot say why.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/maintenance/{self.id}", method = "PUT")]
pub(crate) struct Maintenance {
    #[endpoint(skip)]
    pub(crate) id: String,
    #[endpoint(query)]
    pub(crate) enable: bool,
    #[endpoint(query)]
    pub(crate) reason: Option<String>,
}

/// Begins or ends the maintenance of the agent's whole node.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/maintenance", method = "PUT")]
pub(crate) struct NodeMaintenance {
    #[endpoint(query)]
    pub(crate) enable: bool,
    #[endpoint(query)]
    pub(crate) reason: Option<String>,
}

/// Beats a TTL check; consulrs loses the note.
#[derive(Debug, Endpoint, Serialize)]
#[endpoint(path = "agent/check/update/{self.id}", method = "PUT")]
pub(crate) struct TtlUpdate {
    #[endpoint(skip)]
    pub(crate) id: String,
    #[endpoint(body)]
    #[serde(rename = "Status")]
    pub(crate) status: String,
    #[endpoint(body)]
    #[serde(rename = "Output")]
    pub(crate) output: String,
}

/// Asks the agent about itself.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/self", response = "serde_json::Value")]
pub(crate) struct ReadSelf {}

/// Lists the instances of a service.
#[derive(Debug, Endpoint)]
#[endpoint(path = "health/service/{self.name}", response = "serde_json::Value")]
pub(crate) struct HealthService {
    #[endpoint(skip)]
    pub(crate) name: String,
}

/// Lists the checks with a status, or with any.
#[derive(Debug, Endpoint)]
#[endpoint(path = "health/state/{self.state}", response = "serde_json::Value")]
pub(crate) struct HealthState {
    #[endpoint(skip)]
    pub(crate) state: String,
}

/// Lists the checks of a node and of what is registered on it.
#[derive(Debug, Endpoint)]
#[endpoint(path = "health/node/{self.name}", response = "serde_json::Value")]
pub(crate) struct HealthNode {
    #[endpoint(skip)]
    pub(crate) name: String,
}

/// Lists what is registered on a node.
#[derive(Debug, Endpoint)]
#[endpoint(path = "catalog/node/{self.name}", response = "serde_json::Value")]
pub(crate) struct ReadNode {
    #[endpoint(skip)]
    pub(crate) name: String,
}

/// Asks who leads the servers.
#[derive(Debug, Endpoint)]
#[endpoint(path = "status/leader", response = "serde_json::Value")]
pub(crate) struct Leader {}

/// Carries out a transaction.
#[derive(Debug, Endpoint)]
#[endpoint(path = "txn", method = "PUT", response = "serde_json::Value")]
pub(crate) struct Txn {
    #[endpoint(raw)]
    pub(crate) body: Vec<u8>,
}
