//! What an agent is told about an instance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{ServiceAddress, Status, Weights};

/// An instance to register. What is empty is not sent, so that Consul's defaults hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Registration {
    /// Unique on its agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service's name.
    pub name: String,
    /// Its address; empty = its node's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Its TCP or UDP port; 0 = none.
    pub port: u16,
    /// Its tags; their order counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Up to 64 pairs; keys of `[A-Za-z0-9_-]` and up to 128 bytes, values up to 512 bytes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// Its further addresses by purpose: `lan_ipv4`, `lan_ipv6`, `wan`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    /// Its share of the requests.
    pub weights: Weights,
    /// Whether others may change its tags in the catalog.
    pub enable_tag_override: bool,
    /// How Consul finds out whether it works.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckDefinition>,
}

/// A check to register; one of `http`, `tcp`, `grpc`, `ttl`, `args` and `alias_service` says what
/// kind it is. Durations are Consul's: `10s`, `1m30s`. What is empty is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckDefinition {
    /// Unique on its agent; empty = `service:<id>`, numbered where there are several.
    #[serde(rename = "CheckID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// The URL to ask.
    #[serde(rename = "HTTP", skip_serializing_if = "String::is_empty")]
    pub http: String,
    /// The method to ask it with; empty = GET.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The headers to send with it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, Vec<String>>,
    /// The body to send with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The `host:port` to connect to.
    #[serde(rename = "TCP", skip_serializing_if = "String::is_empty")]
    pub tcp: String,
    /// The `host:port/service` to ask by gRPC's health protocol.
    #[serde(rename = "GRPC", skip_serializing_if = "String::is_empty")]
    pub grpc: String,
    /// Whether to ask it over TLS.
    #[serde(rename = "GRPCUseTLS", skip_serializing_if = "is_false")]
    pub grpc_use_tls: bool,
    /// Whether any certificate is good enough.
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "is_false")]
    pub tls_skip_verify: bool,
    /// How long a heartbeat counts.
    #[serde(rename = "TTL", skip_serializing_if = "String::is_empty")]
    pub ttl: String,
    /// The command to run on the agent's host, which must allow it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The container to run `args` in.
    #[serde(rename = "DockerContainerID", skip_serializing_if = "String::is_empty")]
    pub docker_container_id: String,
    /// The shell to run `args` with, in that container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shell: String,
    /// The ID of the instance on the same agent whose status it copies.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias_service: String,
    /// How long between two runs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interval: String,
    /// How long a run may take.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timeout: String,
    /// What holds before the first run; `None` = critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// How many successes in a row make it passing; 0 = the first.
    #[serde(skip_serializing_if = "is_zero")]
    pub success_before_passing: u32,
    /// How many failures in a row make it critical; 0 = the first.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures_before_critical: u32,
    /// After how long in critical the instance is removed; empty = never, at least `1m`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deregister_critical_service_after: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_empty_is_not_sent() {
        let registration =
            Registration { id: "a".into(), name: "web".into(), ..Default::default() };
        assert_eq!(
            serde_json::to_value(registration).unwrap(),
            json!({"ID": "a", "Name": "web", "Port": 0, "EnableTagOverride": false,
                   "Weights": {"Passing": 1, "Warning": 1}})
        );
    }

    #[test]
    fn checks_are_spelled_as_consul_spells_them() {
        let check = CheckDefinition {
            id: "c".into(),
            http: "https://a/".into(),
            header: BTreeMap::from([("Host".into(), vec!["x".into()])]),
            grpc_use_tls: true,
            tls_skip_verify: true,
            status: Some(Status::Passing),
            failures_before_critical: 3,
            deregister_critical_service_after: "10m".into(),
            ..CheckDefinition::default()
        };
        assert_eq!(
            serde_json::to_value(check).unwrap(),
            json!({"CheckID": "c", "HTTP": "https://a/", "Header": {"Host": ["x"]},
                   "GRPCUseTLS": true, "TLSSkipVerify": true, "Status": "passing",
                   "FailuresBeforeCritical": 3, "DeregisterCriticalServiceAfter": "10m"})
        );
    }
}
