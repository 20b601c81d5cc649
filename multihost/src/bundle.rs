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

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use serde_json::json;
use tokio::process::Command;

use crate::space::run;

/// The user that Consul, confd and the ambassador run as in our images.
const USER: u32 = 100;
/// The components that speak to Consul with a token of their own on each node.
pub(crate) const COMPONENTS: [&str; 3] = ["agent", "registrator", "confd"];

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
        secret_folder(&self.out)?;
        secret_folder(&self.secrets())?;
        for member in &self.members {
            self.write_member(member)
                .with_context(|| format!("cannot write what {} needs", member.name))?;
        }
        if self.tls {
            self.certificates().await.context("cannot make certificates")?;
        }
        Ok(())
    }

    fn secrets(&self) -> PathBuf {
        self.out.join("secrets")
    }

    fn write_member(&self, member: &Member) -> anyhow::Result<()> {
        let folder = self.out.join(&member.name);
        for inner in ["consul/agent", "tokens"] {
            fs::create_dir_all(folder.join(inner))?;
        }
        let file = |name: &str| self.repository.join(name);
        let of_tiers = ["compose.yml", "overlay.yml", "ambassadors.yml"];
        let of_coins =
            ["dockercoins.yml", "dockercoins-overlay.yml", "dockercoins-ambassadors.yml"];
        for name in of_tiers.into_iter().chain(of_coins) {
            fs::copy(file("deploy").join(name), folder.join(name))?;
        }
        fs::copy(file("consul/cluster/agent.hcl"), folder.join("consul/agent/agent.hcl"))?;
        fs::copy(file("consul/cluster/start.sh"), folder.join("consul/start.sh"))?;
        copy_tree(&file("templates"), &folder.join("templates"))?;
        let servers: Vec<_> = self.members.iter().filter(|member| member.server).collect();
        let addresses: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
        let own_name = format!("NODE_NAME={} SERVERS=\"{}\"", member.name, addresses.join(" "));
        let lines = own_name.replacen(' ', "\n", 1);
        let env = format!("{HEAD}\nNODE_ADDRESS={}\n{lines}\n", member.address);
        let path = folder.join(".env");
        let before = fs::read_to_string(&path).unwrap_or_default();
        secret(&path, with_own(&env, &before).as_bytes())?;
        fs::write(folder.join("consul/environment"), format!("export {own_name}\n"))?;
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
        fs::write(folder.join("consul/agent/node.json"), serde_json::to_vec_pretty(&node)?)?;
        let gossip = keep_or(&self.secrets().join("gossip.key"), || {
            base64::prelude::BASE64_STANDARD.encode(rand::random::<[u8; 32]>())
        })?;
        for component in COMPONENTS {
            let token = self.token(component, &member.name)?;
            if component != "agent" {
                let path = folder.join("tokens").join(component);
                secret(&path, token.as_bytes())?;
                own(&path, if component == "confd" { USER } else { 0 })?;
            }
        }
        let token = self.token("agent", &member.name)?;
        let path = folder.join("consul/agent.token");
        secret(&path, token.as_bytes())?;
        own(&path, USER)?;
        let secrets = json!({ "encrypt": gossip, "acl": { "tokens": { "agent": token } } });
        let path = folder.join("consul/agent/secrets.json");
        secret(&path, &serde_json::to_vec_pretty(&secrets)?)?;
        own(&path, USER)
    }

    /// Returns the token of a component on a node, made at the first call.
    pub(crate) fn token(&self, component: &str, node: &str) -> anyhow::Result<String> {
        keep_or(&self.secrets().join(format!("{component}-{node}.token")), uuid)
    }

    /// Returns the token that may do everything, once `acl::bootstrap` has got it.
    pub(crate) fn management(&self) -> PathBuf {
        self.secrets().join("management.token")
    }

    /// Makes the authority and a certificate for each node, by Consul's own tool from its image.
    async fn certificates(&self) -> anyhow::Result<()> {
        let authority = self.secrets().join("tls");
        secret_folder(&authority)?;
        own(&authority, USER)?;
        if !authority.join("consul-agent-ca-key.pem").exists() {
            consul_tls(&authority, &["ca", "create"]).await?;
        }
        for member in &self.members {
            let folder = self.out.join(&member.name).join("consul");
            if folder.join("key.pem").exists() {
                continue;
            }
            let kind = if member.server { "server" } else { "client" };
            consul_tls(&authority, &["cert", "create", &format!("-{kind}")]).await?;
            let made = |end: &str| authority.join(format!("dc1-{kind}-consul-0{end}.pem"));
            fs::copy(authority.join("consul-agent-ca.pem"), folder.join("ca.pem"))?;
            fs::rename(made(""), folder.join("cert.pem"))?;
            secret(&folder.join("key.pem"), &fs::read(made("-key"))?)?;
            fs::remove_file(made("-key"))?;
            for file in ["ca.pem", "cert.pem", "key.pem"] {
                own(&folder.join(file), USER)?;
            }
            fs::copy(self.repository.join("consul/cluster/tls.hcl"), folder.join("agent/tls.hcl"))?;
        }
        Ok(())
    }
}

