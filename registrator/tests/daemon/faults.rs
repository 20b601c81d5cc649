//! Engines, agents and registrators that go away, and what is registered when they are back.

use std::process::Stdio;
use std::time::{Duration, Instant};

use testbed::consul::Consul;

use crate::world::{SOON, World};

/// How many containers a test has that does not say otherwise.
const SOME: usize = 6;

fn some(world: &World) {
    for number in 0..SOME {
        world.run(&format!("some{number}"), &[]);
    }
}

#[test]
fn an_agent_that_forgot_everything_is_told_again() {
    let mut world = World::new();
    some(&world);
    world.start(&[]).settle();
    world.consul.restart().unwrap();
    world.settle();
    world.docker.cli(&["rm", "-f", "some0"]).unwrap();
    world.settle();
}

#[test]
fn what_happened_while_an_agent_was_away_is_put_right_and_nothing_else_changes() {
    let mut world = World::with(Consul::options().persistent().start().unwrap());
    some(&world);
    world.start(&[]).settle();
    world.consul.stop().unwrap();
    world.docker.cli(&["rm", "-f", "some0"]).unwrap();
    world.run("another", &[]);
    world.consul.restart().unwrap();
    world.settle();
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

#[test]
fn an_agent_that_was_frozen_for_half_a_minute_catches_up() {
    let world = World::new();
    some(&world);
    world.start(&[]).settle();
    world.consul.pause().unwrap();
    let thawed = Instant::now() + Duration::from_secs(30);
    world.docker.cli(&["rm", "-f", "some0", "some1"]).unwrap();
    world.run("another", &[]);
    std::thread::sleep(thawed.saturating_duration_since(Instant::now()));
    world.consul.resume().unwrap();
    world.settle();
    assert_eq!(world.log().matches("is away").count(), 1, "{}", world.log());
}

#[test]
fn an_engine_that_restarts_is_followed_again() {
    let world = World::new();
    some(&world);
    world.start(&[]).settle();
    world.docker.restart().unwrap();
    world.settle();
    assert!(world.services().is_empty());
    world.docker.cli(&["start", "some0", "some1"]).unwrap();
    world.settle();
    assert_eq!(world.services().len(), 2);
    assert_eq!(world.log().matches("docker is away").count(), 1, "{}", world.log());
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
fn a_registrator_killed_in_the_middle_of_two_hundred_starts_and_stops_misses_none() {
    let world = World::new();
    world.start(&[]);
    let script = "for i in $(seq 25); do
        docker run -d --init --expose 80 --name b$0-$i busybox sleep infinity &&
        { [ $((i % 3)) = 0 ] || docker kill b$0-$i; }
    done";
    let mut lanes: Vec<_> = (0..8)
        .map(|lane| {
            std::process::Command::new("sh")
                .args(["-c", script, &lane.to_string()])
                .env("DOCKER_HOST", world.docker.url())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut kills = 0_u64;
    while lanes.iter_mut().any(|lane| lane.try_wait().unwrap().is_none()) {
        std::thread::sleep(Duration::from_millis(700 + 370 * (kills % 5)));
        world.kill_registrator();
        world.start(&[]);
        kills += 1;
    }
    assert!(lanes.iter_mut().all(|lane| lane.wait().unwrap().success()));
    world.settle();
    assert_eq!(world.services().len(), 8 * 8, "after {kills} kills");
    assert!(kills > 3, "{kills}");
}

#[test]
fn bursts_of_starts_and_stops_lose_nothing() {
    let world = World::new();
    world.start(&[]).settle();
    let burst = |command: &str| {
        let script = format!("seq 50 | xargs -P 8 -I N {command}");
        let status = std::process::Command::new("sh")
            .args(["-c", &script])
            .env("DOCKER_HOST", world.docker.url())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    };
    burst("docker run -d --init --expose 80 --name burstN busybox sleep infinity");
    world.settle();
    assert_eq!(world.services().len(), 50);
    burst("docker kill burstN");
    world.settle();
    assert!(world.services().is_empty());
}

#[test]
fn a_registrator_that_was_stopped_leaves_everything_and_its_successor_takes_over() {
    let world = World::new();
    some(&world);
    world.start(&[]).settle();
    let before = world.keys("services/");
    world.stop_registrator();
    assert_eq!(world.services().len(), SOME);
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
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.log().matches("waiting for consul").count(), 1, "{}", world.log());
    world.consul.restart().unwrap();
    world.within(SOON, || world.difference());
}
