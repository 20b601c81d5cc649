//! What the operators' commands do with a token that may not see what is registered.

use std::process::Output;

use serde_json::{Value, json};
use testbed::consul::Consul;

use crate::world::World;

const MANAGEMENT: &str = "2b778dd9-f5f1-6f29-b4b4-9a5fa948757a";
/// The rights to see something, in the order in which they are asked for.
const RIGHTS: [&str; 3] = ["agent", "node", "service"];

/// Makes a token with these rules.
fn token(world: &World, name: &str, rules: &str) -> String {
    world.consul.command(&["acl", "policy", "create", "-name", name, "-rules", rules]).unwrap();
    let create = ["acl", "token", "create", "-policy-name", name, "-format", "json"];
    let made: Value = serde_json::from_str(&world.consul.command(&create).unwrap()).unwrap();
    made["SecretID"].as_str().unwrap().to_owned()
}

/// Makes a token that may do what `more` says, and see what the first `count` rights are for.
fn seeing(world: &World, count: usize, more: &str) -> String {
    let read =
        RIGHTS[..count].iter().map(|of| format!("{of}_prefix \"\" {{ policy = \"read\" }}\n"));
    token(world, &format!("seeing-{count}"), &(read.collect::<String>() + more))
}

fn run(world: &World, token: &str, arguments: &[&str]) -> Output {
    let mut command = world.node.command(arguments);
    command.env("CONSUL_HTTP_ADDR", world.consul.url()).env("CONSUL_HTTP_TOKEN", token);
    command.output().unwrap()
}

#[test]
fn stop_of_what_the_token_does_not_show_is_refused_and_the_missing_right_is_named() {
    let world = World::with(Consul::options().deny_all_but(MANAGEMENT).start().unwrap());
    world.node.docker.run("plain", &[]).unwrap();
    world.report(&json!({"n1:rng-1:80": "serving", "n1:rng-2:80": "serving"}));
    let keys = "key_prefix \"\" { policy = \"read\" }";
    let stop = |count: usize, container: &str| {
        let token = seeing(&world, count, keys);
        let stopped = run(&world, &token, &["stop", container, "--stop-timeout", "0"]);
        (stopped.status.code(), String::from_utf8_lossy(&stopped.stderr).into_owned())
    };
    for (count, right) in RIGHTS.iter().enumerate() {
        let (code, said) = stop(count, "rng-1");
        assert_eq!(code, Some(1), "{right}: {said}");
        assert!(said.contains(&format!("the token lacks the right {right}:read")), "{said}");
    }
    assert_eq!(world.node.docker.cli(&["ps", "-q"]).unwrap().lines().count(), 2);
    let (code, said) = stop(RIGHTS.len(), "plain");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is not registered"), "{said}");
    assert_eq!(world.node.docker.cli(&["ps", "-q"]).unwrap().lines().count(), 1);
}

#[test]
fn drain_node_does_not_begin_where_the_token_does_not_show_what_is_there() {
    let world = World::with(Consul::options().deny_all_but(MANAGEMENT).start().unwrap());
    world.report(&json!({"n1:rng-1:80": "serving"}));
    let more = "key_prefix \"\" { policy = \"read\" }\nnode \"node1\" { policy = \"write\" }";
    let drain = |token: &str| {
        let drained = run(&world, token, &["drain-node", "--timeout", "1"]);
        (drained.status.code(), String::from_utf8_lossy(&drained.stderr).into_owned())
    };
    let (code, said) = drain(&seeing(&world, 2, more));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the token lacks the right service:read"), "{said}");
    let checks = || run(&world, MANAGEMENT, &["status", "--json"]).stdout;
    let drained =
        || serde_json::from_slice::<Value>(&checks()).unwrap()["nodes"][0]["drained"] == true;
    assert!(!drained());
    let (code, said) = drain(&seeing(&world, RIGHTS.len(), more));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("n1:rng-1:80 is serving") && drained(), "{said}");
}
