//! Checks and health, networks of the host's and of other containers', fields that are missing.

use serde_json::json;
use services::{CheckKind, Container, Instance, Options, Status, instances, unique};

use crate::{derive, document, internal, node, one, plain, port80};

#[test]
fn several_checks_are_read_and_a_wrong_one_costs_only_itself() {
    let labels = json!({
        "SERVICE_CHECK_HTTP": "/health", "SERVICE_CHECK_INTERVAL": "5s", "SERVICE_CHECK_HEADER": "Host: a|X: b",
        "SERVICE_CHECK_2_TCP": "true", "SERVICE_CHECK_2_INTERVAL": "1s",
        "SERVICE_CHECK_3_TTL": "soon", "SERVICE_CHECK_INITIAL_STATUS": "passing"
    });
    let derived = derive(&document(labels, port80()), &Options::default());
    let checks = &derived.instances[0].checks;
    assert_eq!(checks.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["http", "2-tcp"]);
    let CheckKind::Http { url, headers, .. } = &checks[0].kind else { panic!("{checks:?}") };
    assert_eq!(url, "http://192.0.2.1:8080/health");
    assert_eq!(headers["X"], ["b"]);
    assert_eq!(checks[0].initial_status, Some(Status::Passing));
    assert_eq!((checks[0].interval.as_secs(), checks[1].interval.as_secs()), (5, 1));
    assert_eq!(derived.warnings.len(), 1, "{:?}", derived.warnings);
    assert!(derived.warnings[0].setting.ends_with("CHECK_3_TTL"));
}

#[test]
fn dockers_health_is_carried_over_ignored_or_waited_for() {
    let with = |status: &str, mode: &str| {
        let mut document = document(json!({"SERVICE_HEALTH": mode}), port80());
        document["State"]["Health"] =
            json!({"Status": status, "Log": [{"Output": "no\nway\u{7}"}]});
        derive(&document, &Options::default()).instances
    };
    let health = with("unhealthy", "").remove(0).docker_health.unwrap();
    assert_eq!((health.status, health.note.as_str()), (Status::Critical, "unhealthy: no way"));
    assert_eq!(with("healthy", "").remove(0).docker_health.unwrap().status, Status::Passing);
    assert_eq!(with("unhealthy", "ignore").remove(0).docker_health, None);
    assert_eq!(with("starting", "gate"), []);
    assert_eq!(with("healthy", "gate").len(), 1);
}

#[test]
fn a_paused_container_is_critical() {
    let mut document = document(json!({}), port80());
    document["State"]["Paused"] = json!(true);
    let health = derive(&document, &Options::default()).instances.remove(0).docker_health.unwrap();
    assert_eq!((health.status, health.note.as_str()), (Status::Critical, "paused"));
}

#[test]
fn a_paused_container_is_critical_whatever_becomes_of_its_healthcheck() {
    for mode in ["ignore", "gate"] {
        let mut document = document(json!({"SERVICE_HEALTH": mode}), port80());
        document["State"] =
            json!({"Running": true, "Paused": true, "Health": {"Status": "healthy"}});
        let instance = derive(&document, &Options::default()).instances.remove(0);
        assert_eq!(instance.docker_health.unwrap().note, "paused", "{mode}");
        document["State"]["Paused"] = json!(false);
        let instance = derive(&document, &Options::default()).instances.remove(0);
        assert_eq!(instance.docker_health.is_none(), mode == "ignore");
    }
    let mut document = document(json!({"SERVICE_HEALTH": "gate"}), port80());
    document["State"] = json!({"Running": true, "Paused": true, "Health": {"Status": "starting"}});
    assert_eq!(derive(&document, &Options::default()).instances, [], "it was never healthy");
}

#[test]
fn a_container_without_ports_is_registered_when_it_asks() {
    assert_eq!(plain(json!({}), json!({})), []);
    let forced = one(json!({"SERVICE_FORCE_REGISTER": "true"}), json!({}));
    assert_eq!((forced.port, forced.id.as_str()), (0, "node1:app:0"));
    assert_eq!(one(json!({"SERVICE_PORT": "0"}), json!({})).port, 0);
}

#[test]
fn on_the_hosts_network_exposed_ports_are_published() {
    let mut document = document(json!({}), json!({}));
    document["HostConfig"] = json!({"NetworkMode": "host"});
    document["Config"]["ExposedPorts"] = json!({"80/tcp": {}});
    let web = derive(&document, &internal()).instances.remove(0);
    assert_eq!((web.address.as_str(), web.port), ("192.0.2.1", 80));
}

#[test]
fn in_another_containers_network_its_ports_and_address_count() {
    let owner =
        Container::from_inspect(&document(json!({"SERVICE_NAME": "not-me"}), port80())).unwrap();
    let mut guest = document(json!({"SERVICE_NAME": "guest"}), json!({}));
    guest["HostConfig"] = json!({"NetworkMode": "container:owner"});
    guest["NetworkSettings"] = json!({});
    let guest = Container::from_inspect(&guest).unwrap();
    let lookup = |id: &str| (id == "owner").then_some(&owner);
    let derived = instances(&guest, &Options::default(), &node(), &lookup);
    assert_eq!((derived.instances[0].service.as_str(), derived.instances[0].port), ("guest", 8080));
    let orphan = instances(&guest, &Options::default(), &node(), &|_| None);
    assert_eq!((orphan.instances.len(), orphan.warnings.len()), (0, 1));
}

#[test]
fn a_helper_in_another_containers_network_is_no_service() {
    let owner = Container::from_inspect(&document(json!({}), port80())).unwrap();
    let mut helper = document(json!({}), json!({}));
    helper["HostConfig"] = json!({"NetworkMode": "container:owner"});
    helper["NetworkSettings"] = json!({});
    let helper = Container::from_inspect(&helper).unwrap();
    let derived = instances(&helper, &Options::default(), &node(), &|_| Some(&owner));
    assert_eq!((derived.instances, derived.warnings), (vec![], vec![]));
}

#[test]
fn documents_with_missing_and_null_fields_are_read() {
    for document in [
        json!({"Id": "a"}),
        json!({"Id": "a", "Name": null, "State": null, "Config": null, "NetworkSettings": null, "HostConfig": null}),
        json!({"Id": "a", "State": {"Running": true, "Health": null}, "Config": {"Labels": null, "Env": null, "ExposedPorts": null},
               "NetworkSettings": {"Networks": {"n": null}, "Ports": {"80/tcp": null, "bad": [], "0/tcp": [{"HostPort": ""}]}}}),
    ] {
        derive(&document, &internal());
    }
    assert!(Container::from_inspect(&json!([])).is_err());
    assert!(Container::from_inspect(&json!({"Name": "/x"})).is_err());
}

#[test]
fn two_containers_never_share_an_id() {
    let first = one(json!({"SERVICE_ID": "mine"}), port80());
    let second = Instance { container: "f".repeat(64), ..first.clone() };
    let (instances, warnings) = unique(vec![first, second]);
    assert_eq!((instances[0].id.as_str(), instances[1].id.as_str()), ("mine", "mine:ffffffffffff"));
    assert_eq!(warnings.len(), 1);
}
