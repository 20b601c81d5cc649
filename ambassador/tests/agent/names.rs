//! What the operators' commands make of the names that they are given.

use std::process::Command;

use serde_json::{Value, json};
use testbed::consul::Consul;

use crate::world::World;

#[test]
fn weight_of_what_is_not_registered_is_set_and_warns_with_the_names_that_are_near() {
    let consul = Consul::start().unwrap();
    for name in ["web-80", "web-443"] {
        consul.command(&["services", "register", &format!("-name={name}")]).unwrap();
    }
    let weight = |service: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambassador"));
        command.args(["weight", service, "--tag", "v1=0", "--tag", "v2=100", "--json"]);
        let output = command.env("CONSUL_HTTP_ADDR", consul.url()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let set: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(set["shares"], json!({"v1": 0.0, "v2": 100.0}));
        said
    };
    let said = weight("web");
    assert!(said.contains("nothing is registered as \"web\""), "{said}");
    assert!(said.contains("names that are near: web-443, web-80"), "{said}");
    let key = consul.command(&["kv", "get", "weights/web"]).unwrap();
    assert_eq!(key.trim(), r#"{"v1":0,"v2":100}"#);
    assert_eq!(weight("web-80"), "");
}

#[test]
fn wait_knows_a_container_by_name_whose_instance_has_an_id_of_its_own() {
    let world = World::new();
    let container = world.node.docker.run("named", &[]).unwrap();
    world.register("own-id", &container[..12], "v1");
    world.report(&json!({"own-id": "serving"}));
    let wait = ["wait", "named", "--timeout", "1"];
    let waited = world.run(&wait);
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));

    // Docker would take so little of an ID, too; it may as well be a service that has yet to come.
    let begins = world.run(&["wait", &container[..3], "--timeout", "1"]);
    assert_eq!(begins.status.code(), Some(1));
    let mut without = world.node.command(&wait);
    without.env("CONSUL_HTTP_ADDR", world.consul.url());
    let without = without.env("DOCKER_HOST", "unix:///no/such.sock").output().unwrap();
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert_eq!(without.status.code(), Some(1));
    assert!(said.contains("\"named\" has no instance"), "{said}");
}
