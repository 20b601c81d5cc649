//! Certificates for TLS between Consul's agents, made by Consul's own tool from its image.

use std::fs;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::process::Command;

use crate::bundle::{Bundle, USER};
use crate::files::{copy, folder, own, secret, secret_folder};
use crate::space::run;

/// How many days authority and certificates last: five years, Consul's own choice for an authority.
const DAYS: &str = "-days=1825";

/// Makes the authority, and a certificate for each node that has none, or one of the other kind: an agent that became a
/// server is believed only with a server's.
pub(crate) async fn make(bundle: &Bundle) -> anyhow::Result<()> {
    let authority = bundle.secrets().join("tls");
    secret_folder(&authority)?;
    own(&authority, USER)?;
    if !authority.join("consul-agent-ca-key.pem").exists() {
        consul_tls(&authority, &["ca", "create", DAYS]).await?;
    }
    for member in &bundle.members {
        let home = bundle.out.join(&member.name).join("consul");
        folder(&home)?;
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|file| home.join(file));
        copy(&bundle.repository.join("consul/cluster/tls.hcl"), &home.join("agent/tls.hcl"))?;
        let kind = if member.server { "server" } else { "client" };
        if key.exists() && fs::read_to_string(&cert).is_ok_and(|pem| is_for(&pem, kind)) {
            continue;
        }
        consul_tls(&authority, &["cert", "create", &format!("-{kind}"), DAYS]).await?;
        let made = |end: &str| authority.join(format!("dc1-{kind}-consul-0{end}.pem"));
        copy(&authority.join("consul-agent-ca.pem"), &ca)?;
        copy(&made(""), &cert)?;
        secret(&key, &fs::read(made("-key"))?)?;
        for file in [made(""), made("-key")] {
            fs::remove_file(file)?;
        }
        for file in [ca, cert, key] {
            own(&file, USER)?;
        }
    }
    Ok(())
}

/// Tells whether a certificate is for an agent of this kind: `consul tls` writes the name `server.dc1.consul` into it, or
/// `client.dc1.consul`.
fn is_for(pem: &str, kind: &str) -> bool {
    let lines = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN CERTIFICATE")).skip(1);
    let body: String = lines.take_while(|line| !line.starts_with("-----")).collect();
    let name = format!("{kind}.dc1.consul");
    BASE64_STANDARD
        .decode(body)
        .is_ok_and(|der| der.windows(name.len()).any(|part| part == name.as_bytes()))
}

/// Runs `consul tls` in a folder. The image is as in `.env` and in the Compose files: without a `REGISTRY` of the
/// operator's own nothing is fetched, for this container is given the authority's key.
async fn consul_tls(folder: &Path, args: &[&str]) -> anyhow::Result<()> {
    let set = |name: &str, default: &str| {
        std::env::var(name).ok().filter(|text| !text.is_empty()).unwrap_or(default.to_owned())
    };
    let image = format!("{}ambassador/consul:{}", set("REGISTRY", ""), set("TAG", "latest"));
    let pull = format!("--pull={}", set("PULL_POLICY", "never"));
    let mount = format!("{}:/tls", folder.display());
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--network=none", &pull, "--volume", &mount, "--workdir=/tls"]);
    run(command.args([&image, "tls"]).args(args)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_for_whom_it_is() {
        let body = BASE64_STANDARD.encode(b"\x30\x82 server.dc1.consul localhost");
        let (head, tail) = body.split_at(20);
        let name = "CERTIFICATE";
        let pem = format!("-----BEGIN {name}-----\n{head}\n{tail}\n-----END {name}-----\n");
        assert!(is_for(&pem, "server") && !is_for(&pem, "client"));
        assert!(!is_for("", "server") && !is_for("nonsense", "server"));
    }
}
