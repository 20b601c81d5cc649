//! `ambassador status`: what there is, and how fresh.

use std::process::ExitCode;
use std::time::Duration;

use consul::{Client, Query, ServiceEntry, Status as Health};
use serde_json::{Value, json};

use super::report::{Backend, Document, State};
use super::subject::entries;
use super::table::table;
use super::{Common, documents};

/// The form of the answer.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    common: Common,
}

/// Everything that is shown.
struct Overview {
    leader: Option<String>,
    nodes: Vec<(consul::Node, Health, bool)>,
    services: Vec<(String, Vec<ServiceEntry>)>,
    documents: Vec<Document>,
}

/// Shows it.
pub(crate) async fn status(options: &Status) -> anyhow::Result<ExitCode> {
    let overview = overview(&options.common.client()?).await?;
    if options.common.json {
        println!("{}", overview.json());
    } else {
        print!("{}", overview.text());
    }
    Ok(ExitCode::SUCCESS)
}

async fn overview(client: &Client) -> Result<Overview, consul::Error> {
    let query = Query::default();
    let checks = client.health_state("any", &query).await?.value;
    let of_nodes: Vec<_> = checks.iter().filter(|check| check.service_id.is_empty()).collect();
    let nodes = client.catalog_nodes(&query).await?.value.into_iter().map(|node| {
        let own = of_nodes.iter().filter(|check| check.node == node.name);
        let health = own.clone().filter(|check| !check.is_maintenance());
        let health = health.map(|check| check.status).max().unwrap_or(Health::Passing);
        let maintenance = own.clone().any(|check| check.is_maintenance());
        (node, health, maintenance)
    });
    let nodes = nodes.collect();
    let mut services = Vec::new();
    for service in client.catalog_services(&query).await?.value.into_keys() {
        let entries = entries(client, &service).await?;
        services.push((service, entries));
    }
    let documents = documents(client, None).await?.value;
    Ok(Overview { leader: client.leader().await?, nodes, services, documents })
}

impl Overview {
    fn text(&self) -> String {
        let leader = self.leader.as_deref().unwrap_or("none: nothing can change now");
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(node, health, maintenance)| {
                let word = if *maintenance { "drained" } else { health.as_str() };
                [node.name.clone(), node.address.clone(), word.to_owned()]
            })
            .collect();
        let services: Vec<_> = self
            .services
            .iter()
            .map(|(name, all)| [name.clone(), all.len().to_string(), passing(all).to_string()])
            .collect();
        let ambassadors: Vec<_> = self
            .documents
            .iter()
            .map(|one| {
                let (serving, all) = served(one);
                let age = one.data_age_seconds.map(|age| format!("{age:.1} s"));
                let latency = one.event_to_serving_ms.map(|ms| format!("{ms:.0} ms"));
                let or = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
                [
                    one.name(),
                    format!("{serving}/{all}"),
                    one.generation.to_string(),
                    or(one.applied_at.clone()),
                    or(age),
                    or(one.published().and_then(|at| at.elapsed().ok()).map(ago)),
                    or(latency),
                    or(one.error.clone()),
                ]
            })
            .collect();
        let heads = [
            "AMBASSADOR",
            "SERVING",
            "GENERATION",
            "APPLIED",
            "DATA AGE",
            "REPORTED",
            "EVENT TO SERVING",
            "ERROR",
        ];
        format!(
            "leader: {leader}\n\n{}\n{}\n{}",
            table(["NODE", "ADDRESS", "STATE"], &nodes),
            table(["SERVICE", "INSTANCES", "PASSING"], &services),
            table(heads, &ambassadors)
        )
    }

    fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|(node, health, maintenance)| {
            json!({ "name": node.name, "address": node.address, "health": health, "drained": maintenance })
        });
        let services = self.services.iter().map(|(name, all)| {
            let instances = all.iter().map(|one| {
                json!({
                    "id": one.service.id, "key": one.key(), "node": one.node.name, "address": one.address(),
                    "port": one.service.port, "status": one.status(), "maintenance": one.in_maintenance(),
                })
            });
            json!({ "name": name, "passing": passing(all), "instances": instances.collect::<Vec<_>>() })
        });
        json!({
            "leader": self.leader,
            "nodes": nodes.collect::<Vec<_>>(),
            "services": services.collect::<Vec<_>>(),
            "ambassadors": self.documents,
        })
    }
}

fn ago(time: Duration) -> String {
    format!("{} s ago", time.as_secs())
}

fn passing(all: &[ServiceEntry]) -> usize {
    all.iter().filter(|one| one.status() < Health::Critical && !one.in_maintenance()).count()
}

/// Returns how many servers get traffic, of how many.
fn served(document: &Document) -> (u64, u64) {
    let mut sums = (0, 0);
    for backend in document.backends.values() {
        let (serving, all) = match backend {
            Backend::States(states) => {
                let serving = states.values().filter(|state| **state == State::Serving).count();
                (serving as u64, states.len() as u64)
            }
            Backend::Counts(counts) => {
                (counts.get(&State::Serving).copied().unwrap_or(0), counts.values().sum())
            }
        };
        sums = (sums.0 + serving, sums.1 + all);
    }
    sums
}
