//! What is read from inspect documents.

use super::*;
use serde_json::json;

fn container(mut document: Value) -> Container {
    document["Id"] = json!("c0ffee");
    Container::from_inspect(&document).unwrap()
}

#[test]
fn only_the_id_must_be_there() {
    let bare = container(json!({}));
    assert_eq!(
        (bare.short_id(), bare.stop_signal.as_str(), bare.stop_timeout),
        ("c0ffee", "SIGTERM", 60)
    );
    assert!(!bare.running && bare.health.is_none());
    for bad in [json!({}), json!({"Id": ""}), json!({"Id": 7}), json!([]), json!(null)] {
        assert!(Container::from_inspect(&bad).is_err(), "{bad}");
    }
}

#[test]
fn null_and_fields_of_another_shape_cost_themselves_only() {
    let odd = container(json!({
        "Name": "/odd", "State": {"Running": true, "Paused": null, "Health": {"Status": "", "Log": null}},
        "Config": {"Labels": {"a": "1", "b": null, "c": 3}, "Env": null, "ExposedPorts": ["80"]},
        "HostConfig": null,
        "NetworkSettings": {"Networks": {"one": null, "two": {"IPAddress": "10.0.0.2"}},
            "Ports": {"80/tcp": null, "x/tcp": [], "81/tcp": [{"HostPort": "no"}, {"HostPort": 8081}]}},
    }));
    assert_eq!((odd.name.as_str(), odd.running, odd.health), ("odd", true, None));
    assert_eq!(odd.labels, BTreeMap::from([("a".into(), "1".into())]));
    assert_eq!(odd.networks["two"].ipv4.as_deref(), Some("10.0.0.2"));
    assert_eq!(odd.exposed.len(), 2);
    assert_eq!(
        odd.published.iter().map(|binding| binding.host_port).collect::<Vec<_>>(),
        [8081, 8081],
        "in both families"
    );
}

// The ancestor read the address beside the map, which engines from 29 on do not write any more.
#[test]
fn the_address_beside_the_map_of_networks_is_not_needed_and_counts_without_a_map() {
    let new = json!({"NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}});
    let old = json!({"NetworkSettings": {"IPAddress": "172.17.0.2", "Networks": null}});
    assert_eq!(container(new).networks, container(old).networks);
}

#[test]
fn of_the_environment_only_what_is_meant_for_us_is_kept() {
    let environment = json!(["SERVICE_NAME=a=b", "PASSWORD=sesame", "SERVICE_X", "MY_SERVICE_Y=1"]);
    let container = container(json!({"Config": {"Env": environment}}));
    assert_eq!(container.environment, BTreeMap::from([("SERVICE_NAME".into(), "a=b".into())]));
}

#[test]
fn a_container_that_waits_to_be_restarted_does_not_run() {
    let state = json!({"Running": true, "Restarting": true, "ExitCode": 137, "OOMKilled": true});
    let container = container(json!({"State": state}));
    assert!(!container.running && container.out_of_memory && container.exit_code == 137);
}

#[test]
fn a_stop_timeout_may_be_endless() {
    let timeout =
        |seconds: i64| container(json!({"Config": {"StopTimeout": seconds}})).stop_timeout;
    assert_eq!((timeout(0), timeout(42)), (0, 42));
    assert_eq!((timeout(-1), timeout(i64::MAX)), (FOREVER, FOREVER));
}

#[test]
fn the_last_probe_is_the_one_that_counts() {
    let log = json!([{"Output": "first"}, {"Output": "last\n"}]);
    let state = json!({"Health": {"Status": "unhealthy", "Log": log}});
    let health = container(json!({"State": state})).health.unwrap();
    assert_eq!((health.status, health.output.as_str()), (Health::Unhealthy, "last\n"));
}
