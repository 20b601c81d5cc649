//! What an operator sees: metrics, health, logs, signals, and what a dead node leaves.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use testbed::consul::{Consul, free_port};

use crate::world::World;

/// Returns what the listener answers, head and body.
pub(crate) fn get(port: u16, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_to_string(&mut answer).unwrap();
    }
    answer
}

#[test]
fn metrics_health_and_readiness_tell_how_it_goes() {
    let mut world = World::new();
    let port = free_port().unwrap();
    let listen = format!("127.0.0.1:{port}");
    world.set("LISTEN", &listen);
    assert_eq!(world.output(&["healthcheck"]).status.code(), Some(1));
    world.consul.stop().unwrap();
    world.start(&[]);
    world.until("alive", || world.output(&["healthcheck"]).status.success());
    assert!(get(port, "/readyz").contains("503"), "{}", get(port, "/readyz"));
    world.consul.restart().unwrap();
    world.until("ready", || get(port, "/readyz").contains("200 OK"));
    world.run("one", &[]);
    world.settle();
    let metrics = get(port, "/metrics");
    for line in [
        "registrator_instances 1",
        "registrator_containers 1",
        "registrator_up{peer=\"docker\"} 1",
        "registrator_up{peer=\"consul\"} 1",
        "registrator_actions_total{action=\"register\",result=\"ok\"} 1",
        "registrator_docker_events_total{event=\"start\"} ",
        "registrator_event_to_catalog_seconds_count 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    world.consul.pause().unwrap();
    world.run("two", &[]);
    world.within(Duration::from_secs(20), || match get(port, "/readyz") {
        answer if answer.contains("consul does not answer") => Ok(()),
        answer => Err(answer),
    });
    world.consul.resume().unwrap();
    world.settle();
}

#[test]
fn logs_are_lines_of_json_where_wanted_and_the_state_is_printed_on_a_signal() {
    let world = World::new();
    world.run("one", &[]);
    world.start(&["--log-format", "json", "--resync", "0"]).settle();
    let lines = world.log();
    let line = lines.lines().find(|line| line.contains("\"registered\"")).unwrap();
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&event["level"], &event["id"]), (&"INFO".into(), &"node1:one:80".into()));
    world.signal(Signal::SIGUSR1);
    world.until("the state", || world.log().contains("\"looking_at\""));
    world.ask(async |client| client.deregister("node1:one:80").await.unwrap());
    world.signal(Signal::SIGHUP);
    world.settle();
}

#[test]
fn the_keys_of_a_node_that_died_vanish_by_themselves() {
    // One server, and a client agent beside it that dies with its registrator.
    let server = Consul::options().named("server").start().unwrap();
    let members = server.command(&["members"]).unwrap();
    let address = members.lines().nth(1).and_then(|line| line.split_whitespace().nth(1)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let join = serde_json::json!({
        "server": false, "bootstrap": false, "data_dir": folder.path(),
        "retry_join": [address], "retry_interval": "1s",
    })
    .to_string();
    let mut world = World::with(Consul::options().named("node1").config(&join).start().unwrap());
    world.run("one", &[]);
    world.start(&["--ttl", "10s"]).settle();
    let left = || server.command(&["kv", "get", "-keys", "services/"]).unwrap_or_default();
    assert!(left().contains("services/"));
    world.kill_registrator();
    world.consul.kill().unwrap();
    let died = std::time::Instant::now();
    world.within(Duration::from_mins(1), || match left() {
        keys if keys.trim().is_empty() => Ok(()),
        keys => Err(keys),
    });
    println!("the keys were gone {:?} after the node", died.elapsed());
}
