//! What stays and what goes: policies, the guard, other owners, dry runs.

use std::time::{Duration, Instant};

use consul::{Registration, Status, TxnOp};
use testbed::consul::{Consul, free_port};
use testbed::docker::Docker;

use crate::operate::get;
use crate::world::{Bed, World};

/// Lets enough time pass that a registrator no longer asks for the events before.
fn forget_events() {
    std::thread::sleep(Duration::from_millis(1_500));
}

#[test]
fn much_that_would_go_at_once_goes_only_after_docker_was_asked_again() {
    let world = World::new();
    for number in 0..6 {
        world.run(&format!("some{number}"), &[]);
    }
    world.start(&[]).settle();
    world.kill_registrator();
    world.docker.clear().unwrap();
    forget_events();
    let started = Instant::now();
    world.start(&[]);
    world.until("some go", || world.services().len() < 6);
    // Docker is asked again two seconds after it was first.
    assert!(started.elapsed() > Duration::from_secs(2), "{:?}", started.elapsed());
    world.settle();
    let log = world.log();
    let (doubt, removal) = (log.find("asked again"), log.find("deregistered"));
    assert!(doubt.is_some() && doubt < removal, "{log}");
}

#[test]
fn without_cleanup_only_what_was_seen_ending_goes() {
    let mut world = World::new();
    let port = free_port().unwrap();
    world.set("LISTEN", &format!("127.0.0.1:{port}"));
    world.run("old", &[]);
    world.run("seen", &[]);
    world.start(&[]).settle();
    world.kill_registrator();
    world.docker.cli(&["rm", "-f", "old"]).unwrap();
    forget_events();
    world.start(&["-cleanup=false"]);
    // It has listed the containers, and asked for events before that.
    world.until("ready", || get(port, "/readyz").contains("200 OK"));
    world.docker.cli(&["rm", "-f", "seen"]).unwrap();
    world.until("one is left", || world.services().into_keys().eq(["node1:old:80".to_owned()]));
}

