//! Engines, agents and registrators that go away, and what is registered when they are back.

use std::time::{Duration, Instant};

use testbed::consul::Consul;

use crate::world::{SOON, World};

/// How many containers a test has that does not say otherwise.
const SOME: usize = 4;

/// How long an agent is frozen: longer than any request waits for an answer, and as long as the session of the keys
/// lives without us.
const FROZEN: Duration = Duration::from_secs(30);

fn some(world: &World) {
    for number in 0..SOME {
        world.run(&format!("some{number}"), &[]);
    }
}

#[test]
fn an_agent_that_was_frozen_catches_up() {
    let world = World::new();
    some(&world);
    world.start(&[]).settle();
    world.consul.pause().unwrap();
    let thawed = Instant::now() + FROZEN;
    world.docker.cli(&["rm", "-f", "some0", "some1"]).unwrap();
    world.run("another", &[]);
    std::thread::sleep(thawed.saturating_duration_since(Instant::now()));
    world.consul.resume().unwrap();
    world.settle();
    assert_eq!(world.log().matches("is away").count(), 1, "{}", world.log());
}

#[test]
fn an_engine_that_crashed_changes_nothing_until_it_is_back() {
    let world = World::new();
    some(&world);
    world.start(&[]).settle();
    world.docker.kill().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.services().len(), SOME);
    world.docker.launch().unwrap();
    world.settle();
}

#[test]
fn a_registrator_that_was_stopped_leaves_everything_and_its_successor_takes_over() {
    let world = World::new();
    some(&world);
    world.start(&[]).settle();
    world.stop_registrator();
    // Not earlier: the events of the starts may come after the list, and are noted in the keys.
    let before = world.keys("services/");
    assert_eq!((world.services().len(), before.len()), (SOME, SOME));
    world.start(&[]);
    world.until("started", || world.log().matches("started").count() == 2);
    world.settle();
    let after = world.keys("services/");
    assert!(before.iter().all(|(key, pair)| after[key].session == pair.session), "taken over");
    assert!(before.iter().all(|(key, pair)| after[key].modify_index == pair.modify_index));
}

#[test]
fn nothing_is_registered_before_consul_is_there_and_it_is_said_once() {
    let mut world = World::with(Consul::start().unwrap());
    world.consul.stop().unwrap();
    world.run("one", &[]);
    world.start(&[]);
    let said = || world.log().matches("waiting for consul").count();
    world.until("said", || said() == 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(said(), 1, "{}", world.log());
    world.consul.restart().unwrap();
    world.within(SOON, || world.difference());
}

#[test]
fn a_crashed_agent_gets_its_keys_back() {
    let mut world = World::with(Consul::options().persistent().start().unwrap());
    some(&world);
    world.start(&[]).settle();
    world.consul.kill().unwrap();
    world.consul.restart().unwrap();
    world.settle();
}
