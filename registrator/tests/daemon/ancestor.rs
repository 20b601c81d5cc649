//! What was wrong in gliderlabs/registrator, one test for each mistake.
//!
//! Two are about fields that new engines no longer send; one of these is tested where events are
//! read, in `src/docker/event.rs`. docs/registrator.md has the list in words.

mod values;

use std::time::{Duration, Instant};

use consul::{Registration, Status};
use testbed::consul::{Consul, free_port};

use crate::operate::get;
use crate::world::World;

fn ids(world: &World) -> Vec<String> {
    world.services().into_keys().collect()
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
    world.run("alive", &["--label", "SERVICE_CHECK_TTL=6s"]);
    world.start(&[]).settle();
    let passing = || {
        let checks = world.checks();
        checks
            .values()
            .any(|check| check.service_id == "node1:alive:80" && check.status == Status::Passing)
    };
    // Longer than one beat counts.
    let end = Instant::now() + Duration::from_secs(9);
    while Instant::now() < end {
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
    // What it had to do may be said a moment after it is done.
    world.until("several resyncs, and nothing to do", || {
        let said = world.log();
        std::thread::sleep(Duration::from_millis(2500));
        world.log() == said
    });
    assert_eq!(ids(&world), ["node1:moves:80"]);
    assert!(address().is_some_and(|it| it.starts_with("10.77.5.")));
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
fn a_rename_moves_the_id_and_leaves_nothing_of_the_old_one() {
    let world = World::new();
    world.run("before", &[]);
    world.start(&[]).settle();
    world.docker.cli(&["rename", "before", "after"]).unwrap();
    world.settle();
    assert_eq!(world.services().into_keys().collect::<Vec<_>>(), ["node1:after:80"]);
}
