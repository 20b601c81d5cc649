//! From an inspect document to instances: the rules of ports, names, ids, addresses, tags, weights and checks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::needless_pass_by_value, reason = "json!() in the call reads better without &")]

use serde_json::{Value, json};
use services::{CheckKind, Container, Derived, Instance, Node, Options, Status, instances, unique};

fn node() -> Node {
    Node::new("node1", "192.0.2.1")
}

/// A running container `app` of the image `acme/web:1`, with `labels` and published `ports`.
fn document(labels: Value, ports: Value) -> Value {
    json!({
        "Id": "0123456789abcdef0123456789abcdef", "Name": "/app",
        "State": {"Running": true, "StartedAt": "2026-01-01T00:00:00Z"},
        "Config": {"Image": "registry:5000/acme/web:1", "Labels": labels},
        "NetworkSettings": {"Ports": ports, "Networks": {
            "a": {"IPAddress": "10.0.1.2"}, "b": {"IPAddress": "10.0.2.2", "GlobalIPv6Address": "fd00::2"}
        }}
    })
}

fn derive(document: &Value, options: &Options) -> Derived {
    let container = Container::from_inspect(document).unwrap();
    instances(&container, options, &node(), &|_| None)
}

fn plain(labels: Value, ports: Value) -> Vec<Instance> {
    let derived = derive(&document(labels, ports), &Options::default());
    assert_eq!(derived.warnings, [], "warnings");
    derived.instances
}

fn one(labels: Value, ports: Value) -> Instance {
    let mut all = plain(labels, ports);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn port80() -> Value {
    json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]})
}

fn internal() -> Options {
    Options { internal: true, ..Options::default() }
}

#[test]
fn a_published_port_is_one_instance_at_the_nodes_address() {
    let web = one(json!({}), port80());
    assert_eq!((web.service.as_str(), web.id.as_str()), ("web", "node1:app:80"));
    assert_eq!((web.address.as_str(), web.port), ("192.0.2.1", 8080));
    let expected = [
        ("container", "0123456789ab"),
        ("container-port", "80"),
        ("image", "registry:5000/acme/web:1"),
        ("managed-by", "registrator"),
        ("registrator-host", "node1"),
    ];
    let meta: Vec<(&str, &str)> = web.meta.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(meta, expected);
}

#[test]
fn a_stopped_container_offers_nothing() {
    let mut stopped = document(json!({}), port80());
    stopped["State"] = json!({"Running": false, "ExitCode": 1});
    assert_eq!(derive(&stopped, &Options::default()).instances, []);
}

#[test]
fn every_distinct_binding_is_an_instance_with_an_id_of_its_own() {
    let bindings = json!({"80/tcp": [
        {"HostIp": "10.0.0.1", "HostPort": "80"}, {"HostIp": "10.0.0.2", "HostPort": "81"},
        {"HostIp": "127.0.0.1", "HostPort": "82"}
    ]});
    let derived = derive(&document(json!({}), bindings), &Options::default());
    let ids: Vec<&str> = derived.instances.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["node1:app:80", "node1:app:80:10.0.0.2:81"]);
    assert!(derived.warnings[0].to_string().contains("127.0.0.1"), "{:?}", derived.warnings);
}

// The ancestor registered the container's address with the host's port on networks of the user's own.
#[test]
fn address_and_port_are_both_the_hosts_or_both_the_containers() {
    let published = one(json!({}), port80());
    assert_eq!((published.address.as_str(), published.port), ("192.0.2.1", 8080));
    let options = Options { network: Some("b".into()), ..internal() };
    let own = &derive(&document(json!({}), port80()), &options).instances[0];
    assert_eq!((own.address.as_str(), own.port), ("10.0.2.2", 80));
    assert_eq!(own.tagged_addresses["lan_ipv6"].address, "fd00::2");
}

