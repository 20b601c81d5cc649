//! A Consul that can do only a part of its work: no leader, a token that may not do everything.

use std::fs;
use std::time::{Duration, Instant};

use testbed::consul::Consul;

use crate::gate::{Gate, SERVERS};
use crate::world::World;

/// A token that may do everything.
const MASTER: &str = "5e5a3e00-0000-4000-8000-00000000beef";
/// What the agent does by itself takes no longer on a busy machine, whatever the servers do: less than a request to them
/// is waited for.
const AT_ONCE: Duration = Duration::from_secs(8);
/// What servers agree upon may take so long on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Sets the rules of the token of a test.
fn rules(world: &World, verb: &str, rules: &str) {
    let file = world.consul.folder().join("policy.hcl");
    fs::write(&file, rules).unwrap();
    let rules = format!("@{}", file.display());
    world.consul.command(&["acl", "policy", verb, "-name", "ours", "-rules", &rules]).unwrap();
}

/// Returns an agent that denies everything, and sets a token with these rules.
fn restricted(text: &str) -> World {
    let mut world = World::with(Consul::options().deny_all_but(MASTER).start().unwrap());
    world.look_with(MASTER);
    rules(&world, "create", text);
    let create = ["acl", "token", "create", "-policy-name", "ours", "-format", "json"];
    let created = world.consul.command(&create).unwrap();
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    world.set("CONSUL_HTTP_TOKEN", created["SecretID"].as_str().unwrap());
    world
}

#[test]
fn what_starts_and_stops_without_a_leader_is_right_when_there_is_one() {
    // Of two servers one is no majority.
    let world = World::with(Consul::options().persistent().start().unwrap());
    let members = world.consul.command(&["members"]).unwrap();
    let address = members.lines().nth(1).and_then(|line| line.split_whitespace().nth(1)).unwrap();
    let join = serde_json::json!({
        "bootstrap_expect": 0, "retry_join": [address], "retry_interval": "1s",
    });
    let second = Consul::options().named("node2").persistent().config(&join.to_string());
    let mut second = second.start().unwrap();
    // Who has just come may vote only a while later.
    world.within(PATIENCE, || {
        let peers = world.consul.command(&["operator", "raft", "list-peers"]).unwrap_or_default();
        if peers.matches("true").count() == 2 { Ok(()) } else { Err(peers) }
    });
    world.run("old", &[]);
    world.start(&["--ttl", "60s"]).settle();
    second.kill().unwrap();
    world.within(PATIENCE, || match world.ask(async |client| client.leader().await) {
        Ok(Some(leader)) => Err(leader),
        _ => Ok(()),
    });
    world.run("new1", &[]);
    world.docker.cli(&["kill", "old"]).unwrap();
    world.run("new2", &[]);
    // The agent itself answers late now, as it tries for seconds to tell the servers.
    std::thread::sleep(Duration::from_secs(5));
    second.restart().unwrap();
    world.within(PATIENCE, || world.difference());
}

#[test]
fn instances_come_and_go_while_keys_can_be_neither_read_nor_written() {
    let mut world = World::new();
    let gate = Gate::before(&mut world, SERVERS);
    world.run("old", &[]);
    world.start(&["--ttl", "60s", "--on-exit", "deregister"]).settle();
    gate.shut(true);
    for name in ["new1", "new2", "new3"] {
        world.run(name, &[]);
        let id = format!("node1:{name}:80");
        let started = Instant::now();
        world.until("registered", || world.services().contains_key(&id));
        assert!(started.elapsed() < AT_ONCE, "{:?}\n{}", started.elapsed(), world.log());
    }
    for name in ["old", "new1"] {
        world.docker.cli(&["kill", name]).unwrap();
        let id = format!("node1:{name}:80");
        let stopped = Instant::now();
        world.until("deregistered", || !world.services().contains_key(&id));
        assert!(stopped.elapsed() < AT_ONCE, "{:?}\n{}", stopped.elapsed(), world.log());
    }
    gate.shut(false);
    world.within(PATIENCE, || world.difference());
    gate.shut(true);
    world.stop_registrator();
    assert!(world.services().is_empty(), "{}", world.log());
}

