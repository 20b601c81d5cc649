//! `ambassador stop`: a container leaves all ambassadors first, and ends afterwards.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use consul::{Client, ServiceEntry};
use tokio_util::sync::CancellationToken;

use super::subject::of_container;
use super::{Common, NOBODY_REPORTS, Timeout, documents, sight, until_gone};
use crate::docker::{Endpoint, Engine};

/// Why we put instances into maintenance; registrator leaves reasons alone that are not its own.
pub(crate) const REASON: &str = "stopped by `ambassador stop`";
/// How long registrator may take to remove what has ended.
const GONE: Duration = Duration::from_secs(5);

/// What to stop.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Stop {
    /// Containers of this node, by name or ID
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// How long the container may take to end [default: as it says itself]
    #[arg(long = "stop-timeout", value_name = "SECONDS")]
    grace: Option<i32>,
    #[command(flatten)]
    timeout: Timeout,
    #[command(flatten)]
    docker: Endpoint,
    #[command(flatten)]
    common: Common,
}

/// Stops one container after the other; one that cannot be drained goes on.
pub(crate) async fn stop(options: &Stop) -> anyhow::Result<ExitCode> {
    let client = options.common.client()?;
    let engine = Engine::new(&options.docker)?;
    let interrupt = daemon::shutdown::token()?;
    let mut code = ExitCode::SUCCESS;
    for container in &options.containers {
        let stopped = if interrupt.is_cancelled() {
            Err(anyhow::anyhow!("interrupted"))
        } else {
            stop_one(options, &client, &engine, container, &interrupt).await
        };
        if options.common.json {
            let error = stopped.as_ref().err().map(|error| format!("{error:#}"));
            println!("{}", serde_json::json!({ "container": container, "error": error }));
        } else if let Err(error) = &stopped {
            eprintln!("{container} goes on: {error:#}");
        } else {
            println!("{container}");
        }
        if stopped.is_err() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn stop_one(
    options: &Stop,
    client: &Client,
    engine: &Engine,
    word: &str,
    interrupt: &CancellationToken,
) -> anyhow::Result<()> {
    let running = engine.running(word).await?;
    let running = running.with_context(|| format!("no container {word:?} runs"))?;
    let instances = of_container(client, &running.id).await?;
    let own = sight::agent(client).await?.node;
    if instances.is_empty() {
        sight::sees_all(client, &own).await?;
        // The log has it, and not the output: scripts read there which containers are stopped.
        tracing::warn!(container = word, "is not registered, so no ambassador is waited for");
    } else {
        let known = documents(client, None).await?.value;
        ensure!(!known.is_empty(), NOBODY_REPORTS);
        if let Some(other) = instances.iter().find(|one| one.node.name != own) {
            anyhow::bail!("it is registered on node {}: run this there", other.node.name);
        }
    }
    let (mut taken, limit) = (Vec::new(), options.timeout.timeout);
    let drained = tokio::select! {
        drained = drain(client, limit, (&own, &running.id), instances, &mut taken) => drained,
        () = interrupt.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    let stopped = match drained {
        // It may have its signal already: from here on there is no way back, and no interruption.
        Ok(()) => engine.stop(&running, options.grace).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    put_back(client, &taken, stopped.is_ok()).await;
    stopped
}

/// Takes a container's instances out, `instances` and those that come meanwhile, and waits until
/// no ambassador can have a connection to them. What was taken out is in `taken`, however it ends.
async fn drain(
    client: &Client,
    limit: Duration,
    (node, container): (&str, &str),
    mut instances: Vec<ServiceEntry>,
    taken: &mut Vec<(String, String)>,
) -> anyhow::Result<()> {
    while !instances.is_empty() {
        for ServiceEntry { service, .. } in instances {
            taken.push((service.name, service.id.clone()));
            client.maintenance(&service.id, Some(REASON)).await?;
        }
        let key = |(service, id): &(String, String)| {
            (service.clone(), consul::instance_key(node, id).into_owned())
        };
        let keys: Vec<_> = taken.iter().map(key).collect();
        if let Some(left) = until_gone(client, limit, &keys).await? {
            anyhow::bail!("not in time: {left}");
        }
        instances = of_container(client, container).await?;
        instances.retain(|one| !taken.iter().any(|(_, id)| *id == one.service.id));
    }
    Ok(())
}

/// Ends our maintenance where the container goes on, or where its instance outlives it.
async fn put_back(client: &Client, instances: &[(String, String)], stopped: bool) {
    if stopped {
        let end = tokio::time::Instant::now() + GONE;
        while tokio::time::Instant::now() < end {
            let Ok(left) = client.agent_services(None).await else { return };
            if !instances.iter().any(|(_, id)| left.contains_key(id)) {
                return;
            }
            tokio::time::sleep(GONE / 20).await;
        }
    }
    for (_, id) in instances {
        if let Err(error) = client.maintenance(id, None).await
            && error.status() != Some(404)
        {
            tracing::warn!(id, %error, "stays in maintenance");
        }
    }
}