// The ancestor took the address of a random one of several networks.
#[test]
fn of_several_networks_the_chosen_one_counts_else_the_first_by_name() {
    let address = |labels: Value, options: &Options| {
        derive(&document(labels, port80()), options).instances[0].address.clone()
    };
    assert_eq!(address(json!({}), &internal()), "10.0.1.2");
    assert_eq!(address(json!({"SERVICE_NETWORK": "b"}), &internal()), "10.0.2.2");
    let cidr = Options { network_cidr: Some("10.0.2.0/24".into()), ..internal() };
    assert_eq!(address(json!({}), &cidr), "10.0.2.2");
    let warnings =
        derive(&document(json!({"SERVICE_NETWORK": "c"}), port80()), &internal()).warnings;
    assert!(warnings.iter().any(|w| w.to_string().contains("\"c\"")), "{warnings:?}");
}

#[test]
fn a_network_may_be_named_as_the_compose_file_names_it() {
    let mut document = document(json!({"SERVICE_NETWORK": "backends"}), port80());
    document["NetworkSettings"]["Networks"] =
        json!({"p_backends": {"IPAddress": "10.0.9.9"}, "p_a": {"IPAddress": "10.0.1.1"}});
    assert_eq!(derive(&document, &internal()).instances[0].address, "10.0.9.9");
}

// The ancestor added the port to the name although the only other port was ignored.
#[test]
fn the_port_is_part_of_the_name_only_where_several_are_registered() {
    let two = json!({"80/tcp": [{"HostPort": "1"}], "443/tcp": [{"HostPort": "2"}]});
    let names = |labels: Value| -> Vec<String> {
        plain(labels, two.clone()).into_iter().map(|i| i.service).collect()
    };
    assert_eq!(names(json!({})), ["web-80", "web-443"]);
    assert_eq!(names(json!({"SERVICE_443_IGNORE": "true"})), ["web"]);
    assert_eq!(names(json!({"SERVICE_443_NAME": "tls"})), ["web-80", "tls"]);
}

// The ancestor named a service after the digest, or the registry's port.
#[test]
fn the_default_name_is_the_images_last_element_without_tag_and_digest() {
    let name = |image: &str| {
        let mut document = document(json!({}), port80());
        document["Config"]["Image"] = json!(image);
        derive(&document, &Options::default()).instances[0].service.clone()
    };
    assert_eq!(name("redis:7"), "redis");
    assert_eq!(name("reg:5000/ns/app@sha256:0123"), "app");
    assert_eq!(name("reg:5000/ns/app:v1@sha256:0123"), "app");
    assert_eq!(
        name("sha256:0123456789abcdef"),
        "app",
        "a bare id is no name: the container's is used"
    );
}

#[test]
fn compose_names_beat_images_when_asked_for() {
    let labels =
        json!({"com.docker.compose.service": "rng", "com.docker.compose.project": "coins"});
    let options = Options { compose_names: true, ..Options::default() };
    let rng = &derive(&document(labels, port80()), &options).instances[0];
    assert_eq!((rng.service.as_str(), rng.meta["compose-project"].as_str()), ("rng", "coins"));
}

#[test]
fn swarm_names_are_as_good_as_composes_and_composes_come_first() {
    let options = Options { compose_names: true, ..Options::default() };
    let name = |labels: Value, options: &Options| {
        derive(&document(labels, port80()), options).instances[0].service.clone()
    };
    let swarm = json!({"com.docker.swarm.service.name": "shop_web"});
    assert_eq!(name(swarm.clone(), &options), "shop-web");
    assert_eq!(name(swarm, &Options::default()), "web");
    let both = json!({"com.docker.swarm.service.name": "s", "com.docker.compose.service": "c"});
    assert_eq!(name(both, &options), "c");
    let empty = json!({"com.docker.swarm.service.name": "s", "com.docker.compose.service": ""});
    assert_eq!(name(empty, &options), "s");
}

#[test]
fn a_name_that_had_to_be_changed_is_said_wherever_it_came_from() {
    let mut document = document(json!({}), port80());
    document["Config"]["Image"] = json!("acme/my_app:1");
    let derived = derive(&document, &Options::default());
    assert_eq!(derived.instances[0].service, "my-app");
    assert_eq!(
        derived.warnings[0].to_string(),
        "SERVICE_NAME: \"my_app\" is no DNS label; registered as \"my-app\""
    );
    document["Config"]["Labels"] = json!({"SERVICE_NAME": "my-app"});
    assert_eq!(derive(&document, &Options::default()).warnings, []);
}

