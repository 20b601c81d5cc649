//! What a registrator goes on with that another one began before it.

use std::time::{Duration, Instant};

use consul::Status;
use nix::sys::signal::Signal;

use crate::gate::{Gate, KEYS};
use crate::world::World;

/// Ends the registrator as a crash would, starts its successor with these arguments, and waits until it has looked.
fn succeed(world: &World, args: &[&str]) {
    let started = || world.log().matches("run: started").count();
    let before = started();
    world.kill_registrator();
    world.start(args);
    world.until("started", || started() > before);
}

#[test]
fn a_successor_goes_on_with_the_heartbeats_without_a_look_at_everything() {
    let world = World::new();
    world.run("alive", &["--label", "SERVICE_CHECK_TTL=6s"]);
    world.start(&["--resync", "0"]).settle();
    succeed(&world, &["--resync", "0"]);
    // Longer than the time that the last beat of the one before counts.
    let end = Instant::now() + Duration::from_secs(9);
    while Instant::now() < end {
        let checks = world.checks();
        let check = checks.values().find(|check| check.service_id == "node1:alive:80").unwrap();
        assert_eq!(check.status, Status::Passing, "{check:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_successor_goes_on_with_a_drain_unless_the_container_was_started_since() {
    let world = World::new();
    world.start(&[]);
    let trap = "trap : TERM; while :; do sleep 0.1; done";
    let run = ["run", "-d", "--name", "stubborn", "--expose", "80", "--stop-timeout", "4"];
    world.docker.cli(&[&run[..], &["busybox", "sh", "-c", trap]].concat()).unwrap();
    world.settle();
    let drained = || {
        let checks = world.checks();
        checks.values().any(|check| check.is_maintenance() && check.notes.contains("signal"))
    };
    world.docker.cli(&["kill", "--signal", "TERM", "stubborn"]).unwrap();
    world.until("drained", drained);
    // Long enough that a registrator no longer asks for the event of the signal.
    std::thread::sleep(Duration::from_millis(1_500));
    succeed(&world, &[]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(drained(), "it may still end: {}", world.log());
    world.within(Duration::from_secs(10), || {
        if drained() { Err("still drained".to_owned()) } else { Ok(()) }
    });
    world.docker.cli(&["kill", "--signal", "TERM", "stubborn"]).unwrap();
    world.until("drained again", drained);
    world.kill_registrator();
    world.docker.cli(&["restart", "-t", "0", "stubborn"]).unwrap();
    world.start(&[]);
    let started = Instant::now();
    world.until("in service at once", || !drained());
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn a_guest_that_is_looked_at_before_its_owner_costs_neither_a_warning_nor_its_instance() {
    let world = World::new();
    // Guests are found first: what was made last is listed first.
    world.run("owner", &[]);
    for name in ["guest1", "guest2", "guest3"] {
        let label = format!("SERVICE_NAME={name}");
        world.docker.run(name, &["--network", "container:owner", "--label", &label]).unwrap();
    }
    world.start(&[]);
    world.until("all", || world.services().len() == 4);
    for _ in 0..3 {
        succeed(&world, &[]);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(world.services().len(), 4);
    assert!(!world.log().contains("which is not there"), "{}", world.log());
    assert!(!world.log().contains("deregistered"), "{}", world.log());
}

#[test]
fn a_registrator_told_to_stop_while_consul_hangs_ends_before_docker_would_kill_it() {
    let world = World::new();
    world.run("one", &["--label", "SERVICE_CHECK_TTL=2s"]);
    world.start(&["--on-exit", "deregister"]).settle();
    world.consul.pause().unwrap();
    world.run("two", &[]);
    std::thread::sleep(Duration::from_secs(1));
    let told = Instant::now();
    world.signal(Signal::SIGTERM);
    let status = world.registrator.take().unwrap().wait(Duration::from_secs(20)).unwrap();
    let took = told.elapsed();
    world.consul.resume().unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    // Ten seconds, of which ours are fewer, and what a busy machine adds.
    assert!(took < Duration::from_secs(11), "{took:?}\n{}", world.log());
}

#[test]
fn the_last_entries_of_the_journal_are_written_before_the_end() {
    let world = World::new();
    world.start(&[]).settle();
    for name in ["one", "two", "three"] {
        world.run(name, &[]);
    }
    world.until("all", || world.services().len() == 3);
    world.stop_registrator();
    let journal = world.keys("services-events/").remove("services-events/node1").unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&journal.value).unwrap();
    assert_eq!(entries.len(), 3, "{entries:?}");
}

#[test]
fn a_successor_told_to_stop_before_it_saw_the_keys_leaves_none() {
    let mut world = World::new();
    let gate = Gate::before(&mut world, KEYS);
    world.run("one", &[]);
    world.start(&["--ttl", "60s"]).settle();
    gate.shut(true);
    succeed(&world, &["--ttl", "60s", "--on-exit", "deregister"]);
    world.stop_registrator();
    assert!(world.services().is_empty() && world.keys("services/").is_empty(), "{}", world.log());
}
