//! The short commands: each asks a question or hands something over, and ends.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::args::Place;
use crate::base::usual;
use crate::check::{Verdict, check};
use crate::control::{Outcome, send};
use crate::directory::read;
use crate::master::patient;

/// The master answers nobody while it reloads, about 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);
/// Whether confd calls services as in their Compose file.
const COMPOSE_NAMES: &str = "CONFD_COMPOSE_NAMES";

/// Returns success when HAProxy's master answers and has a worker, or, where there never was one, when the agent at
/// `listen` answers; else says why not.
pub(crate) async fn healthcheck(place: &Place, listen: Option<SocketAddr>) -> ExitCode {
    if !place.directory.base().exists()
        && let Some(address) = listen
        && daemon::listener::probe(address).await
    {
        return ExitCode::SUCCESS;
    }
    let deadline = Instant::now() + PATIENCE;
    let socket = place.directory.master();
    match patient(&socket, deadline, |processes| !processes.workers.is_empty()).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("haproxy does not serve: {}: {error}", socket.display());
            ExitCode::FAILURE
        }
    }
}

/// Becomes one pass of confd over the ambassadors whose resources are in the volume. Returns only if that fails.
pub(crate) fn configure(place: &Place, flags: &[OsString]) -> anyhow::Result<ExitCode> {
    let folder = place.directory.path().join("confd");
    anyhow::ensure!(
        folder.join("conf.d").is_dir(),
        "there are no ambassadors in {}: `ambassador create` makes them, with the volume mounted there",
        place.directory.path().display()
    );
    let mut confd = std::process::Command::new("confd");
    confd.arg("--once").arg("--confdir").arg(&folder).arg("--state-dir").arg(folder.join("state"));
    confd.args(flags).env("CONFD_SOURCE", "docker");
    // Upstreams are asked for by the names that the services have in their Compose file.
    if std::env::var_os(COMPOSE_NAMES).is_none_or(|value| value.is_empty()) {
        confd.env(COMPOSE_NAMES, "true");
    }
    Err(confd.exec()).context("cannot run confd")
}

/// Hands a configuration to the running ambassador; success means that HAProxy serves it.
pub(crate) async fn reconfigure(
    place: &Place,
    text: &str,
    limit: Duration,
) -> anyhow::Result<ExitCode> {
    let socket = place.directory.control();
    let outcome = send(&socket, text, limit)
        .await
        .with_context(|| format!("no answer from an ambassador on {}", socket.display()))?;
    match outcome {
        Outcome::Applied => Ok(ExitCode::SUCCESS),
        Outcome::Rejected(message) => {
            eprintln!("{message}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Prints the configuration that is served.
pub(crate) fn showconfig(place: &Place) -> anyhow::Result<ExitCode> {
    print!("{}", served(place)?);
    Ok(ExitCode::SUCCESS)
}

/// Prints a configuration as HAProxy reads it, the ambassador's own part first, and what HAProxy
/// says about it; without a text, the one that is served. Success means that it is accepted.
pub(crate) async fn debugconfig(place: &Place, text: Option<String>) -> anyhow::Result<ExitCode> {
    let text = match text {
        Some(text) => text,
        None => served(place)?,
    };
    let base = read(&place.directory.base())?;
    let base = base.unwrap_or_else(|| usual(&place.directory.runtime()));
    print!("{base}\n{text}");
    match check(place, &text).await.context("cannot ask HAProxy")? {
        Verdict::Good => Ok(ExitCode::SUCCESS),
        Verdict::Bad(message) => {
            eprintln!("{message}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn served(place: &Place) -> anyhow::Result<String> {
    let path = place.directory.config();
    let text = read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.with_context(|| format!("no ambassador has run yet: there is no {}", path.display()))
}
