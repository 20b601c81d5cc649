//! What was wrong in gliderlabs/registrator, one test for each mistake.
//!
//! Two are about fields that new engines no longer send; one of these is tested where events are
//! read, in `src/docker.rs`. docs/registrator.md has the list in words.

use std::time::Duration;

use consul::{Registration, Status};
use testbed::consul::{Consul, free_port};

use crate::operate::get;
use crate::world::World;

fn ids(world: &World) -> Vec<String> {
    world.services().into_keys().collect()
}

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
fn a_container_that_ends_as_soon_as_it_starts_leaves_no_ghost() {
    let world = World::new();
    world.start(&[]).settle();
    let script = "seq 24 | xargs -P 8 -I N docker run --rm --expose 80 --name shortN busybox true";
    let mut shell = std::process::Command::new("sh");
    let status = shell.args(["-c", script]).env("DOCKER_HOST", world.docker.url()).status();
    assert!(status.unwrap().success());
    world.settle();
    assert!(world.services().is_empty());
}

#[test]
fn what_could_not_be_registered_or_removed_at_once_is_when_the_agent_is_back() {
    let mut world = World::with(Consul::options().persistent().start().unwrap());
    world.run("stays", &[]);
    world.run("goes", &[]);
    world.start(&[]).settle();
    world.consul.stop().unwrap();
    world.docker.cli(&["rm", "-f", "goes"]).unwrap();
    world.run("comes", &[]);
    world.consul.restart().unwrap();
    world.settle();
    assert_eq!(ids(&world), ["node1:comes:80", "node1:stays:80"]);
}

#[test]
fn the_end_of_the_events_or_an_agent_that_forgot_everything_ends_nothing() {
    let mut world = World::new();
    world.run("first", &[]);
    world.run("second", &[]);
    world.start(&[]).settle();
    // The agent comes back empty.
    world.consul.restart().unwrap();
    world.settle();
    assert_eq!(world.services().len(), 2);
    // The engine comes back without running containers, and events of a new stream count.
    world.docker.restart().unwrap();
    world.settle();
    assert!(world.services().is_empty());
    world.docker.cli(&["start", "first"]).unwrap();
    world.settle();
    assert_eq!(ids(&world), ["node1:first:80"]);
    assert_eq!(world.log().matches("docker is away").count(), 1, "{}", world.log());
}

#[test]
fn a_script_check_runs_as_it_was_written() {
    let config = r#"{"enable_script_checks": true}"#;
    let world = World::with(Consul::options().config(config).start().unwrap());
    let script =
        "SERVICE_CHECK_SCRIPT=test $SERVICE_PORT = 80 && echo \"two  words\" of $SERVICE_IP";
    world.run("script", &["--label", script, "--label", "SERVICE_CHECK_INTERVAL=1s"]);
    world.start(&[]).settle();
    let address = world.services()["node1:script:80"].address.clone();
    world.until("it ran", || {
        let checks = world.checks();
        checks["node1:script:80:script"].output.contains(&format!("two  words of {address}"))
    });
    assert_eq!(world.checks()["node1:script:80:script"].status, Status::Passing);
}

#[test]
fn what_failed_stays_until_it_is_removed_cleanup_or_not_and_255_is_a_failure() {
    let mut world = World::new();
    let run = |name: &str, command: &str| {
        let words = ["run", "-d", "--expose", "80", "--name", name, "busybox", "sh", "-c", command];
        world.docker.cli(&words).unwrap();
    };
    // 255 is no signal, 0 is a success, and one that was stopped did not fail.
    let until_told = "until [ -e /tmp/end ]; do sleep 0.1; done; rm /tmp/end";
    run("failed", &format!("{until_told}; exit 255"));
    run("ended", &format!("{until_told}; exit 0"));
    run("stopped", "sleep 600");
    world.start(&["--deregister", "on-success"]);
    let ids = |world: &World| world.services().into_keys().collect::<Vec<_>>();
    world.until("all three", || ids(&world).len() == 3);
    for name in ["failed", "ended"] {
        world.docker.cli(&["exec", "-d", name, "touch", "/tmp/end"]).unwrap();
    }
    world.docker.cli(&["kill", "stopped"]).unwrap();
    world.until("the failed one is left", || ids(&world) == ["node1:failed:80"]);
    let status = |world: &World, status: Status| {
        let checks = world.checks();
        let health = checks.get("node1:failed:80:docker-health");
        health.is_some_and(|health| health.status == status)
    };
    world.until("it is critical", || status(&world, Status::Critical));
    // An agent that forgets everything is told again.
    world.consul.restart().unwrap();
    world.until("there again", || {
        ids(&world) == ["node1:failed:80"] && status(&world, Status::Critical)
    });
    // It is not dangling: a look at everything leaves it, and so does a successor.
    world.stop_registrator();
    world.start(&["--deregister", "on-success"]);
    std::thread::sleep(Duration::from_secs(1));
    world.until("still there", || {
        ids(&world) == ["node1:failed:80"] && status(&world, Status::Critical)
    });
    world.docker.cli(&["start", "failed"]).unwrap();
    world.until("as good as new", || {
        ids(&world) == ["node1:failed:80"]
            && !world.checks().contains_key("node1:failed:80:docker-health")
    });
    world.docker.cli(&["rm", "-f", "failed"]).unwrap();
    world.until("gone", || ids(&world).is_empty());
}

