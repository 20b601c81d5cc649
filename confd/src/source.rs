//! Asks Consul, and normalises what it answers.

mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consul::{Answer, Client, Consistency, Error, Query, ServiceEntry, Status};

use crate::dependency::{Dependency, Service};
use crate::instance::{self, Instance};
use crate::snapshot::{Check, Data, Node};
use crate::text;

/// How long Consul may hold a blocking query: short enough that a connection that died
/// unnoticed costs little, long enough that an idle cluster is idle.
pub(crate) const WAIT: Duration = Duration::from_mins(1);

/// What one question needs besides itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// Wait for something newer than this.
    pub(crate) index: Option<u64>,
    pub(crate) consistency: Consistency,
}

/// Asks `client` for the answer to `dependency`.
pub(crate) async fn ask(
    client: &Client,
    dependency: &Dependency,
    asking: Asking,
) -> Result<Answer<Data>, Error> {
    let query = |dc: &Option<String>| Query {
        index: asking.index,
        wait: WAIT,
        consistency: asking.consistency,
        dc: dc.clone(),
        ..Query::default()
    };
    match dependency {
        Dependency::Services { dc } => Ok(client.catalog_services(&query(dc)).await?.map(services)),
        Dependency::Service(service) => {
            let query = Query {
                tag: service.tag.clone(),
                near: service.near.clone(),
                passing: service.passing,
                filter: service.filter.clone(),
                ..query(&service.dc)
            };
            let answer = client.health_service(&service.name, &query).await?;
            Ok(answer.map(|entries| instances(service, entries)))
        }
        Dependency::Nodes { dc } => Ok(client.catalog_nodes(&query(dc)).await?.map(|nodes| {
            let mut nodes: Vec<Node> = nodes.into_iter().map(node).collect();
            nodes.sort();
            Data::Nodes(nodes)
        })),
        Dependency::Node { name, dc } => {
            let answer = node::ask(client, name, &query(dc)).await?;
            Ok(answer.map(|found| Data::Node(found.map(services_of_node))))
        }
        Dependency::Datacenters => Ok(Answer {
            index: None,
            value: Data::Names(
                client.datacenters().await?.iter().map(|n| text::clean(n)).collect(),
            ),
            known_leader: None,
            last_contact: None,
        }),
        Dependency::Key { path } => {
            let answer = client.kv_get(path, &query(&None)).await?;
            Ok(answer.map(|pair| Data::Key(pair.map(|pair| lossy(&pair.value)))))
        }
        Dependency::Prefix { path } => {
            // Keys below a folder, not those that merely begin with its name.
            let folder = match path.trim_end_matches('/') {
                "" => String::new(),
                path => format!("{path}/"),
            };
            let answer = client.kv_list(&folder, &query(&None)).await?;
            Ok(answer.map(|pairs| {
                let relative = |key: &str| key.strip_prefix(&folder).unwrap_or(key).to_owned();
                Data::Keys(pairs.iter().map(|p| (relative(&p.key), lossy(&p.value))).collect())
            }))
        }
        Dependency::Checks { state } => {
            let answer = client.health_state(state, &query(&None)).await?;
            Ok(answer.map(|checks| {
                let mut checks: Vec<Check> = checks.iter().map(check).collect();
                checks.sort();
                Data::Checks(checks)
            }))
        }
        // Consul does not know them: Docker is asked instead.
        Dependency::Ambassadors => Ok(Answer {
            index: None,
            value: Data::Ambassadors(Vec::new()),
            known_leader: None,
            last_contact: None,
        }),
    }
}

/// Tells whether a look at this datacenter's catalog and checks tells when the answer to this may have changed.
pub(crate) fn is_of_catalog(dependency: &Dependency) -> bool {
    match dependency {
        Dependency::Services { dc } | Dependency::Nodes { dc } | Dependency::Node { dc, .. } => {
            dc.is_none()
        }
        Dependency::Service(service) => service.dc.is_none(),
        Dependency::Checks { .. } => true,
        _ => false,
    }
}

/// Tells whether the same question gets the same error for as long as nobody changes it.
pub(crate) fn is_for_good(error: &Error) -> bool {
    // Consul counts a filter that it cannot read among its own mistakes.
    let is_of_filter = |message: &str| message.contains("boolean expression");
    !error.is_retryable() || matches!(error, Error::Status { message, .. } if is_of_filter(message))
}

/// Tells whether Consul lets a query for this wait for news; otherwise it is asked now and then.
pub(crate) fn blocks(dependency: &Dependency) -> bool {
    !matches!(dependency, Dependency::Datacenters)
}

