//! Certificates for TLS between Consul's agents, made by Consul's own tool from its image.

use std::fs;
use std::path::Path;

use tokio::process::Command;

use crate::bundle::{Bundle, USER};
use crate::files::{copy, folder, own, secret, secret_folder};
use crate::space::run;

/// How many days authority and certificates last: five years, Consul's own choice for an authority.
const DAYS: &str = "-days=1825";

/// Makes the authority, and a certificate for each node that has none.
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
        if cert.exists() && key.exists() {
            continue;
        }
        let kind = if member.server { "server" } else { "client" };
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
