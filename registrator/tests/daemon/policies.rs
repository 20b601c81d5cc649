//! What stays of containers that ended, and what is not registered before its time.

use std::time::Duration;

use consul::Status;
use testbed::consul::free_port;

use crate::operate::get;
use crate::world::World;

#[test]
fn with_deregister_never_what_ended_stays_critical_until_it_is_removed() {
    let mut world = World::new();
    let port = free_port().unwrap();
    world.set("LISTEN", &format!("127.0.0.1:{port}"));
    let id = world.run("one", &[]);
    world.start(&["--deregister", "never"]).settle();
    world.docker.cli(&["stop", "-t", "1", "one"]).unwrap();
    let critical = || {
        let checks = world.checks();
        let health = checks.get("node1:one:80:docker-health");
        health.is_some_and(|health| health.status == Status::Critical)
    };
    world.until("critical", critical);
    let value = || {
        let pair = world.keys("services/").remove("services/busybox/node1:one:80");
        serde_json::from_slice::<serde_json::Value>(&pair.unwrap_or_default().value)
            .unwrap_or_default()
    };
    world.until("so is the key", || value()["health"] == "critical");
    let check = |value: &serde_json::Value| {
        assert_eq!(value["container"], id.trim());
        assert!(value["since"].as_str().is_some_and(|since| since.starts_with("20")), "{value}");
    };
    check(&value());
    assert!(get(port, "/metrics").contains("registrator_instances 1"));
    world.kill_registrator();
    world.start(&["--deregister", "never", "--resync", "1s"]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(critical() && world.services().len() == 1);
    check(&value());
    world.docker.cli(&["rm", "one"]).unwrap();
    world.settle();
    assert!(world.services().is_empty());
}

#[test]
fn the_journal_has_the_end_of_what_stays_and_no_start_of_what_is_only_registered_again() {
    let mut world = World::new();
    world.run("one", &[]);
    world.run("two", &[]);
    world.start(&["--deregister", "never"]).settle();
    let mut expected = vec!["start one".to_owned(), "start two".to_owned()];
    let sorted = || {
        let mut journal = world.journal();
        let first = journal.len().min(2);
        journal[..first].sort();
        journal
    };
    world.until("started", || sorted() == expected);
    world.docker.cli(&["stop", "-t", "1", "one"]).unwrap();
    expected.push("stop one".to_owned());
    world.until("stopped", || sorted() == expected);
    world.docker.cli(&["start", "one"]).unwrap();
    expected.push("start one".to_owned());
    world.until("started again", || sorted() == expected);

    // An agent that has forgotten everything is told of it; nothing has started. Nor has the journal survived.
    world.consul.kill().unwrap();
    world.consul.restart().unwrap();
    world.settle();
    world.docker.cli(&["rm", "-f", "two"]).unwrap();
    let last = || world.journal().last().cloned();
    world.until("removed", || last().as_deref() == Some("stop two"));
    expected.push("stop two".to_owned());
    let mut journal = world.journal();
    journal[..2].sort();
    assert_eq!(journal, expected);
}

#[test]
fn behind_a_gate_an_instance_is_there_only_while_it_is_healthy() {
    let world = World::new();
    world.start(&[]);
    let probe = ["--health-cmd", "test -e /tmp/well", "--health-interval", "1s"];
    let gate = ["--health-retries", "1", "--label", "SERVICE_HEALTH=gate"];
    world.run("gated", &[&probe[..], &gate].concat());
    world.run("other", &[]);
    world.until("the other one", || world.services().contains_key("node1:other:80"));
    let there = || world.services().contains_key("node1:gated:80");
    std::thread::sleep(Duration::from_secs(2));
    assert!(!there());
    world.docker.cli(&["exec", "gated", "touch", "/tmp/well"]).unwrap();
    world.until("there", there);
    world.docker.cli(&["exec", "gated", "rm", "/tmp/well"]).unwrap();
    world.until("gone", || !there());
}

#[test]
fn how_much_may_go_at_once_can_be_said() {
    let world = World::new();
    for number in 0..6 {
        world.run(&format!("some{number}"), &[]);
    }
    world.start(&[]).settle();
    world.kill_registrator();
    world.docker.clear().unwrap();
    // Long enough that a registrator no longer asks for the events before.
    std::thread::sleep(Duration::from_millis(1_500));
    world.start(&["--max-removal", "100%"]).settle();
    assert!(world.services().is_empty());
    assert!(!world.log().contains("asked again"), "{}", world.log());
}

#[test]
fn without_cleanup_what_ended_unseen_stays_until_docker_speaks_of_it() {
    let world = World::new();
    world.run("one", &[]);
    world.start(&[]).settle();
    world.kill_registrator();
    world.docker.cli(&["kill", "one"]).unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    world.start(&["--cleanup=false", "--resync", "0"]);
    world.run("two", &[]);
    world.until("the new one", || world.services().contains_key("node1:two:80"));
    assert!(world.services().contains_key("node1:one:80"), "{}", world.log());
    world.docker.cli(&["rm", "one"]).unwrap();
    world.settle();
}
