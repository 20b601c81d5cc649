//! What stays and what goes: policies, the guard, other owners, dry runs.

use std::time::Duration;

use consul::{Registration, Status};

use crate::world::World;

/// Lets enough time pass that a registrator no longer asks for the events before.
fn forget_events() {
    std::thread::sleep(Duration::from_millis(1_500));
}

#[test]
fn with_on_success_a_failed_container_stays_critical_until_it_is_removed() {
    let world = World::new();
    let run = |name: &str, command: &str| {
        let words = ["run", "-d", "--expose", "80", "--name", name, "busybox", "sh", "-c", command];
        world.docker.cli(&words).unwrap();
    };
    // 255 is no signal, 0 is a success, and one that was stopped did not fail.
    run("failed", "sleep 2; exit 255");
    run("ended", "sleep 2; exit 0");
    run("stopped", "sleep 600");
    world.start(&["--deregister", "on-success"]);
    let ids = || world.services().into_keys().collect::<Vec<_>>();
    world.until("all three", || ids().len() == 3);
    world.docker.cli(&["kill", "stopped"]).unwrap();
    world.until("the failed one is left", || ids() == ["node1:failed:80"]);
    let status = |status: Status| {
        let checks = world.checks();
        let health = checks.get("node1:failed:80:docker-health");
        health.is_some_and(|health| health.status == status)
    };
    world.until("it is critical", || status(Status::Critical));
    // It is not dangling: a look at everything leaves it, and so does a successor.
    world.stop_registrator();
    world.start(&["--deregister", "on-success"]);
    std::thread::sleep(Duration::from_secs(1));
    world.until("still there", || ids() == ["node1:failed:80"] && status(Status::Critical));
    world.docker.cli(&["start", "failed"]).unwrap();
    world.until("as good as new", || {
        ids() == ["node1:failed:80"]
            && !world.checks().contains_key("node1:failed:80:docker-health")
    });
    world.docker.cli(&["rm", "-f", "failed"]).unwrap();
    world.until("gone", || ids().is_empty());
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
fn much_that_would_go_at_once_goes_only_after_docker_was_asked_again() {
    let world = World::new();
    for number in 0..6 {
        world.run(&format!("some{number}"), &[]);
    }
    world.start(&[]).settle();
    world.kill_registrator();
    world.docker.clear().unwrap();
    forget_events();
    world.start(&[]);
    world.until("in doubt", || world.log().contains("asked again"));
    assert_eq!(world.services().len(), 6);
    world.settle();
}

#[test]
fn without_cleanup_only_what_was_seen_ending_goes() {
    let world = World::new();
    world.run("old", &[]);
    world.run("seen", &[]);
    world.start(&[]).settle();
    world.kill_registrator();
    world.docker.cli(&["rm", "-f", "old"]).unwrap();
    forget_events();
    world.start(&["-cleanup=false"]);
    world.until("started", || world.log().matches("started").count() == 2);
    std::thread::sleep(Duration::from_millis(500));
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
    let world = World::new();
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
    let table = String::from_utf8(world.output(&["--internal", "list"]).stdout).unwrap();
    assert!(table.starts_with("SERVICE") && table.lines().count() == 3, "{table}");
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
fn the_journal_tells_the_starts_and_stops_newest_last() {
    let world = World::new();
    world.start(&[]);
    world.run("one", &[]);
    world.settle();
    world.docker.cli(&["rm", "-f", "one"]).unwrap();
    let events = || {
        let keys = world.keys("services-events/");
        let text = keys.get("services-events/node1").map(|pair| pair.value.clone());
        let entries: Vec<serde_json::Value> =
            serde_json::from_slice(&text.unwrap_or_default()).unwrap_or_default();
        entries.iter().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    world.until("both", || events() == ["start", "stop"]);
    world.stop_registrator();
    world.start(&[]);
    world.run("two", &[]);
    world.until("all three", || events() == ["start", "stop", "start"]);
}

#[test]
fn an_id_that_two_containers_claim_is_given_to_the_first() {
    let world = World::new();
    let label = ["--label", "SERVICE_ID=mine", "--label", "SERVICE_NAME=web"];
    let first = world.run("first", &label);
    let second = world.run("second", &label);
    world.start(&[]);
    world.until("both", || world.services().len() == 2);
    let services = world.services();
    assert_eq!(services["mine"].meta["container"], first[..12]);
    assert_eq!(services[&format!("mine:{}", &second[..12])].meta["container"], second[..12]);
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
    world.docker.run("guest", &["--network", "container:owner"]).unwrap();
    world.until("both", || world.services().len() == 2);
    let services = world.services();
    assert_eq!(services["node1:guest:80"].address, services["node1:owner:80"].address);
}

#[test]
fn published_ports_are_registered_at_the_nodes_address_with_both_families_as_one() {
    let world = World::new();
    world.start(&["--internal=false"]);
    world.docker.run("web", &["-p", "18080:80", "-p", "18081:81"]).unwrap();
    world.until("both ports", || world.services().len() == 2);
    let services = world.services();
    let ports: Vec<_> = services.values().map(|one| (one.name.as_str(), one.port)).collect();
    assert_eq!(ports, [("busybox-80", 18080), ("busybox-81", 18081)]);
}
