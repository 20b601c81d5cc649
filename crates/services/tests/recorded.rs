//! What engines of three generations say about the same containers leads to the same instances.
//!
//! The documents in `inspect/` were recorded by `inspect/record.sh` on Docker 20.10, 26.1 and 28.5.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use services::{Container, Derived, Instance, NetworkMode, Node, Options, instances};

const ENGINES: [&str; 3] = ["20.10", "26.1", "28.5"];
/// The addresses that an engine gives out as it likes begin so.
const BRIDGE: &str = "172.17.0.";
/// The first port that an engine gives out as it likes.
const RANDOM: u16 = 32_768;

/// All instances in published mode, by container.
const PUBLISHED: &str = "\
bound: web 10.77.1.1:8081 node1:bound:80
bound: ! port: 81/tcp is bound to 127.0.0.1, where nobody else reaches it; not registered
by-id: by-id 192.0.2.1:8085 node1:by-id:80
composed: -
datagrams: dns-53 192.0.2.1:8053 node1:datagrams:53
datagrams: dns-53 192.0.2.1:8053 node1:datagrams:53:udp #udp
exposed: -
guest: guest 192.0.2.1:8090 node1:guest:80
healthy: web 192.0.2.1:8087 node1:healthy:80 (healthy: all is well)
host: web 192.0.2.1:9000 node1:host:9000
labels: web 192.0.2.1:8086 node1:labels:80 #a #b,c check=http weight=10:1
labels: secure 192.0.2.1:8443 node1:labels:443 #a #b,c
owner: web 192.0.2.1:8090 node1:owner:80
paused: web 192.0.2.1:8089 node1:paused:80 (paused)
portless: -
published: web 192.0.2.1:8080 node1:published:80
random: web 192.0.2.1:random node1:random:80
range: rtp 192.0.2.1:7000 node1:range:7000
range: rtp 192.0.2.1:7001 node1:range:7001
range: media-7002 192.0.2.1:7002 node1:range:7002
six: -
stopped: -
twice: web 192.0.2.1:8083 node1:twice:80
twice: web 192.0.2.1:8084 node1:twice:80:192.0.2.1:8084
two-networks: -
unhealthy: web 192.0.2.1:8088 node1:unhealthy:80 (unhealthy: no luck)
";

/// All instances in internal mode, by container.
const INTERNAL: &str = "\
bound: web-80 bridge:80 node1:bound:80
bound: web-81 bridge:81 node1:bound:81
by-id: by-id bridge:80 node1:by-id:80
composed: cart 10.77.1.15:80 node1:composed:80
datagrams: dns-53 bridge:53 node1:datagrams:53
datagrams: dns-53 bridge:53 node1:datagrams:53:udp #udp
exposed: web-80 10.77.1.10:80 node1:exposed:80
exposed: web-443 10.77.1.10:443 node1:exposed:443
guest: guest 10.77.1.13:80 node1:guest:80
healthy: web bridge:80 node1:healthy:80 (healthy: all is well)
host: web 192.0.2.1:9000 node1:host:9000
labels: web 10.77.1.14:80 node1:labels:80 #a #b,c check=http weight=10:1
labels: secure 10.77.1.14:443 node1:labels:443 #a #b,c
owner: web 10.77.1.13:80 node1:owner:80
paused: web bridge:80 node1:paused:80 (paused)
portless: -
published: web bridge:80 node1:published:80
random: web bridge:80 node1:random:80
range: rtp bridge:7000 node1:range:7000
range: rtp bridge:7001 node1:range:7001
range: media-7002 bridge:7002 node1:range:7002
six: web 10.77.3.10:80 node1:six:80 lan_ipv6=fd77::10
stopped: -
twice: web bridge:80 node1:twice:80
two-networks: web 10.77.2.12:80 node1:two-networks:80
unhealthy: web bridge:80 node1:unhealthy:80 (unhealthy: no luck)
";

fn recorded(engine: &str) -> BTreeMap<String, Container> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect").join(engine);
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files
        .map(|path| {
            let documents: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let container = Container::from_inspect(&documents[0]).unwrap();
            (container.name.clone(), container)
        })
        .collect()
}

