//! The operators' commands with a real Consul and a real engine; what ambassadors report is put
//! into Consul as confd would put it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::consul::Consul;
use testbed::tls::{Certificates, SecureDocker};

use crate::world::World;

/// What is reported by then is reported in time: who takes something out waits a little longer for that.
const IN_TIME: Duration = Duration::from_secs(2);
/// How often that is tried.
const TRIES: usize = 5;

/// Runs a command on a world with these reports while `act` does something there, and returns both; from the beginning
/// again where that took too long, as on a busy machine.
fn meanwhile(command: &[&str], reports: &Value, act: impl Fn(&World)) -> (World, Output) {
    for _ in 0..TRIES {
        let world = World::new();
        world.report(reports);
        let started = Instant::now();
        let (took, output) = std::thread::scope(|scope| {
            let running = scope.spawn(|| world.run(command));
            act(&world);
            (started.elapsed(), running.join().unwrap())
        });
        println!("{command:?}: everything else was done after {took:?}");
        if took < IN_TIME {
            return (world, output);
        }
    }
    panic!("too late {TRIES} times")
}

#[test]
fn wait_explain_status_and_weight_say_what_ambassadors_do() {
    let world = World::new();
    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "joining"}));
    let waited = world.run(&["wait", "rng", "--timeout", "1"]);
    assert_eq!(waited.status.code(), Some(1));
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    assert!(said.contains("n1:rng-2:80 is joining"), "{said}");
    assert!(world.run(&["wait", "rng-1"]).status.success());
    assert!(world.run(&["wait", &world.container]).status.success());

    let explained = world.json(&["explain", "rng"]);
    assert_eq!(explained["instances"][0]["serving"], true, "{explained}");
    assert_eq!(explained["instances"][1]["serving"], false, "{explained}");
    let reason = explained["instances"][1]["reasons"][0].as_str().unwrap();
    assert!(reason.contains("until its first check passes"), "{reason}");
    world
        .node
        .docker
        .run("rng-3", &["--label", "SERVICE_NAME=rng", "--label", "SERVICE_IGNORE=1"])
        .unwrap();
    let text = String::from_utf8(world.run(&["explain", "rng"]).stdout).unwrap();
    assert!(text.contains("SERVICE_IGNORE=1 says so"), "{text}");

    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "serving"}));
    assert!(world.run(&["wait", "rng"]).status.success());
    assert!(world.run(&["weight", "rng", "--tag", "v1=100", "--tag", "v2=0"]).status.success());
    let shares = world.consul.command(&["kv", "get", "weights/rng"]).unwrap();
    assert_eq!(shares.trim(), r#"{"v1":100,"v2":0}"#);
    let text = String::from_utf8(world.run(&["explain", "rng"]).stdout).unwrap();
    assert!(text.contains("\"v2\" has a share of 0 %"), "{text}");
    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "weightless"}));
    assert!(world.run(&["wait", "rng"]).status.success(), "nothing is what v2 shall get");
    let explained = world.json(&["explain", "rng"]);
    assert_eq!(explained["instances"][1]["ambassadors"]["node1/haproxy"], "weightless");
    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "serving"}));
    assert_eq!(
        world.run(&["weight", "rng", "--tag", "v1=60", "--tag", "v2=50"]).status.code(),
        Some(1)
    );
    assert!(world.run(&["weight", "rng", "--clear"]).status.success());

    world.report(
        &json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "serving", "n1:rng-9:80": "held"}),
    );
    let explained = world.json(&["explain", "rng"]);
    let held = &explained["instances"][2];
    assert_eq!((&held["id"], &held["serving"]), (&json!("n1:rng-9:80"), &json!(false)));
    assert_eq!(held["ambassadors"]["node1/haproxy"], "held", "{explained}");
    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "serving"}));

    let status = world.json(&["status"]);
    assert_eq!(status["ambassadors"][0]["event_to_serving_ms"], 12.0, "{status}");
    assert_eq!(status["nodes"][0]["health"], "passing", "{status}");
    let text = String::from_utf8(world.run(&["status"]).stdout).unwrap();
    assert!(
        text.contains("node1/haproxy") && text.contains("2/2") && text.contains("12 ms"),
        "{text}"
    );
}

