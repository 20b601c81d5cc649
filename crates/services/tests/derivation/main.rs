//! From an inspect document to instances: the rules of ports, names, ids, addresses, tags, weights and checks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::needless_pass_by_value, reason = "json!() in the call reads better without &")]

mod names;
mod state;

use serde_json::{Value, json};
use services::{Container, Derived, Instance, Node, Options, instances};

fn node() -> Node {
    Node::new("node1", "192.0.2.1")
}

/// A running container `app` of the image `acme/web:1`, with `labels` and published `ports`.
fn document(labels: Value, ports: Value) -> Value {
    json!({
        "Id": "0123456789abcdef0123456789abcdef", "Name": "/app",
        "State": {"Running": true, "StartedAt": "2026-01-01T00:00:00Z"},
        "Config": {"Image": "registry:5000/acme/web:1", "Labels": labels},
        "NetworkSettings": {"Ports": ports, "Networks": {
            "a": {"IPAddress": "10.0.1.2"}, "b": {"IPAddress": "10.0.2.2", "GlobalIPv6Address": "fd00::2"}
        }}
    })
}

fn derive(document: &Value, options: &Options) -> Derived {
    let container = Container::from_inspect(document).unwrap();
    instances(&container, options, &node(), &|_| None)
}

fn plain(labels: Value, ports: Value) -> Vec<Instance> {
    let derived = derive(&document(labels, ports), &Options::default());
    assert_eq!(derived.warnings, [], "warnings");
    derived.instances
}

fn one(labels: Value, ports: Value) -> Instance {
    let mut all = plain(labels, ports);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn port80() -> Value {
    json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]})
}

fn internal() -> Options {
    Options { internal: true, ..Options::default() }
}

#[test]
fn a_published_port_is_one_instance_at_the_nodes_address() {
    let web = one(json!({}), port80());
    assert_eq!((web.service.as_str(), web.id.as_str()), ("web", "node1:app:80"));
    assert_eq!((web.address.as_str(), web.port), ("192.0.2.1", 8080));
    let expected = [
        ("container", "0123456789ab"),
        ("container-port", "80"),
        ("image", "registry:5000/acme/web:1"),
        ("managed-by", "registrator"),
        ("registrator-host", "node1"),
    ];
    let meta: Vec<(&str, &str)> = web.meta.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(meta, expected);
}

#[test]
fn a_stopped_container_offers_nothing() {
    let mut stopped = document(json!({}), port80());
    stopped["State"] = json!({"Running": false, "ExitCode": 1});
    assert_eq!(derive(&stopped, &Options::default()).instances, []);
}

#[test]
fn every_distinct_binding_is_an_instance_with_an_id_of_its_own() {
    let bindings = json!({"80/tcp": [
        {"HostIp": "10.0.0.1", "HostPort": "80"}, {"HostIp": "10.0.0.2", "HostPort": "81"},
        {"HostIp": "127.0.0.1", "HostPort": "82"}
    ]});
    let derived = derive(&document(json!({}), bindings), &Options::default());
    let ids: Vec<&str> = derived.instances.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["node1:app:80", "node1:app:80:10.0.0.2:81"]);
    assert!(derived.warnings[0].to_string().contains("127.0.0.1"), "{:?}", derived.warnings);
}

// The ancestor registered the container's address with the host's port on networks of the user's own.
#[test]
fn address_and_port_are_both_the_hosts_or_both_the_containers() {
    let published = one(json!({}), port80());
    assert_eq!((published.address.as_str(), published.port), ("192.0.2.1", 8080));
    let options = Options { network: Some("b".into()), ..internal() };
    let own = &derive(&document(json!({}), port80()), &options).instances[0];
    assert_eq!((own.address.as_str(), own.port), ("10.0.2.2", 80));
    assert_eq!(own.tagged_addresses["lan_ipv6"].address, "fd00::2");
}

// The ancestor took the address of a random one of several networks.
#[test]
fn of_several_networks_the_chosen_one_counts_else_the_first_by_name() {
    let address = |labels: Value, options: &Options| {
        derive(&document(labels, port80()), options).instances[0].address.clone()
    };
    assert_eq!(address(json!({}), &internal()), "10.0.1.2");
    assert_eq!(address(json!({"SERVICE_NETWORK": "b"}), &internal()), "10.0.2.2");
    let cidr = Options { network_cidr: Some("10.0.2.0/24".into()), ..internal() };
    assert_eq!(address(json!({}), &cidr), "10.0.2.2");
    let warnings =
        derive(&document(json!({"SERVICE_NETWORK": "c"}), port80()), &internal()).warnings;
    assert!(warnings.iter().any(|w| w.to_string().contains("\"c\"")), "{warnings:?}");
}

#[test]
fn a_network_may_be_named_as_the_compose_file_names_it() {
    let mut document = document(json!({"SERVICE_NETWORK": "backends"}), port80());
    document["NetworkSettings"]["Networks"] =
        json!({"p_backends": {"IPAddress": "10.0.9.9"}, "p_a": {"IPAddress": "10.0.1.1"}});
    assert_eq!(derive(&document, &internal()).instances[0].address, "10.0.9.9");
}

// The ancestor added the port to the name although the only other port was ignored.
// The ancestor named a service after the digest, or the registry's port.
// The ancestor wrote tags in reverse order.
// The ancestor lost the whole registration to one key that Consul refuses.
// To ignore the HEALTHCHECK says nothing about a container whose processes stand still.
// New engines leave out fields that the ancestor read: NetworkSettings.IPAddress and the empty Ports.