/// Returns how many queries a question for news takes at once.
pub(crate) fn queries(dependency: &Dependency) -> u32 {
    if matches!(dependency, Dependency::Node { .. }) { 2 } else { 1 }
}

/// Returns the nodes (of another datacenter than the agent's, if it is named) that cannot be trusted to tell what runs
/// on them: gone, or failing.
pub(crate) async fn suspect_nodes(
    client: &Client,
    nodes: &BTreeSet<String>,
    dc: Option<&str>,
) -> Result<BTreeSet<String>, Error> {
    let dc = dc.map(ToOwned::to_owned);
    let query = Query { consistency: Consistency::Consistent, dc, ..Query::default() };
    let members: BTreeSet<String> =
        client.catalog_nodes(&query).await?.value.into_iter().map(|node| node.name).collect();
    let failing: BTreeSet<String> = client
        .health_state("critical", &query)
        .await?
        .value
        .into_iter()
        .filter(|check| check.id == "serfHealth")
        .map(|check| check.node)
        .collect();
    Ok(nodes.iter().filter(|n| !members.contains(*n) || failing.contains(*n)).cloned().collect())
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// The names that were said to be left out; of a catalog full of them, some are enough.
static ODD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// How many of them are said.
const MOST: usize = 100;

/// Tells whether a service can be asked for by its name as templates see it. One that cannot must not stop the others.
fn is_usable(name: &str) -> bool {
    let usable = text::is_clean(name) && consul::is_addressable(name);
    let mut odd = ODD.lock().unwrap_or_else(PoisonError::into_inner);
    if !usable && odd.len() < MOST && odd.insert(name.to_owned()) {
        tracing::warn!(name, "left out a service: no request can carry its name");
    }
    usable
}

fn services(services: BTreeMap<String, Vec<String>>) -> Data {
    Data::Services(
        services
            .into_iter()
            .filter(|(name, _)| is_usable(name))
            .map(|(name, tags)| (name, tags.iter().map(|tag| text::clean(tag)).collect()))
            .collect(),
    )
}

fn instances(service: &Service, entries: Vec<ServiceEntry>) -> Data {
    let instances = entries.into_iter().map(instance);
    if service.near.is_some() {
        // Asked for by nearness: the order is the answer.
        let cleaned = |instance| instance::normalised([instance]);
        return Data::Instances(instances.flat_map(cleaned).collect());
    }
    Data::Instances(instance::normalised(instances))
}

fn instance(entry: ServiceEntry) -> Instance {
    let status = entry.status();
    let maintenance = entry.in_maintenance();
    let (node, service) = (entry.node, entry.service);
    let weight =
        if status == Status::Warning { service.weights.warning } else { service.weights.passing };
    Instance {
        id: service.id,
        name: service.name,
        node: node.name,
        node_address: node.address,
        address: service.address,
        port: service.port,
        tags: service.tags,
        meta: service.meta.into(),
        weight: weight.into(),
        status: if maintenance { "maintenance" } else { status.as_str() }.to_owned(),
        datacenter: if service.datacenter.is_empty() {
            node.datacenter
        } else {
            service.datacenter
        },
    }
}

fn node(node: consul::Node) -> Node {
    let clean = |map: BTreeMap<String, String>| {
        map.iter().map(|(key, value)| (text::clean(key), text::clean(value))).collect()
    };
    Node {
        name: text::clean(&node.name),
        address: text::clean(&node.address),
        datacenter: text::clean(&node.datacenter),
        meta: clean(node.meta),
    }
}

fn services_of_node(
    (found, checks): (consul::NodeServices, Vec<consul::Check>),
) -> (Node, Vec<Arc<Instance>>) {
    let node = node(found.node.clone());
    let entry = |service: consul::AgentService| {
        // Its own, and those of the node as a whole.
        let concerns = |id: &str| id.is_empty() || id == service.id;
        let checks = checks.iter().filter(|check| concerns(&check.service_id)).cloned().collect();
        ServiceEntry { node: found.node.clone(), service, checks }
    };
    let instances = found.services.into_values().map(|service| instance(entry(service)));
    (node, instance::normalised(instances))
}

fn check(check: &consul::Check) -> Check {
    Check {
        node: text::clean(&check.node),
        id: text::clean(&check.id),
        name: text::clean(&check.name),
        status: check.status.as_str().to_owned(),
        notes: text::clean(&check.notes),
        service_id: text::clean(&check.service_id),
        service_name: text::clean(&check.service_name),
    }
}