#[test]
fn stop_waits_until_no_ambassador_has_the_container_and_gives_up_without_a_trace() {
    let world = World::new();
    let runs =
        || !world.node.docker.cli(&["ps", "-q", "--filter", "name=rng-1"]).unwrap().is_empty();
    assert_eq!(world.run(&["stop", "rng-1"]).status.code(), Some(1), "nobody reports");
    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "serving"}));
    let stopped = world.run(&["stop", "rng-1", "--timeout", "1"]);
    assert_eq!(stopped.status.code(), Some(1));
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(said.contains("n1:rng-1:80 is serving at node1/haproxy"), "{said}");
    assert!(runs() && !world.maintenance());

    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| world.run(&["stop", "rng-1", "--stop-timeout", "0"]));
        crate::harness::eventually("maintenance", || world.maintenance());
        world.report(&json!({"n1:rng-1:80": "draining", "n1:rng-2:80": "serving"}));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(runs(), "it still has a connection");
        world.report(&json!({"n1:rng-2:80": "serving"}));
        let stopped = stopping.join().unwrap();
        assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    });
    assert!(!runs());
    assert_eq!(world.run(&["stop", "rng-1"]).status.code(), Some(1), "it does not run");
}

#[test]
fn stop_waits_for_what_is_down_and_for_what_has_just_come_and_was_not_reported_yet() {
    let stop = ["stop", "rng-1", "--timeout", "1"];
    let world = World::new();
    world.report(&json!({"n1:rng-1:80": "down", "n1:rng-2:80": "serving"}));
    let stopped = world.run(&stop);
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(said.contains("n1:rng-1:80 is down at node1/haproxy"), "{said}");
    // Its engine is for the next one.
    drop(world);

    let (world, stopped) = meanwhile(&stop, &json!({"n1:rng-2:80": "serving"}), |world| {
        crate::harness::eventually("maintenance", || world.maintenance());
        // As late as a report may be: it has been looked for twice by then.
        std::thread::sleep(Duration::from_secs(1));
        world.report(&json!({"n1:rng-1:80": "draining", "n1:rng-2:80": "serving"}));
    });
    assert_eq!(stopped.status.code(), Some(1), "an ambassador reported it late");
    let runs = world.node.docker.cli(&["ps", "-q", "--filter", "name=rng-1"]).unwrap();
    assert!(!runs.is_empty() && !world.maintenance());
}

#[test]
fn stop_that_is_interrupted_takes_back_what_it_began_and_begins_nothing_more() {
    let world = World::new();
    world.node.docker.run("plain", &[]).unwrap();
    world.report(&json!({"n1:rng-1:80": "serving"}));
    let mut command = world.node.command(&["stop", "rng-1", "plain"]);
    command.env("CONSUL_HTTP_ADDR", world.consul.url()).stderr(Stdio::piped());
    let stopping = command.stdout(Stdio::null()).spawn().unwrap();
    crate::harness::eventually("maintenance", || world.maintenance());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(stopping.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let stopped = stopping.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert_eq!(stopped.status.code(), Some(1), "{said}");
    assert!(said.contains("rng-1 goes on: interrupted"), "{said}");
    assert!(said.contains("plain goes on: interrupted"), "{said}");
    assert!(!world.maintenance());
    assert_eq!(world.node.docker.cli(&["ps", "-q"]).unwrap().lines().count(), 2);
}

#[test]
fn stop_that_is_interrupted_while_the_container_ends_leaves_it_drained_and_sees_it_end() {
    let world = World::new();
    // Process 1 of a container that takes its time.
    let script = "trap 'echo ending; sleep 4; exit' TERM; while :; do sleep 0.1; done";
    let words = ["run", "-d", "--name", "slow", "busybox", "sh", "-c", script];
    let slow = world.node.docker.cli(&words).unwrap();
    world.register("n1:slow:80", &slow[..12], "v1");
    world.report(&json!({"n1:rng-1:80": "serving"}));
    let mut command = world.node.command(&["stop", "slow"]);
    command.env("CONSUL_HTTP_ADDR", world.consul.url()).stderr(Stdio::piped());
    let stopping = command.stdout(Stdio::piped()).spawn().unwrap();
    crate::harness::eventually("it ends", || {
        world.node.docker.cli(&["logs", "slow"]).unwrap().contains("ending")
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(stopping.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let runs = || world.node.docker.cli(&["ps", "-q", "--filter", "name=slow"]).unwrap();
    assert!(!runs().is_empty() && world.maintenance(), "nobody sends it requests while it ends");
    let stopped = stopping.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(stopped.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&stopped.stdout), "slow\n");
    assert_eq!(runs(), "");
}

#[test]
fn wait_outlives_a_restart_of_consul() {
    let mut world = World::with(Consul::options().persistent().start().unwrap());
    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "down"}));
    let mut command = world.node.command(&["wait", "rng", "--timeout", "30s"]);
    command.env("CONSUL_HTTP_ADDR", world.consul.url()).stderr(Stdio::piped());
    let waiting = command.stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    world.consul.restart().unwrap();
    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "serving"}));
    let waited = waiting.wait_with_output().unwrap();
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
}

