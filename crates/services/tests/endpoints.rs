//! Where an instance is registered, and as what: addresses, families, ports, ids.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::needless_pass_by_value, reason = "json!() in the call reads better without &")]

use serde_json::{Value, json};
use services::{Container, Derived, Instance, Node, Options, instances};

/// A running container `app` of the image `web` with these labels, bindings and networks.
fn document(labels: Value, ports: Value, networks: Value) -> Value {
    json!({"Id": "c0ffee", "Name": "/app", "State": {"Running": true},
           "Config": {"Image": "web", "Labels": labels, "Hostname": "c0ffee"},
           "NetworkSettings": {"Ports": ports, "Networks": networks}})
}

fn on(node: &str, document: &Value, options: &Options) -> Derived {
    at(&Node::new("node1", node), document, options)
}

fn at(node: &Node, document: &Value, options: &Options) -> Derived {
    instances(&Container::from_inspect(document).unwrap(), options, node, &|_| None)
}

/// What is registered on a node at 192.0.2.1: `address:port id`.
fn registered(document: &Value, options: &Options) -> Vec<String> {
    let line = |one: &Instance| format!("{}:{} {}", one.address, one.port, one.id);
    on("192.0.2.1", document, options).instances.iter().map(line).collect()
}

fn bound(ip: &str, port: &str) -> Value {
    json!({"80/tcp": [{"HostIp": ip, "HostPort": port}]})
}

fn wildcards(four: &str, six: &str) -> Value {
    json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": four}, {"HostIp": "::", "HostPort": six}]})
}

fn internal() -> Options {
    Options { internal: true, ..Options::default() }
}

#[test]
fn a_published_port_has_the_first_address_of_label_flag_binding_and_node() {
    let address = |labels: Value, options: &Options, ip: &str| {
        let document = document(labels, bound(ip, "80"), json!({}));
        on("192.0.2.1", &document, options).instances[0].address.clone()
    };
    let plain = Options::default();
    let flag = Options { ip: Some("10.3.3.3".parse().unwrap()), ..Options::default() };
    let label = Options { use_ip_from_label: Some("ip".into()), ..flag.clone() };
    let labels = json!({"SERVICE_IP": "10.1.1.1", "ip": "10.2.2.2/24"});
    assert_eq!(address(labels, &label, "10.4.4.4"), "10.1.1.1");
    assert_eq!(address(json!({"ip": "10.2.2.2/24"}), &label, "10.4.4.4"), "10.2.2.2");
    assert_eq!(address(json!({}), &label, "10.4.4.4"), "10.3.3.3");
    assert_eq!(address(json!({}), &plain, "10.4.4.4"), "10.4.4.4");
    assert_eq!(address(json!({}), &plain, "0.0.0.0"), "192.0.2.1");
    assert_eq!(address(json!({}), &plain, ""), "192.0.2.1");
}

#[test]
fn a_label_names_no_address_that_others_cannot_reach() {
    for bad in [
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "localhost",
        "10.0.0.1 x",
    ] {
        let document = document(json!({"SERVICE_IP": bad}), bound("", "80"), json!({}));
        let derived = on("192.0.2.1", &document, &Options::default());
        assert_eq!(derived.instances[0].address, "192.0.2.1", "{bad}");
        assert_eq!(derived.warnings.len(), 1, "{bad}");
    }
}

#[test]
fn a_labelled_address_counts_in_internal_mode_too_and_the_flag_for_published_ports_does_not() {
    let networks = json!({"n": {"IPAddress": "10.9.9.9"}});
    let options = Options { ip: Some("10.3.3.3".parse().unwrap()), ..internal() };
    let plain = document(json!({}), bound("", "8080"), networks.clone());
    assert_eq!(registered(&plain, &options), ["10.9.9.9:80 node1:app:80"]);
    let labelled = document(json!({"SERVICE_IP": "10.1.1.1"}), bound("", "8080"), networks);
    assert_eq!(registered(&labelled, &options), ["10.1.1.1:80 node1:app:80"]);
}

// The ancestor registered both families of a port, with one id, and wrote IPv6 addresses it could not use.
#[test]
fn both_families_of_a_port_are_one_instance_at_the_port_of_the_nodes_family() {
    let both = document(json!({}), wildcards("49153", "49154"), json!({}));
    let four = on("192.0.2.1", &both, &Options::default()).instances;
    assert_eq!((four.len(), four[0].port, four[0].tagged_addresses.len()), (1, 49153, 0));
    let six = on("fd00::1", &both, &Options::default()).instances;
    assert_eq!((six.len(), six[0].address.as_str(), six[0].port), (1, "fd00::1", 49154));
}

