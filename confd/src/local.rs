//! This node's containers as the source of services, instead of Consul: for `--source docker`.
//!
//! What containers offer is derived as registrator derives it, so templates see the same. There is no catalog behind
//! it: only this node, no keys, and no checks but Docker's own.

mod flags;
mod known;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::UdpSocket;
use std::time::Duration;

use daemon::error::chain;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::docker::{Endpoint, Engine, Error};
use crate::instance::{Instance, normalised};
use crate::snapshot::{Check, Node};
use crate::text;
use known::{Known, look};
use world::DATACENTER;

pub use flags::{Derive, Source};
pub(crate) use world::{World, unanswerable};

/// How long the engine may take for one answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Everything is inspected again this often, though no event says so.
const RESYNC: Duration = Duration::from_mins(1);
/// Events come in bursts; each of them costs one pass.
const BURST: Duration = Duration::from_millis(10);
/// The longest pause before the engine is looked for again.
const LONGEST: Duration = Duration::from_secs(5);
/// An address that nobody has (RFC 5737), to learn from where this node would reach the world.
const ELSEWHERE: &str = "192.0.2.1:9";

/// Keeps `world` up to date. While the engine is away nothing changes.
pub(crate) async fn follow(
    engine: &Endpoint,
    derive: &Derive,
    world: &watch::Sender<Option<World>>,
) -> Infallible {
    let mut delays = daemon::backoff::delays();
    let mut said: Option<String> = None;
    // Outlives the connection: who is about to stop is not forgotten because the engine was away.
    let mut memory = Memory::default();
    loop {
        let answered = || delays.reset();
        let Err(error) = follow_engine(engine, derive, world, &mut memory, answered).await;
        let why = chain(&error);
        if said.as_ref() != Some(&why) {
            tracing::warn!(
                host = engine.host(),
                why,
                "cannot follow this node's containers, will retry"
            );
        }
        said = Some(why);
        sleep(delays.next_delay().min(LONGEST)).await;
    }
}

/// What outlives a connection to the engine.
#[derive(Default)]
struct Memory {
    known: BTreeMap<String, Known>,
    /// The time of the latest event that was acted upon, or when the first was waited for: what came after it is asked
    /// for again.
    seen: Option<i64>,
}

async fn follow_engine(
    engine: &Endpoint,
    derive: &Derive,
    world: &watch::Sender<Option<World>>,
    Memory { known, seen }: &mut Memory,
    mut answered: impl FnMut(),
) -> Result<Infallible, Error> {
    let engine = Engine::new(engine, LIMIT)?;
    let name = match &derive.hostname {
        Some(name) => name.clone(),
        None => engine.node().await?,
    };
    let node = services::Node::new(name, own_address());
    let options = derive.options();
    let tags = services::OperatorTags::parse(&derive.tags);
    let mut changes = engine.changes(*seen.get_or_insert_with(a_moment_ago));
    let mut warned = BTreeSet::new();
    loop {
        let mut resync = Instant::now() + RESYNC;
        let mut stale: BTreeSet<String> = engine.running().await?.into_iter().collect();
        known.retain(|id, _| stale.contains(id));
        let mut news = Vec::new();
        loop {
            look(&engine, &tags, known, &stale, &news).await?;
            answered();
            *seen = news.iter().map(|change| change.at).max().max(*seen);
            let (now, warnings) = derived(known, &options, &node);
            for warning in &warnings {
                if !warned.contains(warning) {
                    tracing::warn!("{warning}");
                }
            }
            warned = warnings;
            world.send_if_modified(|world| {
                let differs = world.as_ref() != Some(&now);
                *world = Some(now);
                differs
            });
            let leaving = known.values().filter_map(|one| one.leaving).min();
            news = match timeout_at(leaving.map_or(resync, |at| at.min(resync)), changes.next())
                .await
            {
                Ok(change) => vec![change?],
                Err(_) if Instant::now() >= resync => break,
                Err(_) => Vec::new(),
            };
            let end = Instant::now() + BURST;
            while !news.is_empty()
                && let Ok(more) = timeout_at(end, changes.next()).await
            {
                news.push(more?);
            }
            stale = news.iter().map(|change| change.container.clone()).collect();
            resync = resync.min(Instant::now() + RESYNC);
        }
    }
}

/// Returns the time from which events are asked for by who has seen none yet, in nanoseconds since 1970.
fn a_moment_ago() -> i64 {
    i64::try_from(engine::a_moment_ago().as_nanos()).unwrap_or_default()
}

