//! Engines of other versions: the same containers, the same entries.
//!
//! `ENGINES` names Debian suites whose engines are tried beside the machine's own: `bookworm sid`.

use consul::Status;
use testbed::consul::Consul;
use testbed::docker::Docker;

use crate::world::{Bed, World};

#[test]
fn start_health_pause_rename_and_stop_are_followed_on_every_engine() {
    let suites = std::env::var("ENGINES").unwrap_or_default();
    let fetched = suites.split_whitespace().map(|suite| Docker::start_of(suite).unwrap());
    let own = std::iter::once_with(|| Docker::start().unwrap());
    for engine in own.chain(fetched) {
        println!("Docker Engine {}", engine.version().unwrap());
        followed(&World::on(Bed::Own(engine), Consul::start().unwrap()));
    }
}

// Podman tells of an end before it says the same when asked, and knows no signals; nothing may wait for a resync.
#[test]
fn podman_is_followed_like_docker() {
    let podman = Docker::podman().unwrap();
    println!("Podman {}", podman.version().unwrap());
    let world = World::on(Bed::Own(podman), Consul::start().unwrap());
    world.run("early", &[]);
    world.start(&["--resync", "0s"]).settle();
    world.docker.cli(&["network", "create", "--subnet", "10.78.0.0/24", "apart"]).unwrap();
    world.run("late", &["--network", "apart"]);
    world.settle();
    let services = world.services();
    assert!(services["node1:early:80"].address.starts_with("10.88."), "{services:?}");
    assert!(services["node1:late:80"].address.starts_with("10.78.0."), "{services:?}");

    let paused = || world.checks().values().any(|check| check.output.contains("paused"));
    world.docker.cli(&["pause", "early"]).unwrap();
    world.until("paused", paused);
    world.docker.cli(&["unpause", "early"]).unwrap();
    world.until("not paused", || !paused());

    world.docker.cli(&["stop", "late"]).unwrap();
    world.settle();
    assert!(!world.services().contains_key("node1:late:80"));
    world.docker.cli(&["start", "late"]).unwrap();
    world.settle();
    assert!(world.services().contains_key("node1:late:80"));
    world.docker.cli(&["rename", "late", "later"]).unwrap();
    world.settle();
    world.docker.cli(&["rm", "-f", "later"]).unwrap();
    world.settle();
    assert_eq!(world.services().into_keys().collect::<Vec<_>>(), ["node1:early:80"]);
}

fn followed(world: &World) {
    let health = |id: &str| {
        let checks = world.checks();
        checks.get(&format!("{id}:docker-health")).map(|check| (check.status, check.output.clone()))
    };
    let is = |id: &str, status: Status, note: &str| {
        health(id).is_some_and(|(now, output)| now == status && output.contains(note))
    };
    world.run("early", &[]);
    world.start(&[]).settle();

    // Started, on the engine's own network and on one of the user's.
    world.docker.cli(&["network", "create", "--subnet", "10.78.0.0/24", "apart"]).unwrap();
    world.run("apart", &["--network", "apart"]);
    world.settle();
    let services = world.services();
    assert!(services["node1:early:80"].address.starts_with("172."), "{services:?}");
    assert!(services["node1:apart:80"].address.starts_with("10.78.0."), "{services:?}");
    assert!(services["node1:apart:80"].meta.contains_key("event-time"), "{services:?}");

    // Probed: the file decides.
    let probe = "cat /tmp/well || { echo sick; exit 1; }";
    let often = ["--health-interval", "1s", "--health-retries", "1", "--health-cmd", probe];
    world.run("probed", &often);
    world.until("sick", || is("node1:probed:80", Status::Critical, "sick"));
    world.docker.cli(&["exec", "probed", "touch", "/tmp/well"]).unwrap();
    world.until("well", || is("node1:probed:80", Status::Passing, ""));

    // Paused, and on again.
    world.docker.cli(&["pause", "early"]).unwrap();
    world.until("paused", || is("node1:early:80", Status::Critical, "paused"));
    world.docker.cli(&["unpause", "early"]).unwrap();
    world.until("not paused", || health("node1:early:80").is_none());

    // Renamed.
    world.docker.cli(&["rename", "early", "late"]).unwrap();
    world.settle();
    assert!(world.services().contains_key("node1:late:80"));

    // Stopped, killed, and removed while it runs.
    world.docker.cli(&["stop", "-t", "1", "late"]).unwrap();
    world.docker.cli(&["kill", "probed"]).unwrap();
    world.docker.cli(&["rm", "-f", "apart"]).unwrap();
    world.settle();
    assert!(world.services().is_empty());
}