#[test]
fn explicit_registers_only_what_has_a_name() {
    let options = Options { explicit: true, ..Options::default() };
    assert_eq!(derive(&document(json!({}), port80()), &options).instances, []);
    assert_eq!(
        derive(&document(json!({"SERVICE_NAME": "x"}), port80()), &options).instances.len(),
        1
    );
}

// The ancestor wrote tags in reverse order.
#[test]
fn tags_keep_their_order_and_lose_their_duplicates() {
    let labels = json!({"SERVICE_TAGS": "b,a\\,c, b ,"});
    let options = Options { tags: vec!["z".into(), "b".into()], ..Options::default() };
    let udp = json!({"53/udp": [{"HostPort": "53"}]});
    let dns = &derive(&document(labels, udp), &options).instances[0];
    assert_eq!(dns.tags, ["b", "a,c", "z", "udp"]);
    assert_eq!(dns.id, "node1:app:53:udp");
}

// The ancestor lost the whole registration to one key that Consul refuses.
#[test]
fn a_meta_key_is_made_legal_and_a_long_value_is_cut_between_characters() {
    let labels = json!({"SERVICE_A.B": "1", "SERVICE_LONG": "ä".repeat(400)});
    let derived = derive(&document(labels, port80()), &Options::default());
    let meta = &derived.instances[0].meta;
    assert_eq!((meta["a-b"].as_str(), meta["long"].len()), ("1", 512));
    assert_eq!(derived.warnings.len(), 2, "{:?}", derived.warnings);
}

#[test]
fn our_own_entries_cannot_be_overwritten() {
    let derived =
        derive(&document(json!({"SERVICE_MANAGED-BY": "me"}), port80()), &Options::default());
    assert_eq!(derived.instances[0].meta["managed-by"], "registrator");
    assert_eq!(derived.warnings.len(), 1);
}

#[test]
fn weights_are_one_number_or_two() {
    let weights = |text: &str| {
        let derived =
            derive(&document(json!({"SERVICE_WEIGHT": text}), port80()), &Options::default());
        let weights = derived.instances[0].weights;
        (weights.passing, weights.warning, derived.warnings.len())
    };
    assert_eq!(weights("10"), (10, 1, 0));
    assert_eq!(weights("10:3"), (10, 3, 0));
    assert_eq!(weights("0"), (1, 1, 1));
    assert_eq!(weights("many"), (1, 1, 1));
}

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

// To ignore the HEALTHCHECK says nothing about a container whose processes stand still.
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
fn the_systems_own_containers_are_left_out_unless_they_ask_by_name() {
    let with =
        |labels: Value| derive(&document(labels, port80()), &Options::default()).instances.len();
    assert_eq!(with(json!({"ambassador.container": "c"})), 0);
    assert_eq!(with(json!({"ambassador.container": "c", "SERVICE_NAME": "me"})), 1);
    assert_eq!(
        with(json!({"ambassador.base": "x"})),
        1,
        "an image's label says nothing of the container"
    );
    assert_eq!(
        with(json!({"ambassador.upstreams": "rng:80"})),
        1,
        "a client is no system container"
    );
    for image in ["hashicorp/consul:1.20", "confd", "gliderlabs/registrator", "my/ambassador"] {
        let mut document = document(json!({}), port80());
        document["Config"]["Image"] = json!(image);
        let derived = derive(&document, &Options::default());
        assert!(derived.instances.is_empty() && derived.is_system, "{image}");
        document["Config"]["Labels"] = json!({"SERVICE_80_NAME": "asked-for"});
        let derived = derive(&document, &Options::default());
        assert!(derived.instances.len() == 1 && !derived.is_system, "{image}");
    }
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

// New engines leave out fields that the ancestor read: NetworkSettings.IPAddress and the empty Ports.
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
