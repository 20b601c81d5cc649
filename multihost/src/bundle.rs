//! What each host of a cluster needs: Consul's configuration, secrets, tokens, templates, Compose files.
//!
//! ```text
//! OUT/secrets/            stays with the operator: gossip key, all tokens, the certificate authority's key
//! OUT/NODE/               goes to the host, with its owners and modes
//!     .env compose.yml dockercoins.yml templates/
//!     consul/             mounted into Consul: start.sh, this node's token, certificates
//!     consul/agent/       what the agent reads: agent.hcl node.json secrets.json (tls.hcl)
//!     tokens/             registrator, confd: one each
//! ```
//! What exists is kept, so that a node can be added later with the same secrets.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use base64::Engine;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::certificates;
use crate::files::{copy, copy_tree, folder, keep_or, own, public, secret, secret_folder};

/// The user that Consul, confd and the ambassador run as in our images.
pub(crate) const USER: u32 = 100;
/// The components that speak to Consul with a token of their own on each node.
pub(crate) const COMPONENTS: [&str; 3] = ["agent", "registrator", "confd"];

/// The folder that stays with the operator.
const SECRETS: &str = "secrets";
/// The file there that says which hosts are servers.
const ROLES: &str = "cluster.json";
/// The first line of a host's settings.
const HEAD: &str = "# This host.";

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in Consul.
    pub name: String,
    /// Where the others reach it.
    pub address: Ipv4Addr,
    /// Whether it runs a Consul server.
    pub server: bool,
}

/// What a later run for the same cluster must not decide otherwise by itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Roles {
    /// The hosts with a Consul server.
    pub(crate) servers: BTreeSet<String>,
    /// TLS between Consul's agents.
    pub(crate) tls: bool,
}

/// A cluster to be written.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// All hosts.
    pub members: Vec<Member>,
    /// TLS between Consul's agents.
    pub tls: bool,
    /// Where it is written.
    pub out: PathBuf,
    /// The project's files.
    pub repository: PathBuf,
}

impl Bundle {
    /// Writes the folder of every host, and the secrets.
    ///
    /// # Errors
    /// If a file cannot be written, or certificates cannot be made.
    pub async fn write(&self) -> anyhow::Result<()> {
        self.check()?;
        secret_folder(&self.out)?;
        secret_folder(&self.secrets())?;
        for member in &self.members {
            self.write_member(member)
                .with_context(|| format!("cannot write what {} needs", member.name))?;
        }
        if self.tls {
            certificates::make(self).await.context("cannot make certificates")?;
        }
        let servers = self.members.iter().filter(|member| member.server);
        let servers = servers.map(|member| member.name.clone()).collect();
        let roles = serde_json::to_vec_pretty(&Roles { servers, tls: self.tls })?;
        secret(&self.secrets().join(ROLES), &roles)
    }

    /// Refuses hosts whose folders or tokens would be mixed up.
    fn check(&self) -> anyhow::Result<()> {
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for Member { name, address, .. } in &self.members {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            // What Consul allows in the identity of a node.
            ensure!(
                !name.is_empty() && name.chars().all(fits),
                "{name:?} is no name for a host: use small letters, digits, - and _"
            );
            ensure!(name != SECRETS, "a host cannot be named {SECRETS}: that folder is yours");
            ensure!(names.insert(name), "two hosts are named {name}");
            ensure!(addresses.insert(address), "two hosts have the address {address}");
        }
        Ok(())
    }

    /// Returns what the last run decided, if there was one.
    pub(crate) fn before(&self) -> anyhow::Result<Option<Roles>> {
        let path = self.secrets().join(ROLES);
        let Ok(text) = fs::read(&path) else { return Ok(None) };
        serde_json::from_slice(&text)
            .map(Some)
            .with_context(|| format!("{} is damaged", path.display()))
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.out.join(SECRETS)
    }

