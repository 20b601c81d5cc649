//! What it registered: names, IDs, addresses, tags and settings that were not as they should be.

use testbed::consul::Consul;

use super::ids;
use crate::world::World;

#[test]
fn address_and_port_belong_together_on_networks_of_the_users_own() {
    let world = World::new();
    world.docker.cli(&["network", "create", "--subnet", "10.77.1.0/24", "own"]).unwrap();
    world.docker.run("web", &["--network", "own", "-p", "18080:80"]).unwrap();
    let place = || {
        let services = world.services();
        services.get("node1:web:80").map(|one| (one.address.clone(), one.port))
    };
    // The agent of these tests advertises the loopback.
    world.start(&["--internal=false"]);
    world.until("the refusal", || world.log().contains("-advertise, or registrator with --ip"));
    assert_eq!(place(), None);
    world.stop_registrator();
    world.start(&["--internal=false", "--ip", "192.0.2.9"]);
    world.until("the host's", || place() == Some(("192.0.2.9".into(), 18080)));
    world.stop_registrator();
    world.start(&[]);
    world.until("the container's", || {
        place().is_some_and(|(address, port)| address.starts_with("10.77.1.") && port == 80)
    });
}

#[test]
fn of_several_networks_always_the_same_one_counts() {
    let world = World::new();
    for (name, subnet) in [("b", "10.77.2.0/24"), ("a", "10.77.3.0/24"), ("c", "10.77.4.0/24")] {
        world.docker.cli(&["network", "create", "--subnet", subnet, name]).unwrap();
    }
    world.run("plain", &["--network", "b"]);
    world.run("told", &["--network", "b", "--label", "SERVICE_NETWORK=c"]);
    for network in ["a", "c"] {
        world.docker.cli(&["network", "connect", network, "plain"]).unwrap();
        world.docker.cli(&["network", "connect", network, "told"]).unwrap();
    }
    for _ in 0..3 {
        world.start(&[]).settle();
        let services = world.services();
        assert!(services["node1:plain:80"].address.starts_with("10.77.3."), "{services:?}");
        assert!(services["node1:told:80"].address.starts_with("10.77.4."), "{services:?}");
        world.kill_registrator();
        world.ask(async |client| client.deregister("node1:plain:80").await.unwrap());
    }
}

#[test]
fn ids_are_made_of_the_nodes_name_and_a_container_created_again_is_the_same_instance() {
    let mut world = World::new();
    world.run("web", &[]);
    world.start(&[]).settle();
    world.docker.cli(&["rm", "-f", "web"]).unwrap();
    world.run("web", &[]);
    world.settle();
    world.stop_registrator();
    // As a registrator in a container that was created again has another name of its own.
    world.set("HOSTNAME", "0123456789ab");
    world.start(&[]).settle();
    assert_eq!(ids(&world), ["node1:web:80"]);
    assert_eq!(world.keys("services/").len(), 1);
}

#[test]
fn tags_keep_their_order() {
    let world = World::new();
    world.run("web", &["--label", "SERVICE_TAGS=c,a,b"]);
    world.start(&["--tags", "z,y"]).settle();
    assert_eq!(world.services()["node1:web:80"].tags, ["c", "a", "b", "z", "y"]);
}

#[test]
fn the_port_is_no_part_of_the_name_when_the_other_port_is_ignored() {
    let world = World::new();
    world.run("web", &["--expose", "443", "--label", "SERVICE_443_IGNORE=yes"]);
    world.run("both", &["--expose", "443"]);
    world.start(&[]);
    world.until("three", || world.services().len() == 3);
    let names: Vec<_> = world.services().into_values().map(|one| one.name).collect();
    assert_eq!(names, ["busybox-443", "busybox-80", "busybox"]);
}