#[test]
fn where_both_addresses_are_known_the_other_family_is_a_tagged_address() {
    let tagged = |ip: &str, node: &str| {
        let options = Options { ip: Some(ip.parse().unwrap()), ..Options::default() };
        let document = document(json!({}), wildcards("81", "86"), json!({}));
        let instance = on(node, &document, &options).instances.remove(0);
        let (name, at) = instance.tagged_addresses.into_iter().next().unwrap();
        (instance.address, instance.port, name, at.address, at.port)
    };
    let four = tagged("10.0.0.1", "fd00::1");
    assert_eq!(four, ("10.0.0.1".into(), 81, "lan_ipv6".into(), "fd00::1".into(), 86));
    let six = tagged("fd00::1", "10.0.0.1");
    assert_eq!(six, ("fd00::1".into(), 86, "lan_ipv4".into(), "10.0.0.1".into(), 81));
}

#[test]
fn an_ipv4_address_is_written_as_one_wherever_it_comes_from() {
    let address = |labels: Value, ip: &str, node: &str, options: &Options| {
        on(node, &document(labels, bound(ip, "80"), json!({})), options).instances[0]
            .address
            .clone()
    };
    let plain = Options::default();
    let label = json!({"SERVICE_IP": "::ffff:10.1.1.1"});
    assert_eq!(address(label, "", "192.0.2.1", &plain), "10.1.1.1");
    assert_eq!(address(json!({}), "::ffff:10.4.4.4", "192.0.2.1", &plain), "10.4.4.4");
    assert_eq!(address(json!({}), "", "::ffff:192.0.2.1", &plain), "192.0.2.1");
    let flag = Options { ip: Some("::ffff:10.3.3.3".parse().unwrap()), ..plain };
    assert_eq!(address(json!({}), "", "192.0.2.1", &flag), "10.3.3.3");
    let refused = document(json!({}), bound("::ffff:127.0.0.1", "80"), json!({}));
    assert_eq!(on("192.0.2.1", &refused, &Options::default()).instances, []);
}

#[test]
fn a_port_bound_in_one_family_has_the_nodes_address_of_that_family_or_none() {
    let place = |bound_to: &str, node: &str, other: Option<&str>| {
        let other_family = other.map(|ip| ip.parse().unwrap());
        let node = Node { other_family, ..Node::new("node1", node) };
        let document = document(json!({}), bound(bound_to, "8080"), json!({}));
        let derived = at(&node, &document, &Options::default());
        assert_eq!(derived.instances.len() + derived.warnings.len(), 1, "{derived:?}");
        assert!(derived.warnings.iter().all(|it| it.problem.contains("--ip")), "{derived:?}");
        derived.instances.first().map(|one| {
            assert_eq!((one.port, one.tagged_addresses.len()), (8080, 0));
            one.address.clone()
        })
    };
    let (four, six) = ("192.0.2.1", "fd00::1");
    for (node, other) in [(four, Some(six)), (six, Some(four))] {
        assert_eq!(place("0.0.0.0", node, other).as_deref(), Some(four));
        assert_eq!(place("::", node, other).as_deref(), Some(six));
    }
    assert_eq!(place("0.0.0.0", four, None).as_deref(), Some(four));
    assert_eq!(place("::", six, None).as_deref(), Some(six));
    assert_eq!(place("::", four, None), None);
    assert_eq!(place("0.0.0.0", six, None), None);
    // Podman writes no address where it means every one.
    assert_eq!(place("", six, None).as_deref(), Some(six));
    // Who names an address knows better.
    let options = Options { ip: Some("10.3.3.3".parse().unwrap()), ..Options::default() };
    let document = document(json!({}), bound("::", "8080"), json!({}));
    assert_eq!(registered(&document, &options), ["10.3.3.3:8080 node1:app:80"]);
}

#[test]
fn a_network_with_ipv6_alone_serves() {
    let networks = json!({"six": {"IPAddress": "", "GlobalIPv6Address": "fd00::7"}});
    let document = document(json!({"SERVICE_CHECK_TCP": "true"}), bound("", "8080"), networks);
    assert_eq!(registered(&document, &internal()), ["fd00::7:80 node1:app:80"]);
}

#[test]
fn the_choice_of_a_network_goes_from_label_to_flag_to_range_to_the_first_with_a_word_about_it() {
    let networks = json!({"ingress": {"IPAddress": "10.0.0.2"}, "a": {"IPAddress": "10.1.0.2"},
                          "b": {"IPAddress": "10.2.0.2"}, "c": {"IPAddress": "10.3.0.2"}, "d": {}});
    let address = |labels: Value, network: Option<&str>, cidr: Option<&str>| {
        let (network, network_cidr) = (network.map(Into::into), cidr.map(Into::into));
        let options = Options { network, network_cidr, ..internal() };
        let derived =
            on("192.0.2.1", &document(labels, bound("", "1"), networks.clone()), &options);
        (derived.instances[0].address.clone(), derived.warnings.len())
    };
    let label = json!({"SERVICE_NETWORK": "c"});
    assert_eq!(address(label, Some("b"), Some("10.1.0.0/16")), ("10.3.0.2".into(), 0));
    assert_eq!(address(json!({}), Some("b"), Some("10.1.0.0/16")), ("10.2.0.2".into(), 0));
    assert_eq!(address(json!({}), Some("x"), Some("10.3.0.0/16")), ("10.3.0.2".into(), 0));
    assert_eq!(address(json!({}), Some("d"), None), ("10.1.0.2".into(), 1));
    assert_eq!(address(json!({}), None, Some("nonsense")), ("10.1.0.2".into(), 2));
}