fn derive(
    containers: &BTreeMap<String, Container>,
    options: &Options,
) -> BTreeMap<String, Derived> {
    let node = Node::new("node1", "192.0.2.1");
    let owner = |id: &str| containers.values().find(|one| one.id == id);
    let derived = |one: &Container| instances(one, options, &node, &owner);
    containers.iter().map(|(name, one)| (name.clone(), derived(one))).collect()
}

fn table(derived: &BTreeMap<String, Derived>) -> String {
    let lines = derived.iter().flat_map(|(name, derived)| {
        let nothing = derived.instances.is_empty().then(|| "-".to_owned());
        let instances = derived.instances.iter().map(line).chain(nothing);
        let warnings = derived.warnings.iter().map(|warning| format!("! {warning}"));
        instances.chain(warnings).map(move |line| format!("{name}: {line}\n"))
    });
    lines.collect()
}

fn line(instance: &Instance) -> String {
    let address = if instance.address.starts_with(BRIDGE) { "bridge" } else { &instance.address };
    let port = match instance.port {
        port if port >= RANDOM => "random".to_owned(),
        port => port.to_string(),
    };
    let mut words =
        vec![instance.service.clone(), format!("{address}:{port}"), instance.id.clone()];
    words.extend(
        instance.tagged_addresses.iter().map(|(name, at)| format!("{name}={}", at.address)),
    );
    words.extend(instance.tags.iter().map(|tag| format!("#{tag}")));
    words.extend(instance.checks.iter().map(|check| format!("check={}", check.name)));
    words.extend(instance.docker_health.iter().map(|health| format!("({})", health.note)));
    if instance.weights.passing != 1 {
        words.push(format!("weight={}:{}", instance.weights.passing, instance.weights.warning));
    }
    words.join(" ")
}

#[test]
fn every_engine_leads_to_the_same_published_instances() {
    let options = Options { compose_names: true, ..Options::default() };
    for engine in ENGINES {
        assert_eq!(table(&derive(&recorded(engine), &options)), PUBLISHED, "Docker {engine}");
    }
}

#[test]
fn every_engine_leads_to_the_same_internal_instances() {
    let options = Options { compose_names: true, internal: true, ..Options::default() };
    for engine in ENGINES {
        assert_eq!(table(&derive(&recorded(engine), &options)), INTERNAL, "Docker {engine}");
    }
}

#[test]
fn every_engine_says_how_a_container_stops_and_how_it_ended() {
    for engine in ENGINES {
        let all = recorded(engine);
        let (paused, stopped) = (&all["paused"], &all["stopped"]);
        assert_eq!((paused.stop_signal.as_str(), paused.stop_timeout), ("SIGQUIT", 42), "{engine}");
        assert!(paused.running && paused.paused, "{engine}");
        assert!(!stopped.running && stopped.exit_code == 3, "{engine}");
        assert_eq!(
            (stopped.stop_signal.as_str(), stopped.stop_timeout),
            ("SIGTERM", 60),
            "{engine}"
        );
        assert!(all.values().all(|one| one.started_at.starts_with("20")), "{engine}");
        assert!(
            matches!(&all["guest"].network_mode, NetworkMode::Container(id) if *id == all["owner"].id)
        );
    }
}

#[test]
fn no_secret_of_the_environment_is_kept() {
    for engine in ENGINES {
        let text = format!("{:?}", recorded(engine)["labels"]);
        assert!(text.contains("from-env") && !text.contains("sesame"), "{engine}");
    }
}

#[test]
fn the_meta_says_where_an_instance_comes_from() {
    for engine in ENGINES {
        let options = Options { internal: true, ..Options::default() };
        let containers = recorded(engine);
        let derived = derive(&containers, &options);
        let meta = &derived["composed"].instances[0].meta;
        let expected = [
            ("compose-project", "shop"),
            ("compose-service", "cart"),
            ("container", containers["composed"].short_id()),
            ("container-port", "80"),
            ("image", "registry.example:5000/team/web:1.2"),
            ("managed-by", "registrator"),
            ("registrator-host", "node1"),
        ];
        assert_eq!(*meta, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(derived["labels"].instances[0].meta["owner"], "team one", "{engine}");
    }
}