#[test]
fn heartbeats_keep_a_ttl_check_passing() {
    let world = World::new();
    world.run("alive", &["--label", "SERVICE_CHECK_TTL=2s"]);
    world.start(&[]).settle();
    let passing = || {
        let checks = world.checks();
        checks
            .values()
            .any(|check| check.service_id == "node1:alive:80" && check.status == Status::Passing)
    };
    for _ in 0..50 {
        assert!(passing(), "{:?}", world.checks());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn two_registrators_at_one_agent_leave_each_others_instances_alone() {
    let world = World::new();
    world.ask(async |client| {
        for (id, host) in [("other:gone:80", "node2"), ("node1:gone:80", "node1")] {
            let meta = [("managed-by", "registrator"), ("registrator-host", host)];
            let meta = meta.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            let service =
                Registration { id: id.into(), name: "web".into(), meta, ..Default::default() };
            client.register(&service).await.unwrap();
        }
        // Looks like one of ours by its ID, and is somebody else's.
        let service =
            Registration { id: "node1:x:80".into(), name: "web".into(), ..Default::default() };
        client.register(&service).await.unwrap();
    });
    world.start(&[]);
    world.until("ours is gone", || !world.services().contains_key("node1:gone:80"));
    assert!(world.services().contains_key("other:gone:80"));
    assert!(
        world
            .ask(async |client| client.agent_services(None).await.unwrap())
            .contains_key("node1:x:80")
    );
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
fn a_resync_compares_with_what_is_and_repeats_nothing() {
    let world = World::new();
    world.docker.cli(&["network", "create", "--subnet", "10.77.5.0/24", "apart"]).unwrap();
    world.run("moves", &[]);
    world.run("goes", &[]);
    world.start(&["--network", "apart", "--resync", "1s"]).settle();
    world.docker.cli(&["network", "connect", "apart", "moves"]).unwrap();
    world.docker.cli(&["rm", "-f", "goes"]).unwrap();
    let address = || world.services().get("node1:moves:80").map(|one| one.address.clone());
    world.until("moved", || address().is_some_and(|it| it.starts_with("10.77.5.")));
    world.settle();
    let said = world.log();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(world.log(), said, "several resyncs, and nothing to do");
    assert_eq!(ids(&world), ["node1:moves:80"]);
    assert!(address().is_some_and(|it| it.starts_with("10.77.5.")));
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
fn events_are_read_and_questions_answered_while_a_request_hangs() {
    let mut world = World::new();
    let port = free_port().unwrap();
    world.set("LISTEN", &format!("127.0.0.1:{port}"));
    world.start(&[]);
    world.until("ready", || get(port, "/readyz").contains("200 OK"));
    // The stream begins a moment before the connection: starts of the test that had the engine
    // before this one may be among them.
    let starts = || {
        let metrics = get(port, "/metrics");
        let count = metrics.lines().find_map(|line| {
            line.strip_prefix("registrator_docker_events_total{event=\"start\"} ")
        });
        count.map_or(0, |count| count.parse::<u32>().unwrap())
    };
    let before = starts();
    world.consul.pause().unwrap();
    world.run("first", &[]);
    world.until("seen", || starts() > before);
    let before = starts();
    world.run("second", &[]);
    world.until("seen, too", || starts() > before);
    assert!(get(port, "/healthz").contains("200 OK"));
    world.consul.resume().unwrap();
    world.settle();
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

#[test]
fn a_rename_moves_the_id_and_leaves_nothing_of_the_old_one() {
    let world = World::new();
    world.run("before", &[]);
    world.start(&[]).settle();
    world.docker.cli(&["rename", "before", "after"]).unwrap();
    world.settle();
    assert_eq!(world.services().into_keys().collect::<Vec<_>>(), ["node1:after:80"]);
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