#[test]
fn an_odd_address_of_the_registry_is_refused_in_a_line_and_never_a_panic() {
    let world = World::new();
    for odd in [
        "consul://h:99999",
        "consul://h:-1",
        "consul://h:8500:9",
        "consul://[::1",
        "consul:h",
        "etcd://h",
        "consul-unix://",
        "%zz",
        "consul://\u{fffd} \n",
    ] {
        let output = world.output(&[odd]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{odd:?}: {text}");
        assert!(text.starts_with("error: ") && !text.contains("panicked"), "{odd:?}: {text}");
    }
    // What is left out is as usual: the agent beside us.
    for short in ["consul://", "://", "consulkv://"] {
        let output = world.output(&[short, "acl-policy"]);
        assert!(output.status.success(), "{short}: {output:?}");
    }
}

#[test]
fn the_default_name_leaves_out_registry_tag_and_digest() {
    let world = World::new();
    world.docker.cli(&["tag", "busybox", "registry:5000/team/shop:v1"]).unwrap();
    let run = ["run", "-d", "--init", "--expose", "80", "--name", "tagged"];
    world.docker.cli(&[&run[..], &["registry:5000/team/shop:v1", "sleep", "60"]].concat()).unwrap();
    world.start(&[]).settle();
    assert_eq!(world.services()["node1:tagged:80"].name, "shop");
    // Without a registry no engine has images by digest: what it would say of such a container.
    let document = serde_json::json!({
        "Id": "c0ffee", "Name": "/digested", "State": {"Running": true},
        "Config": {"Image": format!("registry:5000/team/shop@sha256:{}", "0f".repeat(32)),
                   "ExposedPorts": {"80/tcp": {}}},
        "NetworkSettings": {"Networks": {"n": {"IPAddress": "10.0.0.2"}}},
    });
    assert_eq!(derived(&document).service, "shop");
}

#[test]
fn ignore_false_does_not_ignore() {
    let world = World::new();
    world.run("kept", &["--label", "SERVICE_IGNORE=false"]);
    world.run("ignored", &["--label", "SERVICE_IGNORE=true"]);
    world.start(&[]);
    world.until("one", || ids(&world) == ["node1:kept:80"]);
}

#[test]
fn a_setting_that_makes_no_legal_key_costs_neither_the_registration_nor_other_keys() {
    let world = World::new();
    let odd = ["--label", "SERVICE_A.B/C=dotted", "--label", "SERVICE_!!=nothing"];
    let long = format!("SERVICE_LONG={}", "x".repeat(600));
    let plain = ["--label", "SERVICE_PLAIN=value", "--label", &long];
    world.run("web", &[odd, plain].concat());
    world.start(&[]).settle();
    let meta = &world.services()["node1:web:80"].meta;
    assert_eq!((&meta["a-b-c"], &meta["plain"]), (&"dotted".into(), &"value".into()));
    assert_eq!(meta["long"].len(), 512);
}

#[test]
fn a_bad_template_of_a_tag_costs_the_tag_and_not_the_daemon() {
    let world = World::new();
    world.run("web", &[]);
    world.start(&["--tags", "a,{{ no.such.thing }},{{ Config.Image }},{% broken"]).settle();
    assert_eq!(world.services()["node1:web:80"].tags, ["a", "busybox"]);
    assert!(world.log().contains("no.such.thing"), "{}", world.log());
}

#[test]
fn both_families_of_a_port_are_one_instance_with_usable_addresses() {
    let both = r#"{"advertise_addr": "192.0.2.7", "advertise_addr_ipv4": "192.0.2.7", "advertise_addr_ipv6": "fd00::7"}"#;
    let world = World::with(Consul::options().config(both).start().unwrap());
    let subnets = ["--ipv6", "--subnet", "fd77::/64", "--subnet", "10.77.6.0/24", "six"];
    world.docker.cli(&[&["network", "create"], &subnets[..]].concat()).unwrap();
    let ports = ["-p", "18080:80", "-p", "18081:81", "--label", "SERVICE_CHECK_TCP=true"];
    world.docker.run("web", &[&["--network", "six"], &ports[..]].concat()).unwrap();
    world.start(&["--internal=false"]);
    world.until("both ports", || world.services().len() == 2);
    let services = world.services();
    let ports: Vec<_> = services.values().map(|one| (one.name.as_str(), one.port)).collect();
    assert_eq!(ports, [("busybox-80", 18080), ("busybox-81", 18081)]);
    // What is published in both families is reached at the node's address in the other one, too.
    let six = &services["node1:web:80"].tagged_addresses["lan_ipv6"];
    assert_eq!((six.address.as_str(), six.port), ("fd00::7", 18080));
    world.stop_registrator();
    world.start(&[]);
    world.until("inside", || world.services().values().all(|one| one.port < 100));
    let web = &world.services()["node1:web:80"];
    assert!(web.address.starts_with("10.77.6."), "{web:?}");
    assert!(web.tagged_addresses["lan_ipv6"].address.starts_with("fd77::"), "{web:?}");
}

#[test]
fn addresses_are_read_where_new_engines_write_them() {
    let address = |settings: serde_json::Value| {
        derived(&serde_json::json!({
            "Id": "c0ffee", "Name": "/app", "State": {"Running": true},
            "Config": {"Image": "web", "ExposedPorts": {"80/tcp": {}}}, "NetworkSettings": settings,
        }))
        .address
    };
    let new = serde_json::json!({"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}});
    let old = serde_json::json!({"IPAddress": "172.17.0.2", "Networks": {}});
    assert_eq!((address(new), address(old)), ("172.17.0.2".into(), "172.17.0.2".into()));
}

/// Returns the one instance of a container that an engine describes so.
fn derived(document: &serde_json::Value) -> services::Instance {
    let container = services::Container::from_inspect(document).unwrap();
    let options = services::Options { internal: true, ..services::Options::default() };
    let node = services::Node::new("node1", "192.0.2.1");
    let mut all = services::instances(&container, &options, &node, &|_| None).instances;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}