#[test]
fn a_dry_run_tells_what_would_change_and_changes_nothing() {
    let world = World::new();
    world.run("one", &[]);
    let output = world.output(&["--internal", "--dry-run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("register   node1:one:80 as busybox at 172."), "{text}");
    assert!(world.services().is_empty() && world.keys("").is_empty());
}

#[test]
fn the_list_shows_what_is_wanted_and_what_is() {
    let mut world = World::new();
    world.run("one", &[]);
    world.start(&[]).settle();
    world.stop_registrator();
    world.run("two", &[]);
    world.docker.cli(&["rm", "-f", "one"]).unwrap();
    let output = world.output(&["--internal", "list", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let states: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| (&row["id"], &row["state"])).collect();
    assert_eq!(format!("{states:?}").matches("dangling").count(), 1, "{rows}");
    assert_eq!(format!("{states:?}").matches("missing").count(), 1, "{rows}");
    let table = world.output(&["--internal", "list"]).stdout;
    let text = String::from_utf8_lossy(&table);
    assert!(text.starts_with("SERVICE") && text.lines().count() == 3, "{text}");
    // What is set in the environment is known to the daemon, and to commands run beside it.
    assert_ne!(world.output(&["list"]).stdout, table);
    world.set("REGISTRATOR_INTERNAL", "true");
    world.set("REGISTRATOR_EXPLICIT", "");
    assert_eq!(world.output(&["list"]).stdout, table);
}

#[test]
fn on_exit_instances_go_or_are_put_into_maintenance_if_wanted() {
    let world = World::new();
    world.run("one", &[]);
    world.start(&["--on-exit", "maintenance"]).settle();
    world.stop_registrator();
    let maintained = || world.checks().values().any(consul::Check::is_maintenance);
    assert!(maintained());
    world.start(&["--on-exit", "deregister"]);
    world.until("back in service", || !maintained());
    world.stop_registrator();
    assert!(world.services().is_empty() && world.keys("services/").is_empty());
}

#[test]
fn while_docker_is_away_readiness_says_so_and_the_end_is_as_wanted_all_the_same() {
    let mut world = World::on(Bed::Own(Docker::start().unwrap()), Consul::start().unwrap());
    let port = free_port().unwrap();
    world.set("LISTEN", &format!("127.0.0.1:{port}"));
    world.run("one", &[]);
    world.start(&["--on-exit", "deregister", "--resync", "1s"]).settle();
    world.until("ready", || get(port, "/readyz").contains("200 OK"));
    world.docker.kill().unwrap();
    world.until("not ready", || get(port, "/readyz").contains("docker does not answer"));
    // A resync has come and nobody has listed the containers since: Consul has to be asked again.
    std::thread::sleep(Duration::from_secs(2));
    assert!(get(port, "/readyz").contains("docker does not answer"));
    assert_eq!(world.services().len(), 1);
    world.stop_registrator();
    assert!(world.services().is_empty());
}

#[test]
fn what_somebody_else_put_into_maintenance_stays_there() {
    let world = World::new();
    world.run("one", &[]);
    world.start(&["--resync", "1s"]).settle();
    world.ask(async |client| client.maintenance("node1:one:80", Some("upgrade")).await.unwrap());
    std::thread::sleep(Duration::from_secs(3));
    assert!(world.checks().values().any(|check| check.notes == "upgrade"));
}

#[test]
fn what_is_changed_or_removed_by_hand_is_put_right() {
    let world = World::new();
    world.run("one", &[]);
    world.start(&["--resync", "1s"]).settle();
    world.ask(async |client| client.deregister("node1:one:80").await.unwrap());
    world.settle();
    let name = || world.services()["node1:one:80"].name.clone();
    world.ask(async |client| {
        let id = "node1:one:80".to_owned();
        client
            .register(&Registration { id, name: "stolen".into(), ..Default::default() })
            .await
            .unwrap();
    });
    world.until("ours again", || world.services().contains_key("node1:one:80"));
    assert_eq!(name(), "busybox");
    world.settle();
}

#[test]
fn keys_that_somebody_removed_or_wrote_are_put_right_at_the_next_look() {
    let world = World::new();
    for name in ["one", "two", "three"] {
        world.run(name, &[]);
    }
    world.start(&["--resync", "1s"]).settle();
    let key = |name: &str| format!("services/busybox/node1:{name}:80");
    let pair = |name: &str| world.keys("services/").remove(&key(name));
    let before = pair("two").unwrap();
    world.ask(async |client| {
        let spoil = TxnOp::Set { key: key("two"), value: b"spoilt".to_vec() };
        client.txn(&[TxnOp::Delete { key: key("one") }, spoil]).await.unwrap();
    });
    world.within(crate::world::SOON, || {
        let now = pair("two").unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // The same again is not the same as before.
        let written = now.modify_index != before.modify_index;
        if written && now.value == before.value {
            return Ok(());
        }
        Err(format!("{} was {}", text(&now.value), text(&before.value)))
    });
    world.settle();
}

#[test]
fn the_journal_tells_the_starts_and_stops_newest_last() {
    let world = World::new();
    world.start(&[]);
    world.run("one", &[]);
    world.settle();
    world.docker.cli(&["rm", "-f", "one"]).unwrap();
    world.until("both", || world.journal() == ["start one", "stop one"]);
    world.stop_registrator();
    world.start(&[]);
    world.run("two", &[]);
    world.until("all three", || world.journal() == ["start one", "stop one", "start two"]);
}

#[test]
fn an_id_that_two_containers_claim_is_given_to_the_first() {
    let world = World::new();
    let label = ["--label", "SERVICE_ID=mine", "--label", "SERVICE_NAME=web"];
    let first = world.run("first", &label);
    let second = world.run("second", &label);
    world.start(&[]);
    // The one that is looked at first has it for a moment.
    let other = format!("mine:{}", &second[..12]);
    world.until("each has its own", || {
        let services = world.services();
        let has = |id: &str, container: &str| {
            services.get(id).is_some_and(|one| one.meta["container"] == container[..12])
        };
        services.len() == 2 && has("mine", &first) && has(&other, &second)
    });
    world.docker.cli(&["rm", "-f", "first"]).unwrap();
    world.until("moved up", || {
        let services = world.services();
        services.len() == 1
            && services.get("mine").is_some_and(|one| one.meta["container"] == second[..12])
    });
}

#[test]
fn a_check_that_the_agent_refuses_costs_neither_the_instance_nor_others() {
    let world = World::new();
    world.run("script", &["--label", "SERVICE_CHECK_SCRIPT=true"]);
    world.run("plain", &[]);
    world.start(&[]).settle();
    assert_eq!(world.log().matches("runs no commands").count(), 1, "{}", world.log());
    assert!(!world.log().contains("is away"));
}

#[test]
fn a_check_that_the_agent_refuses_costs_no_time_either_when_nothing_else_happens() {
    let world = World::new();
    world.start(&["--resync", "0"]).settle();
    // Longer than events are replayed.
    std::thread::sleep(Duration::from_secs(3));
    world.run("script", &["--label", "SERVICE_CHECK_SCRIPT=true"]);
    world.until("registered", || world.services().contains_key("node1:script:80"));
    assert!(world.log().contains("runs no commands"), "{}", world.log());
}

#[test]
fn keys_of_any_size_that_labels_can_make_are_written() {
    let world = World::new();
    let tags: Vec<_> = (0..128).map(|n| format!("{n:0>500}")).collect();
    let ports: Vec<_> = (81..90).flat_map(|port| ["--expose".into(), port.to_string()]).collect();
    let label = format!("SERVICE_TAGS={}", tags.join(","));
    let args: Vec<&str> =
        ["--label", &label].into_iter().chain(ports.iter().map(String::as_str)).collect();
    world.run("large", &args);
    world.run("small", &[]);
    world.start(&[]);
    world.until("all services", || world.services().len() == 11);
    world.until("all keys", || world.keys("services/").len() == 11);
    assert!(!world.log().contains("the keys are not written"), "{}", world.log());
}

#[test]
fn dockers_health_is_a_check_with_the_output_of_the_last_probe() {
    let world = World::new();
    world.start(&[]);
    let probe = [
        "--health-cmd",
        "cat /tmp/well || { echo sick; exit 1; }",
        "--health-interval",
        "1s",
        "--health-retries",
        "1",
    ];
    world.run("probed", &probe);
    let health = |status: Status, text: &str| {
        let checks = world.checks();
        let check = checks.get("node1:probed:80:docker-health");
        check.is_some_and(|check| check.status == status && check.output.contains(text))
    };
    world.until("unhealthy", || health(Status::Critical, "sick"));
    world.docker.cli(&["exec", "probed", "sh", "-c", "echo fine > /tmp/well"]).unwrap();
    world.until("healthy", || health(Status::Passing, ""));
}

#[test]
fn containers_that_share_a_network_follow_its_owner() {
    let world = World::new();
    world.start(&[]);
    world.run("owner", &[]);
    let says_what_it_is = ["--network", "container:owner", "--label", "SERVICE_NAME=guest"];
    world.docker.run("guest", &says_what_it_is).unwrap();
    world.docker.run("helper", &["--network", "container:owner"]).unwrap();
    world.until("both", || world.services().len() == 2);
    let services = world.services();
    assert_eq!(services["node1:guest:80"].address, services["node1:owner:80"].address);
}
