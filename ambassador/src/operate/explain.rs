//! `ambassador explain`: every instance of a service, and the reason why it is served or not.

mod docker;
mod why;

use std::collections::BTreeMap;
use std::process::ExitCode;

use consul::Query;

use super::gone::gone;
use super::ports::Ports;
use super::reasons::{Explained, explained, is_udp};
use super::subject::entries;
use super::table::table;
use super::{Common, documents, weight};
use crate::docker::{Endpoint, Engine};
use docker::{Derivation, Seen};

/// What to explain, and how registrator works here.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Explain {
    /// The service
    service: String,
    #[command(flatten)]
    derivation: Derivation,
    #[command(flatten)]
    docker: Endpoint,
    #[command(flatten)]
    common: Common,
}

/// Explains; success means that there are instances and all are served.
pub(crate) async fn explain(options: &Explain) -> anyhow::Result<ExitCode> {
    let client = options.common.client()?;
    let service = options.service.as_str();
    let instances = entries(&client, service).await?;
    let documents = documents(&client, None).await?.value;
    let key = format!("{}{service}", weight::PREFIX);
    let found = client.kv_get(&key, &Query::default()).await?.value;
    let shares: BTreeMap<String, f64> =
        found.and_then(|pair| serde_json::from_slice(&pair.value).ok()).unwrap_or_default();
    let node = client.agent_self().await?;
    let node = services::Node::new(node.node, node.address);
    // Docker tells more, but what Consul says is worth telling without it.
    let seen = match engine(&options.docker) {
        None => None,
        Some(engine) => match Seen::of(&engine, &options.derivation, &node).await {
            Ok(seen) => Some(seen),
            Err(error) => {
                tracing::warn!("without docker: {:#}", anyhow::Error::from(error));
                None
            }
        },
    };
    let mut ports = Ports::default();
    ports.add(&instances);
    let mut all: Vec<_> = instances
        .iter()
        .map(|entry| {
            let since = seen.as_ref().and_then(|seen| seen.unhealthy_since(entry));
            explained(entry, &ports, &shares, &documents, since.as_deref())
        })
        .collect();
    let gone = gone(&client, service, &instances, &documents).await?;
    let unregistered: Vec<_> =
        seen.iter().flat_map(|seen| seen.unregistered(service, &instances, &node.name)).collect();
    // Whose last connections end is where it should be: on its way out.
    let leaves = |one: &Explained| one.ambassadors.values().all(|state| state == "draining");
    let served = all.iter().chain(&gone).any(|one| one.serving)
        && unregistered.is_empty()
        && instances.iter().zip(&all).all(|(entry, one)| one.serving || is_udp(entry))
        && gone.iter().all(|one| one.serving || leaves(one));
    all.extend(gone.into_iter().chain(unregistered));
    if options.common.json {
        println!("{}", serde_json::json!({ "service": service, "instances": all }));
    } else {
        print!("{}", text(service, &all));
    }
    Ok(if served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the engine, if one is there to be asked.
pub(super) fn engine(endpoint: &Endpoint) -> Option<Engine> {
    Engine::new(endpoint).ok()
}

fn text(service: &str, all: &[Explained]) -> String {
    if all.is_empty() {
        return format!("nothing is registered as {service:?}, and nothing here would be\n");
    }
    let mut rows = Vec::new();
    for one in all {
        let word = if one.serving { "serving" } else { "not serving" };
        let first = match one.reasons.first() {
            Some(reason) => reason.clone(),
            None => format!("{} ambassadors", one.ambassadors.len()),
        };
        rows.push([one.id.clone(), one.node.clone(), one.address.clone(), word.to_owned(), first]);
        let more = one.reasons.iter().skip(1);
        rows.extend(more.map(|reason| {
            [String::new(), String::new(), String::new(), String::new(), reason.clone()]
        }));
    }
    table(["INSTANCE", "NODE", "ADDRESS", "STATE", "WHY"], &rows)
}
