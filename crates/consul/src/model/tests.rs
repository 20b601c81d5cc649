//! How Consul's documents are read.

use super::*;
use serde_json::{Value, from_value, json};

fn entry(value: Value) -> ServiceEntry {
    from_value(value).unwrap()
}

#[test]
fn fields_of_newer_versions_and_missing_or_null_ones_are_all_read() {
    let old = entry(json!({
        "Node": {"ID": "", "Node": "n1", "Address": "10.0.0.1", "TaggedAddresses": null, "Meta": null},
        "Service": {"ID": "a", "Service": "web", "Tags": null, "Address": "", "Meta": null,
                    "Port": 80, "Weights": {"Passing": 1, "Warning": 1},
                    "EnableTagOverride": false, "CreateIndex": 1, "ModifyIndex": 2},
        "Checks": null
    }));
    let new = entry(json!({
        "Node": {"ID": null, "Node": "n1", "Address": "10.0.0.1", "Partition": "default",
                 "PeerName": "", "Locality": {"Region": "r"}},
        "Service": {"Kind": "", "ID": "a", "Service": "web", "Tags": [], "Port": 80,
                    "SocketPath": "", "Proxy": {"Mode": ""}, "Connect": {}, "PeerName": "",
                    "Ports": [{"Name": "x", "Port": 1}], "ModifyIndex": 77}
    }));
    assert_eq!(old, new);
    assert_eq!((new.address(), new.status()), ("10.0.0.1", Status::Passing));
    assert_eq!(new.service.weights, Weights::default());
}

#[test]
fn numbers_out_of_range_do_not_spoil_the_answer() {
    let found = entry(json!({"Service": {"Port": 70000, "Weights": {"Passing": 99999},
        "TaggedAddresses": {"lan": {"Address": "a", "Port": -1}}}}));
    assert_eq!((found.service.port, found.service.tagged_addresses["lan"].port), (0, 0));
    assert_eq!(found.service.weights, Weights { passing: u16::MAX, warning: 1 });
}

#[test]
fn the_worst_check_counts_and_unknown_words_are_the_worst() {
    let status = |words: &[&str]| {
        let checks: Vec<_> = words.iter().map(|word| json!({"Status": word})).collect();
        entry(json!({"Checks": checks})).status()
    };
    assert_eq!(status(&["passing", "warning", "passing"]), Status::Warning);
    assert_eq!(status(&["warning", "critical"]), Status::Critical);
    assert_eq!(status(&["passing", "resting"]), Status::Critical);
}

#[test]
fn what_was_read_reads_the_same_when_written() {
    let read = entry(json!({"Node": {"Node": "n"}, "Service": {"ID": "a", "Port": 1},
        "Checks": [{"CheckID": "c", "Status": "warning"}]}));
    assert_eq!(entry(serde_json::to_value(&read).unwrap()), read);
}

#[test]
fn maintenance_is_told_from_other_checks() {
    let check = |id: &str| Check { id: id.into(), ..Check::default() }.is_maintenance();
    assert!(check("_node_maintenance") && check("_service_maintenance:web 1"));
    assert!(!check("service:_node_maintenance") && !check("serfHealth"));
}
