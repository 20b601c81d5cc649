//! What an agent says about itself.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::nullable::nullable;

/// The agent we speak to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "SelfAnswer")]
pub struct AgentSelf {
    /// The name of its node.
    pub node: String,
    /// Its datacenter.
    pub datacenter: String,
    /// The address it tells the others; empty where it does not say.
    pub address: String,
    /// Its addresses by purpose: `lan`, `lan_ipv4`, `lan_ipv6`, `wan`, …
    pub tagged_addresses: BTreeMap<String, String>,
    /// Its version, such as `1.8.7`.
    pub version: String,
    /// Whether it is a server.
    pub server: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SelfAnswer {
    config: SelfConfig,
    #[serde(deserialize_with = "nullable")]
    member: SelfMember,
    #[serde(deserialize_with = "nullable")]
    debug_config: SelfDebugConfig,
}

/// The configuration at run time; its fields may change with the version, so none may be required.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SelfDebugConfig {
    #[serde(deserialize_with = "nullable")]
    tagged_addresses: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SelfConfig {
    node_name: String,
    datacenter: String,
    version: String,
    server: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SelfMember {
    addr: String,
}

impl From<SelfAnswer> for AgentSelf {
    fn from(SelfAnswer { config, member, debug_config }: SelfAnswer) -> Self {
        Self {
            node: config.node_name,
            datacenter: config.datacenter,
            address: member.addr,
            tagged_addresses: debug_config.tagged_addresses,
            version: config.version,
            server: config.server,
        }
    }
}
