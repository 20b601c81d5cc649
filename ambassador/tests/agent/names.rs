//! What the operators' commands make of the names that they are given.

use std::process::Command;

use serde_json::{Value, json};
use testbed::consul::Consul;

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
