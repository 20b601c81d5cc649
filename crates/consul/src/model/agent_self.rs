//! What an agent says about itself.

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
    fn from(SelfAnswer { config, member }: SelfAnswer) -> Self {
        Self {
            node: config.node_name,
            datacenter: config.datacenter,
            address: member.addr,
            version: config.version,
            server: config.server,
        }
    }
}
