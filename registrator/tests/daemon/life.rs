//! What happens to a container, and what becomes of its instance.

use consul::Status;

use crate::world::World;

#[test]
fn a_container_is_registered_when_it_starts_and_removed_when_it_stops() {
    let world = World::new();
    world.run("early", &[]);
    world.start(&[]).settle();
    let id = world.run("late", &["--label", "SERVICE_NAME=web", "--label", "SERVICE_TAGS=a,b"]);
    world.settle();
    let service = &world.services()["node1:late:80"];
    assert_eq!((service.name.as_str(), service.port), ("web", 80));
    assert_eq!(service.tags, ["a", "b"]);
    assert_eq!(service.meta["container"], id[..12]);
    let time = |key: &str| service.meta[key].parse::<u64>().unwrap();
    let (event, registered) = (time("event-time"), time("registered-time"));
    assert!(event > 1_000_000_000_000_000_000 && registered > event, "{event} {registered}");
    let key = &world.keys("services/")["services/web/node1:late:80"];
    let value: serde_json::Value = serde_json::from_slice(&key.value).unwrap();
    assert_eq!(
        (&value["address"], &value["health"]),
        (&service.address.as_str().into(), &"passing".into())
    );
    assert!(key.session.is_some());
    world.docker.cli(&["rm", "-f", "early"]).unwrap();
    world.docker.cli(&["stop", "-t", "1", "late"]).unwrap();
    world.settle();
    assert!(world.services().is_empty());
}

#[test]
fn an_instance_is_drained_from_the_stop_signal_on_and_comes_back_if_it_survives() {
    let world = World::new();
    world.start(&[]);
    let trap = "trap : TERM; while :; do sleep 0.1; done";
    let run = ["run", "-d", "--name", "stubborn", "--expose", "80", "--stop-timeout", "1"];
    world.docker.cli(&[&run[..], &["busybox", "sh", "-c", trap]].concat()).unwrap();
    world.settle();
    let drained = || {
        world
            .checks()
            .values()
            .any(|check| check.is_maintenance() && check.notes.contains("signal"))
    };
    world.docker.cli(&["kill", "--signal", "HUP", "stubborn"]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!drained(), "a signal that asks for something else");
    world.docker.cli(&["kill", "--signal", "TERM", "stubborn"]).unwrap();
    world.until("in maintenance", drained);
    world.until("out of maintenance", || !drained());
}

#[test]
fn a_paused_container_is_critical_until_it_goes_on() {
    let world = World::new();
    world.run("one", &[]);
    world.start(&[]).settle();
    let status = || {
        let checks = world.checks();
        checks.get("node1:one:80:docker-health").map(|check| (check.status, check.output.clone()))
    };
    assert_eq!(status(), None);
    world.docker.cli(&["pause", "one"]).unwrap();
    world.until("critical", || {
        status().is_some_and(|(status, note)| status == Status::Critical && note.contains("paused"))
    });
    world.docker.cli(&["unpause", "one"]).unwrap();
    world.until("no check any more", || status().is_none());
}

#[test]
fn joining_and_leaving_networks_moves_the_address() {
    let world = World::new();
    world.docker.cli(&["network", "create", "--subnet", "10.77.0.0/24", "apart"]).unwrap();
    world.run("one", &[]);
    world.start(&["--network", "apart"]).settle();
    let address = || world.services().remove("node1:one:80").map(|service| service.address);
    world.docker.cli(&["network", "connect", "apart", "one"]).unwrap();
    world.until("on the network", || address().is_some_and(|it| it.starts_with("10.77.0.")));
    world.docker.cli(&["network", "disconnect", "apart", "one"]).unwrap();
    world.until("off it", || address().is_some_and(|it| !it.starts_with("10.77.0.")));
}