    fn write_member(&self, member: &Member) -> anyhow::Result<()> {
        let home = self.out.join(&member.name);
        for inner in ["", "consul", "consul/agent", "tokens"] {
            folder(&home.join(inner))?;
        }
        let file = |name: &str| self.repository.join(name);
        let of_tiers = ["compose.yml", "overlay.yml", "ambassadors.yml"];
        let of_coins =
            ["dockercoins.yml", "dockercoins-overlay.yml", "dockercoins-ambassadors.yml"];
        for name in of_tiers.into_iter().chain(of_coins) {
            copy(&file("deploy").join(name), &home.join(name))?;
        }
        copy(&file("consul/cluster/agent.hcl"), &home.join("consul/agent/agent.hcl"))?;
        copy(&file("consul/cluster/start.sh"), &home.join("consul/start.sh"))?;
        copy_tree(&file("templates"), &home.join("templates"))?;
        self.write_settings(member)?;
        self.write_secrets(member)
    }

    /// Writes who the host is, and whom its agent joins.
    fn write_settings(&self, member: &Member) -> anyhow::Result<()> {
        let home = self.out.join(&member.name);
        let servers: Vec<_> = self.members.iter().filter(|member| member.server).collect();
        let addresses: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
        let own_name = format!("NODE_NAME={} SERVERS=\"{}\"", member.name, addresses.join(" "));
        let lines = own_name.replacen(' ', "\n", 1);
        let env = format!("{HEAD}\nNODE_ADDRESS={}\n{lines}\n", member.address);
        let path = home.join(".env");
        let before = fs::read_to_string(&path).unwrap_or_default();
        secret(&path, with_own(&env, &before).as_bytes())?;
        public(&home.join("consul/environment"), format!("export {own_name}\n").as_bytes())?;
        let mut node = json!({
            "node_name": member.name,
            "bind_addr": member.address,
            "client_addr": format!("127.0.0.1 {}", member.address),
            "retry_join": servers.iter().map(|server| server.address).collect::<Vec<_>>(),
            "server": member.server,
        });
        if member.server {
            node["bootstrap_expect"] = json!(servers.len());
        }
        public(&home.join("consul/agent/node.json"), &serde_json::to_vec_pretty(&node)?)
    }

    /// Writes the key and the tokens of the host, each for the one who reads it.
    fn write_secrets(&self, member: &Member) -> anyhow::Result<()> {
        let home = self.out.join(&member.name);
        let gossip = keep_or(&self.secrets().join("gossip.key"), || {
            base64::prelude::BASE64_STANDARD.encode(rand::random::<[u8; 32]>())
        })?;
        for component in COMPONENTS {
            let token = self.token(component, &member.name)?;
            if component != "agent" {
                let path = home.join("tokens").join(component);
                secret(&path, token.as_bytes())?;
                own(&path, if component == "confd" { USER } else { 0 })?;
            }
        }
        let token = self.token("agent", &member.name)?;
        let path = home.join("consul/agent.token");
        secret(&path, token.as_bytes())?;
        own(&path, USER)?;
        let secrets = json!({ "encrypt": gossip, "acl": { "tokens": { "agent": token } } });
        let path = home.join("consul/agent/secrets.json");
        secret(&path, &serde_json::to_vec_pretty(&secrets)?)?;
        own(&path, USER)
    }

    /// Returns the token of a component on a node, made at the first call.
    pub(crate) fn token(&self, component: &str, node: &str) -> anyhow::Result<String> {
        keep_or(&self.token_file(component, node), uuid)
    }

    /// Returns where that token is kept.
    pub(crate) fn token_file(&self, component: &str, node: &str) -> PathBuf {
        self.secrets().join(format!("{component}-{node}.token"))
    }

    /// Returns the token that may do everything, once `acl::bootstrap` has got it.
    pub(crate) fn management(&self) -> PathBuf {
        self.secrets().join("management.token")
    }
}

/// Returns the generated settings, and after them the lines of `before` that set something else.
fn with_own(generated: &str, before: &str) -> String {
    let name = |line: &str| line.split_once('=').map(|(name, _)| name.to_owned());
    let ours: Vec<_> = generated.lines().filter_map(name).collect();
    let own = before.lines().filter(|line| *line != HEAD);
    let own = own.filter(|line| name(line).is_none_or(|name| !ours.contains(&name)));
    own.fold(generated.to_owned(), |all, line| format!("{all}{line}\n"))
}

/// Returns a random identifier in the form that Consul's tokens have.
fn uuid() -> String {
    let number = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests;
