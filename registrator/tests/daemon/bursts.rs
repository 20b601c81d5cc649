//! Many containers that start and stop at once, while something else goes wrong.
//!
//! `BURST` is how many, fifty unless it is set.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::world::World;

/// How many run docker's commands at a time.
const LANES: usize = 8;
/// How long the engine stands still.
const FROZEN: Duration = Duration::from_secs(4);

fn burst() -> usize {
    std::env::var("BURST").map_or(50, |text| text.parse().expect("BURST is a number"))
}

/// Runs a line of shell for each number below `count`, in as many lanes; `$i` is the number.
fn lanes(world: &World, count: usize, line: &str) -> Vec<Child> {
    let script =
        format!("set -e; i=$0; while [ $i -lt {count} ]; do {line}; i=$((i + {LANES})); done");
    let start = |first: usize| {
        Command::new("sh")
            .args(["-c", &script, &first.to_string()])
            .env("DOCKER_HOST", world.docker.url())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    (0..LANES).map(start).collect()
}

fn finish(lanes: Vec<Child>) {
    for mut lane in lanes {
        assert!(lane.wait().unwrap().success());
    }
}

fn run(name: &str) -> String {
    format!("docker run -d --init --expose 80 --name {name} busybox sleep infinity")
}

/// A random time of up to `limit`: no two runs of the tests hit the same moment.
fn moment(limit: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    limit.mul_f64(f64::from(u16::try_from(random % 1000).unwrap()) / 1000.0)
}

#[test]
fn bursts_of_starts_and_of_stops_lose_nothing() {
    let world = World::new();
    world.start(&[]).settle();
    finish(lanes(&world, burst(), &run("burst$i")));
    world.settle();
    assert_eq!(world.services().len(), burst());
    finish(lanes(&world, burst(), "docker kill burst$i"));
    world.settle();
    assert!(world.services().is_empty());
}

#[test]
fn a_registrator_killed_at_random_moments_of_a_burst_misses_none_and_leaves_no_ghost() {
    let world = World::new();
    world.start(&[]);
    let line = format!("{}; [ $((i % 3)) = 0 ] || docker kill mixed$i", run("mixed$i"));
    let mut running = lanes(&world, burst(), &line);
    let mut kills = 0;
    while running.iter_mut().any(|lane| lane.try_wait().unwrap().is_none()) {
        std::thread::sleep(Duration::from_millis(200) + moment(Duration::from_secs(2)));
        world.kill_registrator();
        world.start(&[]);
        kills += 1;
    }
    finish(running);
    world.settle();
    let wanted: BTreeSet<_> =
        (0..burst()).step_by(3).map(|number| format!("node1:mixed{number}:80")).collect();
    assert_eq!(
        world.services().into_keys().collect::<BTreeSet<_>>(),
        wanted,
        "after {kills} kills"
    );
    assert!(kills > 1, "{kills}");
}

#[test]
fn an_engine_frozen_in_the_middle_of_a_burst_misses_none_and_leaves_no_ghost() {
    let world = World::new();
    world.start(&[]).settle();
    let count = burst() / 2;
    let line = format!("{}; [ $((i % 2)) = 0 ] || docker kill frozen$i", run("frozen$i"));
    let running = lanes(&world, count, &line);
    world.until("some are registered", || world.services().len() > 1);
    world.docker.pause().unwrap();
    std::thread::sleep(FROZEN);
    world.docker.resume().unwrap();
    finish(running);
    world.settle();
    assert_eq!(world.services().len(), count.div_ceil(2));
}
