//! Names, tags, meta data and weights; who is registered by name alone.

use serde_json::{Value, json};
use services::Options;

use crate::{derive, document, plain, port80};

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

#[test]
fn tags_keep_their_order_and_lose_their_duplicates() {
    let labels = json!({"SERVICE_TAGS": "b,a\\,c, b ,"});
    let options = Options { tags: vec!["z".into(), "b".into()], ..Options::default() };
    let udp = json!({"53/udp": [{"HostPort": "53"}]});
    let dns = &derive(&document(labels, udp), &options).instances[0];
    assert_eq!(dns.tags, ["b", "a,c", "z", "udp"]);
    assert_eq!(dns.id, "node1:app:53:udp");
}

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