#[test]
fn without_an_address_of_its_own_a_container_is_not_registered_in_internal_mode() {
    let derived =
        on("192.0.2.1", &document(json!({}), bound("", "1"), json!({"n": {}})), &internal());
    assert_eq!((derived.instances, derived.warnings.len()), (vec![], 1));
}

#[test]
fn single_ports_may_be_internal() {
    let ports = json!({"80/tcp": [{"HostPort": "8080"}], "81/tcp": null});
    let networks = json!({"n": {"IPAddress": "10.9.9.9"}});
    let document = document(json!({"SERVICE_81_INTERNAL": "true"}), ports, networks);
    let both = ["192.0.2.1:8080 node1:app:80", "10.9.9.9:81 node1:app:81"];
    assert_eq!(registered(&document, &Options::default()), both);
}

#[test]
fn a_port_may_be_registered_under_another_number() {
    let labels = json!({"SERVICE_80_PORT": "443", "SERVICE_PORT": "9"});
    let document = document(labels, bound("", "8080"), json!({}));
    assert_eq!(registered(&document, &Options::default()), ["192.0.2.1:443 node1:app:80"]);
}

// The ancestor made ids of its own container's random host name: each new one left ghosts of the last.
#[test]
fn an_id_is_made_of_the_nodes_name_and_follows_the_containers() {
    let mut document = document(json!({}), bound("", "8080"), json!({}));
    assert_eq!(registered(&document, &Options::default()), ["192.0.2.1:8080 node1:app:80"]);
    document["Name"] = json!("/renamed");
    assert_eq!(registered(&document, &Options::default()), ["192.0.2.1:8080 node1:renamed:80"]);
}

#[test]
fn one_service_id_for_all_ports_and_bindings_becomes_as_many_ids() {
    let ports = json!({"53/tcp": [{"HostPort": "53"}], "53/udp": [{"HostPort": "53"}],
                       "80/tcp": [{"HostPort": "80"}, {"HostPort": "81"}]});
    let document = document(json!({"SERVICE_ID": "a/b"}), ports, json!({}));
    let ids = ["53 a-b", "53 a-b:53:udp", "80 a-b:80", "81 a-b:80:192.0.2.1:81"];
    let expected = ids.map(|id| format!("192.0.2.1:{id}"));
    assert_eq!(registered(&document, &Options::default()), expected);
    assert_eq!(on("192.0.2.1", &document, &Options::default()).warnings.len(), 1);
}

#[test]
fn a_container_without_ports_may_name_one() {
    let networks = json!({"n": {"IPAddress": "10.9.9.9"}});
    let document = document(json!({"SERVICE_PORT": "99"}), json!({}), networks);
    assert_eq!(registered(&document, &internal()), ["10.9.9.9:99 node1:app:99"]);
    assert_eq!(registered(&document, &Options::default()), ["192.0.2.1:99 node1:app:99"]);
}

#[test]
fn a_container_whose_ports_are_not_published_is_registered_without_if_it_asks() {
    let with = |labels: Value| {
        registered(&document(labels, json!({"80/tcp": null}), json!({})), &Options::default())
    };
    assert_eq!(with(json!({})), [""; 0]);
    assert_eq!(with(json!({"SERVICE_PORT": "99"})), [""; 0]);
    assert_eq!(with(json!({"SERVICE_PORT": "0"})), ["192.0.2.1:0 node1:app:0"]);
    assert_eq!(with(json!({"SERVICE_FORCE_REGISTER": "true"})), ["192.0.2.1:0 node1:app:0"]);
    assert_eq!(with(json!({"SERVICE_FORCE_REGISTER": "true", "SERVICE_IGNORE": "1"})), [""; 0]);
}

#[test]
fn a_guest_of_a_guest_uses_the_network_at_the_end_and_a_circle_is_no_network() {
    let guest = |id: &str, of: &str| {
        let mut document = document(json!({"SERVICE_NAME": id}), json!({}), json!({}));
        document["Id"] = json!(id);
        document["HostConfig"] = json!({"NetworkMode": format!("container:{of}")});
        Container::from_inspect(&document).unwrap()
    };
    let owner =
        Container::from_inspect(&document(json!({}), bound("", "8080"), json!({}))).unwrap();
    let (one, two) = (guest("one", "owner"), guest("two", "one"));
    let (left, right) = (guest("left", "right"), guest("right", "left"));
    let known = |id: &str| match id {
        "owner" => Some(&owner),
        "one" => Some(&one),
        "left" => Some(&left),
        "right" => Some(&right),
        _ => None,
    };
    let node = Node::new("node1", "192.0.2.1");
    assert_eq!(instances(&two, &Options::default(), &node, &known).instances[0].port, 8080);
    let circle = instances(&left, &Options::default(), &node, &known);
    assert_eq!((circle.instances, circle.warnings.len()), (vec![], 1));
}