#[test]
fn stop_of_what_is_not_registered_waits_for_nobody_and_says_so() {
    let world = World::new();
    world.node.docker.run("plain", &[]).unwrap();
    let stopped = world.run(&["stop", "plain", "--stop-timeout", "0"]);
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(stopped.status.success(), "{said}");
    assert!(said.contains("is not registered"), "{said}");
    assert_eq!(String::from_utf8_lossy(&stopped.stdout), "plain\n");
    assert_eq!(world.node.docker.cli(&["ps", "-q"]).unwrap().lines().count(), 1);
}

#[test]
fn an_engine_is_reached_over_tls_and_not_with_anothers_certificates() {
    let engine = SecureDocker::start().unwrap();
    let labels = ["--label", "ambassador.container=gone", "--label", "ambassador.project=shop"];
    engine.run("left", &[&labels[..], &["--label", "ambassador.upstreams=rng"]].concat()).unwrap();
    let delete = |certificates: &Certificates| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambassador"));
        command.args(["delete", "--project", "shop", "--docker-tls-verify"]);
        command.env("DOCKER_HOST", engine.secure_url());
        command.env("DOCKER_CERT_PATH", certificates.folder()).output().unwrap()
    };
    let refused = delete(&Certificates::new().unwrap());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&engine.secure_url()), "{said}");
    assert_eq!(engine.cli(&["ps", "-q"]).unwrap().lines().count(), 1);
    let deleted = delete(engine.certificates());
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    assert_eq!(engine.cli(&["ps", "-aq"]).unwrap(), "");
}

#[test]
fn drain_node_waits_for_instances_that_come_meanwhile() {
    let (_world, drained) = meanwhile(&["drain-node", "--timeout", "1"], &json!({}), |world| {
        let drained = || world.json(&["status"])["nodes"][0]["drained"] == true;
        crate::harness::eventually("maintenance", drained);
        std::thread::sleep(Duration::from_millis(200));
        world.register("n1:rng-3:80", "eeeeeeeeeeee", "v1");
        world.report(&json!({"n1:rng-3:80": "serving"}));
    });
    let said = String::from_utf8_lossy(&drained.stderr).into_owned();
    assert!(said.contains("n1:rng-3:80 is serving"), "{said}");
}

#[test]
fn drain_node_takes_a_node_out_and_back() {
    let world = World::new();
    let unknown = world.run(&["drain-node", "--timeout", "1"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no ambassador reports"));
    assert_eq!(world.json(&["status"])["nodes"][0]["drained"], false);
    world.report(&json!({"n1:rng-1:80": "serving"}));
    let left = world.run(&["drain-node", "--timeout", "1"]);
    assert_eq!(left.status.code(), Some(1), "an ambassador still has an instance");
    world.report(&json!({}));
    let node = world.consul.node().to_owned();
    assert!(world.run(&["drain-node", &node]).status.success());
    assert_eq!(world.json(&["status"])["nodes"][0]["drained"], true);
    assert!(world.run(&["drain-node", "--back"]).status.success());
    assert_eq!(world.json(&["status"])["nodes"][0]["drained"], false);
    assert_ne!(world.run(&["drain-node", "nowhere"]).status.code(), Some(0));
}
