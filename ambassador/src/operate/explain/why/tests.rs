//! What is said of containers that are not registered.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::docker::options;
use super::*;

fn container(labels: &Value, running: bool) -> Value {
    json!({
        "Id": "0123456789abcdef", "Name": "/coins-rng-1",
        "State": {"Running": running, "ExitCode": 137},
        "Config": {"Image": "x", "Labels": labels, "ExposedPorts": {"80/tcp": {}}},
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    })
}

fn look(document: &Value, options: &Options) -> Look {
    let container = Container::from_inspect(document).unwrap();
    Look::at(container, options, &Node::new("n1", "10.0.0.1"), &|_| None)
}

fn reasons(document: &Value, flags: &str) -> Vec<String> {
    let options = options(flags.split_whitespace(), &BTreeMap::new());
    let look = look(document, &options);
    assert!(look.concerns("rng", &options), "{document}");
    look.why("rng", &options)
}

#[test]
fn a_container_that_is_not_registered_says_why() {
    let name = json!({"com.docker.compose.service": "rng"});
    let ignored = json!({"com.docker.compose.service": "rng", "SERVICE_IGNORE": "true"});
    let other = json!({"com.docker.compose.service": "rng", "SERVICE_NAME": "dice"});
    let system = json!({"com.docker.compose.service": "rng", "ambassador.system": ""});
    let both = "--internal --compose-names";
    for (labels, running, flags, word) in [
        (&name, false, both, "does not run (exit code 137)"),
        (&name, true, both, "has not registered it"),
        (&ignored, true, both, "its setting SERVICE_IGNORE=true says so"),
        (&name, true, "--compose-names", "no port: nothing is published"),
        (&other, true, "--internal", "it is registered as dice"),
        (&name, true, "-internal -explicit", "only what has a SERVICE_NAME"),
        (&system, true, both, "a part of the system"),
    ] {
        let reasons = reasons(&container(labels, running), flags);
        assert!(reasons.len() == 1 && reasons[0].contains(word), "{word}: {reasons:?}");
    }
}

#[test]
fn a_setting_counts_in_every_spelling_that_registrator_reads() {
    for (labels, environment, flags, said) in [
        (json!({"service.ignore": "yes"}), "", "", "service.ignore=yes"),
        (json!({"service.80.ignore": "1"}), "", "", "service.80.ignore=1"),
        (json!({"SERVICE_80_tcp_IGNORE": "on"}), "", "", "SERVICE_80_tcp_IGNORE=on"),
        (json!({"x.service.ignore": "1"}), "", "--label-prefix x.", "x.service.ignore=1"),
        (json!({}), "SERVICE_IGNORE=1", "--label-prefix x.", "SERVICE_IGNORE=1"),
        (json!({"SERVICE_IGNORE": "no"}), "SERVICE_80_IGNORE=1", "", "SERVICE_80_IGNORE=1"),
    ] {
        let mut document = container(&labels, true);
        document["Config"]["Image"] = json!("rng");
        document["Config"]["Env"] = json!([environment]);
        let reasons = reasons(&document, &format!("--internal {flags}"));
        assert_eq!(reasons, [format!("it is ignored: its setting {said} says so")]);
    }
}

#[test]
fn what_has_no_port_may_be_ignored_as_well() {
    let labels = json!({"com.docker.compose.service": "rng", "SERVICE_IGNORE": "1"});
    let said = reasons(&container(&labels, true), "");
    assert!(said[0].contains("SERVICE_IGNORE=1") && said[1].contains("no port"), "{said:?}");
}

#[test]
fn what_waits_for_its_health_check_is_told_from_what_is_ignored() {
    let gated = |status: &str, more: Value| {
        let mut labels = json!({"com.docker.compose.service": "rng", "service.health": "gate"});
        labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut document = container(&labels, true);
        document["State"]["Health"] = json!({"Status": status, "Log": []});
        reasons(&document, "--internal --compose-names")
    };
    for status in ["starting", "unhealthy"] {
        let reasons = gated(status, json!({}));
        assert_eq!(reasons, ["its health check has not passed, and it is registered only then"]);
    }
    let both = gated("starting", json!({"SERVICE_IGNORE": "1"}));
    assert_eq!(both.len(), 2, "{both:?}");
}

#[test]
fn a_container_concerns_the_services_that_its_names_could_mean() {
    let labels = json!({"com.docker.compose.service": "my_web", "service.443.name": "Shop"});
    let internal = options(["--internal"].into_iter(), &BTreeMap::new());
    let look = look(&container(&labels, true), &internal);
    for (service, concerns) in [
        ("my-web", true),
        ("my-web-80", true),
        ("Shop", true),
        ("x", true),
        ("my-web-x", false),
        ("my", false),
    ] {
        assert_eq!(look.concerns(service, &internal), concerns, "{service}");
    }
}