#[test]
fn what_a_token_may_not_register_yet_is_registered_soon_after_it_may() {
    let agent = "agent \"node1\" { policy = \"read\" }";
    let world = restricted(&format!("{agent} service_prefix \"\" {{ policy = \"read\" }}"));
    world.run("one", &[]);
    world.start(&["--kv-prefix=", "--resync", "0"]);
    world.until("refused", || world.log().contains("consul refuses to register it"));
    std::thread::sleep(Duration::from_secs(2));
    assert!(world.services().is_empty());
    assert_eq!(world.log().matches("consul refuses").count(), 1, "{}", world.log());
    rules(&world, "update", &format!("{agent} service_prefix \"\" {{ policy = \"write\" }}"));
    world.until("registered", || world.services().contains_key("node1:one:80"));
}

#[test]
fn one_that_may_not_be_registered_does_not_make_consul_look_away() {
    let world = restricted(
        r#"agent "node1" { policy = "read" } service_prefix "" { policy = "read" }
           service_prefix "mine" { policy = "write" }"#,
    );
    let health = ["--health-cmd", "echo fine", "--health-interval", "1s"];
    world.run("theirs", &health);
    world.start(&["--kv-prefix=", "--resync", "0"]);
    world.until("refused", || world.log().contains("consul refuses to register it"));
    world.consul.pause().unwrap();
    world.run("first", &["--label", "SERVICE_NAME=mine1"]);
    let said = |what: &str| world.log().contains(what).then_some(()).ok_or_else(|| what.to_owned());
    world.within(PATIENCE, || said("consul is away"));
    world.consul.resume().unwrap();
    world.within(PATIENCE, || said("consul is back"));
    world.run("second", &["--label", "SERVICE_NAME=mine2"]);
    world.until("both", || world.services().len() == 2);
}

#[test]
fn keys_that_may_not_be_written_are_called_that_and_not_another_nodes() {
    let world = restricted(
        r#"agent "node1" { policy = "read" } session "node1" { policy = "write" }
           service_prefix "" { policy = "write" } key_prefix "services/" { policy = "read" }"#,
    );
    world.run("one", &[]);
    world.start(&[]);
    world.until("registered", || world.services().contains_key("node1:one:80"));
    world.until("said", || world.log().contains("the keys are not written"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(world.log().contains("Permission denied"), "{}", world.log());
    assert!(!world.log().contains("another node"), "{}", world.log());
}

#[test]
fn on_exit_instances_go_although_the_session_of_the_keys_may_not_be_ended() {
    let most = r#"agent "node1" { policy = "read" } service_prefix "" { policy = "write" }
                  key_prefix "" { policy = "write" }"#;
    let world = restricted(&format!("{most} session \"node1\" {{ policy = \"write\" }}"));
    world.run("one", &[]);
    world.run("two", &[]);
    world.start(&["--on-exit", "deregister"]).settle();
    rules(&world, "update", most);
    world.stop_registrator();
    assert!(world.services().is_empty(), "{}", world.log());
    assert!(world.log().contains("not all instances were left"), "{}", world.log());
}

#[test]
fn an_agent_that_runs_commands_after_its_restart_is_told_of_them_again() {
    let mut world = World::new();
    world.run("script", &["--label", "SERVICE_CHECK_SCRIPT=true"]);
    world.start(&["--resync", "0"]).settle();
    let is_told = || world.checks().contains_key("node1:script:80:script");
    assert!(world.log().contains("runs no commands") && !is_told(), "{}", world.log());
    let settings = world.consul.folder().join("4.json");
    fs::write(settings, r#"{"enable_script_checks": true}"#).unwrap();
    world.consul.restart().unwrap();
    let is_told = || world.checks().contains_key("node1:script:80:script");
    world.until("told", is_told);
}
