//! Whatever a container says, what comes out is legal, the same each time, and soon there.
//!
//! `PROPTEST_CASES` says how many containers are tried.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod containers;
mod legal;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use services::{Container, Derived, Instance, Node, Options, instances, unique};

use containers::{documents, json_of, options};
use legal::faults;

fn node(address: &str) -> Node {
    Node::new("node1", address)
}

fn derive(document: &Value, options: &Options, address: &str) -> Derived {
    let container = Container::from_inspect(document).unwrap();
    instances(&container, options, &node(address), &|_| None)
}

proptest! {
    #[test]
    fn whatever_a_container_says_every_instance_is_legal(document in documents(), options in options()) {
        let derived = derive(&document, &options, "192.0.2.1");
        for instance in &derived.instances {
            prop_assert_eq!(faults(instance), Vec::<String>::new(), "{:#?}", instance);
        }
        let ids: BTreeSet<&str> = derived.instances.iter().map(|one| one.id.as_str()).collect();
        prop_assert_eq!(ids.len(), derived.instances.len());
        for warning in &derived.warnings {
            prop_assert!(!warning.to_string().contains(char::is_control), "{:?}", warning);
            prop_assert!(warning.to_string().len() < 2000);
        }
    }

    #[test]
    fn the_same_container_leads_to_the_same_instances(document in documents(), options in options()) {
        let derived = derive(&document, &options, "192.0.2.1");
        prop_assert_eq!(&derived, &derive(&document, &options, "192.0.2.1"));
        // The engine lists bindings in another order each time.
        let mut turned = document;
        for bindings in turned["NetworkSettings"]["Ports"].as_object_mut().unwrap().values_mut() {
            if let Some(bindings) = bindings.as_array_mut() {
                bindings.reverse();
            }
        }
        if let Some(variables) = turned["Config"]["Env"].as_array_mut() {
            let keys: BTreeSet<_> = variables.iter().map(|one| one.as_str().unwrap().split('=').next().unwrap().to_owned()).collect();
            if keys.len() == variables.len() {
                variables.reverse();
            }
        }
        prop_assert_eq!(&derived, &derive(&turned, &options, "192.0.2.1"));
    }

    #[test]
    fn labels_that_are_forgotten_meant_nothing(document in documents(), options in options(), prefix in "(acme\\.)?") {
        let options = Options { label_prefix: prefix, ..options };
        let mut container = Container::from_inspect(&document).unwrap();
        container.labels.insert("org.example.secret".into(), "x".into());
        let derive = |container: &Container| instances(container, &options, &node("192.0.2.1"), &|_| None);
        let before = derive(&container);
        container.forget_labels(&options);
        prop_assert!(!container.labels.contains_key("org.example.secret"));
        prop_assert_eq!(derive(&container), before);
    }

    #[test]
    fn on_a_node_with_an_ipv6_address_everything_is_legal_too(document in documents()) {
        let derived = derive(&document, &Options::default(), "fd00::99");
        for instance in &derived.instances {
            prop_assert_eq!(faults(instance), Vec::<String>::new(), "{:#?}", instance);
        }
    }

    #[test]
    fn the_instances_of_a_node_never_share_an_id(documents in prop::collection::vec(documents(), 1..6)) {
        let all: Vec<Instance> = documents
            .iter()
            .zip("abcdef".chars())
            .flat_map(|(document, id)| {
                let mut document = document.clone();
                document["Id"] = json!(id.to_string().repeat(64));
                derive(&document, &Options::default(), "192.0.2.1").instances
            })
            .collect();
        let count = all.len();
        let (renamed, warnings) = unique(all.clone());
        let ids: BTreeSet<&str> = renamed.iter().map(|one| one.id.as_str()).collect();
        prop_assert_eq!(ids.len(), count);
        let changed = renamed.iter().zip(&all).filter(|(new, old)| new.id != old.id).count();
        prop_assert_eq!(changed, warnings.len());
        prop_assert_eq!(unique(renamed.clone()).0, renamed);
    }

    #[test]
    fn any_json_with_an_id_is_a_container(mut document in json_of(4)) {
        let known = Container::from_inspect(&document).is_ok();
        prop_assert_eq!(known, document["Id"].as_str().is_some_and(|id| !id.is_empty()));
        if let Some(fields) = document.as_object_mut() {
            fields.insert("Id".into(), json!("c"));
            derive(&document, &Options::default(), "192.0.2.1");
        }
    }
}

/// A container with `ports` published ports.
fn crowded(labels: &BTreeMap<String, String>, ports: u16) -> Value {
    let ports: BTreeMap<String, Value> = (1..=ports)
        .map(|port| (format!("{port}/tcp"), json!([{"HostPort": port.to_string()}])))
        .collect();
    json!({"Id": "c", "Name": "/c", "State": {"Running": true}, "Config": {"Image": "web", "Labels": labels},
           "NetworkSettings": {"Ports": ports}})
}

/// Derives, and returns how long that took; the limits below are for a slow machine and no optimisation.
fn timed(document: &Value) -> (Derived, Duration) {
    let start = Instant::now();
    let derived = derive(document, &Options::default(), "192.0.2.1");
    (derived, start.elapsed())
}

#[test]
fn ten_thousand_labels_and_a_megabyte_in_each_kind_of_setting_are_borne() {
    let megabyte = |text: &str| text.repeat((1 << 20) / text.len());
    let mut labels: BTreeMap<String, String> =
        (0..10_000).map(|number| (format!("SERVICE_K{number}"), "v".into())).collect();
    for word in [
        "BIG",
        "NAME",
        "ID",
        "WEIGHT",
        "IP",
        "CHECK_HTTP",
        "CHECK_CMD",
        "CHECK_2_HTTP",
        "CHECK_2_HEADER",
    ] {
        labels.insert(format!("SERVICE_{word}"), megabyte("x"));
    }
    labels.insert("SERVICE_TAGS".into(), megabyte("a,bb,"));
    labels.insert(format!("SERVICE_{}", megabyte("k")), "v".into());
    let (derived, took) = timed(&crowded(&labels, 1));
    assert_eq!(faults(&derived.instances[0]), [""; 0]);
    assert!(
        derived.warnings.iter().any(|warning| warning.problem.contains("the rest is left out"))
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn many_ports_with_many_labels_cost_no_more_than_their_number() {
    let labels = (0..1000).flat_map(|number| {
        [
            (format!("SERVICE_K{number}"), "v".to_owned()),
            (format!("SERVICE_{number}_NAME"), format!("n{number}")),
        ]
    });
    let labels: BTreeMap<String, String> =
        labels.chain([("SERVICE_ID".into(), "same".into())]).collect();
    let (derived, took) = timed(&crowded(&labels, 1000));
    let ids: BTreeSet<&String> = derived.instances.iter().map(|one| &one.id).collect();
    assert_eq!((derived.instances.len(), ids.len()), (1000, 1000));
    assert!(took < Duration::from_secs(10), "{took:?}");
}