/// Returns what the containers offer, and what is wrong with some.
fn derived(
    known: &BTreeMap<String, Known>,
    options: &services::Options,
    node: &services::Node,
) -> (World, BTreeSet<String>) {
    let owner = |wanted: &str| {
        let by_name = || known.values().find(|one| one.container.name == wanted);
        known.get(wanted).or_else(by_name).map(|one| &one.container)
    };
    let (mut all, mut warnings) = (Vec::new(), BTreeSet::new());
    for one in known.values() {
        let (tags, problems) = &one.tags;
        let options = services::Options { tags: tags.clone(), ..options.clone() };
        let derived = services::instances(&one.container, &options, node, &owner);
        let name = text::clean(&one.container.name);
        warnings.extend(problems.iter().map(|problem| format!("{name}: {problem}")));
        warnings.extend(derived.warnings.iter().map(|w| format!("{name}: {w}")));
        all.extend(derived.instances);
    }
    let (unique, doubles) = services::unique(all);
    warnings.extend(doubles.iter().map(|(name, w)| format!("{}: {w}", text::clean(name))));
    let mut checks = Vec::new();
    let instances = unique.into_iter().map(|instance| {
        let one = known.get(&instance.container);
        let healthy = instance
            .docker_health
            .as_ref()
            .is_none_or(|health| health.status == services::Status::Passing);
        let leaving = one.is_some_and(|one| one.leaving.is_some());
        let status = match (leaving, healthy) {
            (true, _) => "maintenance",
            (false, true) => "passing",
            (false, false) => "critical",
        };
        if let Some(health) = &instance.docker_health {
            checks.push(Check {
                node: text::clean(&node.name),
                id: format!("{}:docker-health", instance.id),
                name: "docker-health".into(),
                status: if healthy { "passing" } else { "critical" }.into(),
                notes: text::clean(&health.note),
                service_id: instance.id.clone(),
                service_name: instance.service.clone(),
            });
        }
        let mut meta = instance.meta;
        if let Some(at) = one.and_then(|one| one.started) {
            meta.insert("event-time".to_owned(), at.to_string());
        }
        Instance {
            id: instance.id,
            name: instance.service,
            node: node.name.clone(),
            node_address: node.address.clone(),
            address: instance.address,
            port: instance.port,
            tags: instance.tags,
            meta: meta.into(),
            weight: instance.weights.passing.into(),
            status: status.to_owned(),
            datacenter: DATACENTER.to_owned(),
        }
    });
    let instances = normalised(instances.collect::<Vec<_>>());
    let node = Node {
        name: text::clean(&node.name),
        address: text::clean(&node.address),
        datacenter: DATACENTER.to_owned(),
        meta: BTreeMap::new(),
    };
    (World { node, instances, checks }, warnings)
}

/// Returns the address from which this node reaches others; nothing is sent to learn it.
fn own_address() -> String {
    let address = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(ELSEWHERE)?;
        socket.local_addr()
    });
    address.map_or_else(|_| "127.0.0.1".to_owned(), |address| address.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::known::MERCY;
    use super::*;
    use crate::dependency::{Dependency, Service};
    use crate::snapshot::Data;
    use serde_json::json;
    use services::Container;

    fn container(id: &str, labels: &serde_json::Value) -> Known {
        let document = json!({
            "Id": id, "Name": format!("/{id}"),
            "State": {"Running": true},
            "Config": {"Image": "shop/rng", "Labels": labels, "ExposedPorts": {"80/tcp": {}}},
            "HostConfig": {"NetworkMode": "n"},
            "NetworkSettings": {"Networks": {"n": {"IPAddress": "10.0.0.7"}}},
        });
        let container = Container::from_inspect(&document).unwrap();
        Known { container, tags: Default::default(), started: Some(5), leaving: None }
    }

    fn world(known: Vec<Known>) -> World {
        let known = known.into_iter().map(|one| (one.container.id.clone(), one)).collect();
        let options = services::Options { internal: true, ..services::Options::default() };
        let node = services::Node::new("n1", "192.0.2.7");
        derived(&known, &options, &node).0
    }

    #[test]
    fn a_node_answers_as_if_it_were_all_there_is() {
        let world = world(vec![container("a", &json!({"SERVICE_TAGS": "http"}))]);
        let services = world.answer(&Dependency::Services { dc: None });
        let tags = BTreeSet::from(["http".to_owned()]);
        assert_eq!(services, Data::Services([("rng".to_owned(), tags)].into()));
        let Data::Instances(rng) = world.answer(&Dependency::Service(Service::named("rng"))) else {
            panic!("no instances")
        };
        assert_eq!((rng[0].id.as_str(), rng[0].address.as_str()), ("n1:a:80", "10.0.0.7"));
        assert_eq!(rng[0].meta.get("event-time"), Some("5"));
        assert_eq!(world.answer(&Dependency::Key { path: "x".into() }), Data::Key(None));
        assert_eq!(world.answer(&Dependency::Nodes { dc: None }).len(), 1);
        let other = Dependency::Node { name: "n2".into(), dc: None };
        assert_eq!(world.answer(&other), Data::Node(None));
    }

    #[test]
    fn one_that_was_told_to_stop_gets_no_traffic() {
        let mut leaving = container("a", &json!({}));
        leaving.leaving = Some(Instant::now() + MERCY);
        let world = world(vec![leaving, container("b", &json!({}))]);
        let ids = |service: &Service| {
            world.of(service).into_iter().map(|one| one.id.clone()).collect::<Vec<_>>()
        };
        let mut rng = Service::named("rng");
        assert_eq!(ids(&rng), ["n1:b:80"]);
        rng.passing = false;
        assert_eq!(ids(&rng), ["n1:a:80", "n1:b:80"]);
        assert_eq!(world.left_out(), ["n1:a:80 gets no traffic: its container is about to stop"]);
    }

    #[test]
    fn one_that_is_still_starting_gets_no_traffic() {
        let mut starting = container("a", &json!({}));
        starting.container.health =
            Some(services::Probe { status: services::Health::Starting, output: String::new() });
        let world = world(vec![starting, container("b", &json!({}))]);
        assert_eq!(world.left_out(), ["n1:a:80 gets no traffic: starting"]);
    }
}