/// Runs `consul tls` in a folder.
async fn consul_tls(folder: &Path, args: &[&str]) -> anyhow::Result<()> {
    let mount = format!("{}:/tls", folder.display());
    let mut command = Command::new("docker");
    command.args([
        "run",
        "--rm",
        "--network=none",
        "--volume",
        &mount,
        "--workdir=/tls",
        "ambassador/consul",
        "tls",
    ]);
    run(command.args(args)).await.map(drop)
}

/// Returns what a file holds; if there is none, makes one that only its owner can read.
/// Returns the generated settings, and after them the lines of `before` that set something else.
fn with_own(generated: &str, before: &str) -> String {
    let name = |line: &str| line.split_once('=').map(|(name, _)| name.to_owned());
    let ours: Vec<_> = generated.lines().filter_map(name).collect();
    let own = before.lines().filter(|line| *line != HEAD);
    let own = own.filter(|line| name(line).is_none_or(|name| !ours.contains(&name)));
    own.fold(generated.to_owned(), |all, line| format!("{all}{line}\n"))
}

fn keep_or(path: &Path, make: impl FnOnce() -> String) -> anyhow::Result<String> {
    if let Ok(text) = fs::read_to_string(path) {
        return Ok(text);
    }
    let text = make();
    secret(path, text.as_bytes())?;
    Ok(text)
}

/// Writes a file that only its owner can read.
pub(crate) fn secret(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file.write_all(text)?)
}

fn secret_folder(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o700))?)
}

/// Gives a file to the user that reads it in its container.
fn own(path: &Path, user: u32) -> anyhow::Result<()> {
    chown(path, Some(user), None)
        .with_context(|| format!("cannot give {} to user {user}: run this as root", path.display()))
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Returns a random identifier in the form that Consul's tokens have.
fn uuid() -> String {
    let number = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_renews_what_it_wrote_and_keeps_what_the_operator_added() {
        let before =
            format!("{HEAD}\nNODE_ADDRESS=10.0.0.1\nSERVERS=\"10.0.0.1\"\n# ours\nNEAR=alpha\n");
        let generated = format!("{HEAD}\nNODE_ADDRESS=10.0.0.9\nSERVERS=\"10.0.0.9\"\n");
        let renewed = with_own(&generated, &before);
        assert_eq!(renewed, format!("{generated}# ours\nNEAR=alpha\n"));
        assert_eq!(with_own(&generated, &renewed), renewed);
    }

    fn bundle(out: &Path) -> Bundle {
        let member = |n: u8| Member {
            name: format!("node{n}"),
            address: Ipv4Addr::new(10, 0, 0, n),
            server: n == 1,
        };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Bundle { members: vec![member(1), member(2)], tls: false, out: out.to_owned(), repository }
    }

    #[test]
    fn identifiers_are_version_four_and_differ() {
        let (one, two) = (uuid(), uuid());
        assert_ne!(one, two);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
        assert!("89ab".contains(&one[19..20]));
    }

    #[tokio::test]
    async fn secrets_are_readable_by_their_owner_only_and_written_once() {
        let out = tempfile::tempdir().unwrap();
        let bundle = bundle(out.path());
        bundle.write().await.unwrap();
        let before = fs::read(out.path().join("node2/consul/agent/secrets.json")).unwrap();
        bundle.write().await.unwrap();
        assert_eq!(fs::read(out.path().join("node2/consul/agent/secrets.json")).unwrap(), before);
        for file in [
            "secrets/gossip.key",
            "secrets/confd-node1.token",
            "node1/tokens/confd",
            "node1/tokens/registrator",
            "node1/consul/agent/secrets.json",
        ] {
            let mode = fs::metadata(out.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[tokio::test]
    async fn every_node_joins_the_servers_and_only_they_elect() {
        let out = tempfile::tempdir().unwrap();
        bundle(out.path()).write().await.unwrap();
        let read = |node: &str| -> serde_json::Value {
            serde_json::from_slice(
                &fs::read(out.path().join(node).join("consul/agent/node.json")).unwrap(),
            )
            .unwrap()
        };
        assert_eq!(read("node2")["retry_join"], json!(["10.0.0.1"]));
        assert_eq!(
            (&read("node1")["server"], &read("node1")["bootstrap_expect"]),
            (&json!(true), &json!(1))
        );
        assert_eq!(
            (&read("node2")["server"], &read("node2")["bootstrap_expect"]),
            (&json!(false), &json!(null))
        );
    }
}
