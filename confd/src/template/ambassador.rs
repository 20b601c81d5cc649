//! The template of an ambassador's own configuration: what each of its upstreams is made of.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::instance::{self, Instance};
use crate::snapshot::Data;

const OWN: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../templates/ambassadors/templates/ambassador.cfg.tera"
));

/// Renders for the upstreams `ports` of the service shop, which has an instance for each port and its tag.
fn rendered(ports: &[u16], instances: &[(u16, &str)]) -> String {
    let instances: Vec<_> =
        instances.iter().map(|(port, tag)| instance("shop", *port, tag)).collect();
    rendered_of(ports, &[&instances], &[])
}

fn instance(name: &str, port: u16, tag: &str) -> Instance {
    Instance {
        id: format!("{name}:{port}"),
        name: name.into(),
        node: "n1".into(),
        address: "10.0.0.1".into(),
        port: 30_000 + port,
        tags: [tag.to_owned()].into_iter().collect(),
        meta: BTreeMap::from([("container-port".to_owned(), port.to_string())]).into(),
        status: "passing".into(),
        weight: 1,
        ..Instance::default()
    }
}

/// Renders for the upstreams `ports` of the service shop after each state of Consul, of which the last one is seen:
/// the instances that it has, and the keys below `weights/`.
fn rendered_of(ports: &[u16], states: &[&[Instance]], weights: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let templates = folder.path().join("templates");
    std::fs::create_dir(&templates).unwrap();
    std::fs::write(templates.join("ambassador.cfg.tera"), OWN).unwrap();
    let upstreams: Vec<String> = ports
        .iter()
        .map(|port| {
            let names = r#""service": "shop", "written": "my_shop""#;
            format!(r#"{{{names}, "port": {port}, "address": "127.127.0.2"}}"#)
        })
        .collect();
    let text = format!(
        "{{%- set upstreams = [{}] -%}}{{%- include \"ambassador.cfg.tera\" -%}}",
        upstreams.join(", ")
    );
    std::fs::write(templates.join("t"), text).unwrap();
    let resource = Resource::parse(Path::new("t.toml"), "[template]\nsrc = \"t\"\ndest = \"/t\"\n");
    let templates = Templates::load(folder.path(), &resource.unwrap()).unwrap();
    let mut snapshot = Snapshot::default();
    let mut asked = BTreeSet::new();
    let mut text = String::new();
    for instances in states {
        answer(&mut snapshot, &asked, instances, weights);
        text = loop {
            match templates.render(snapshot.clone(), SystemTime::UNIX_EPOCH).unwrap().outcome {
                Outcome::Rendered(text) => break text,
                Outcome::Pending(missing) => {
                    answer(&mut snapshot, &missing, instances, weights);
                    asked.extend(missing);
                }
                Outcome::NotReady(why) => panic!("{why}"),
            }
        };
    }
    text
}

fn answer(
    snapshot: &mut Snapshot,
    asked: &BTreeSet<Dependency>,
    instances: &[Instance],
    weights: &[(&str, &str)],
) {
    for dependency in asked {
        let data = match dependency {
            Dependency::Service(service) => {
                let having = instances.iter().filter(|one| one.name == service.name);
                Data::Instances(instance::normalised(having.cloned()))
            }
            _ => Data::Keys(
                weights.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            ),
        };
        snapshot.update(&dependency.clone().into(), data, None, SystemTime::UNIX_EPOCH);
    }
}

/// Returns the lines of a section, without their indentation.
fn section<'a>(text: &'a str, head: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect()
}

#[test]
fn each_port_of_a_service_has_its_own_instances_and_its_own_protocol() {
    let text = rendered(&[80, 6379, 9000], &[(80, "http"), (6379, "")]);
    for (port, mode, servers) in [
        (80, "mode http", vec!["shop:80"]),
        (6379, "mode tcp", vec!["shop:6379"]),
        // Nobody says that it is this port's: all may be meant.
        (9000, "mode http", vec!["shop:6379", "shop:80"]),
    ] {
        for part in ["frontend", "backend"] {
            let lines = section(&text, &format!("{part} shop_{port}"));
            assert!(lines.contains(&mode), "{part} {port} is not {mode}:\n{text}");
        }
        let lines = section(&text, &format!("backend shop_{port}"));
        let found: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("server :n1:")?.split(' ').next())
            .collect();
        assert_eq!(found, servers, "{text}");
    }
}

/// Returns the servers of shop's backend at port 80, each with its weight.
fn servers(text: &str) -> Vec<String> {
    let words = |line: &str| {
        let id = line.strip_prefix("server :n1:")?.split(' ').next()?;
        Some(format!("{id} {}", line.split_once(" weight ")?.1))
    };
    section(text, "backend shop_80").into_iter().filter_map(words).collect()
}

#[test]
fn what_is_registered_under_a_name_for_each_port_is_found_by_the_port_that_is_asked_for() {
    let ported = [instance("shop-80", 80, "v1"), instance("shop-443", 443, "v1")];
    let text = rendered_of(&[80], &[&ported], &[("shop-80", r#"{"v1": 100}"#)]);
    assert_eq!(servers(&text), ["shop-80:80 256"], "with the shares of its name:\n{text}");
    let other = [("shop", r#"{"v1": 0}"#)];
    let weight = servers(&rendered_of(&[80], &[&ported], &other));
    assert_eq!(weight, ["shop-80:80 1"], "not those of another");

    let plain = [instance("shop", 80, "v1")];
    let both = [plain[0].clone(), ported[0].clone()];
    let ill = [Instance { status: "critical".into(), ..plain[0].clone() }, ported[0].clone()];
    let moved = [instance("shop", 8080, "v1")];
    let strange = [instance("my_shop", 80, "v1")];
    for (states, found, why) in [
        (vec![&both[..]], &["shop:80 1"][..], "the name as it is asked for comes first"),
        (vec![&plain[..], &ported[..]], &["shop-80:80 1"], "who is there, not who was"),
        (vec![&ported[..], &[]], &[], "nobody is there"),
        (vec![&ill[..]], &["shop-80:80 1"], "who works, not who is only there"),
        (vec![&plain[..], &moved[..]], &["shop:8080 1"], "at another port, but there"),
        (vec![&strange[..]], &["my_shop:80 1"], "a name that is no DNS label, as it is written"),
    ] {
        assert_eq!(servers(&rendered_of(&[80], &states, &[])), found, "{why}");
    }
}

#[test]
fn one_id_on_two_nodes_is_two_servers_and_what_speaks_udp_is_none() {
    let here = instance("shop", 80, "v1");
    let there = Instance { node: "n2".into(), address: "10.0.0.2".into(), ..here.clone() };
    let native = Instance { id: "n2:shop:80".into(), ..there.clone() };
    let udp = Instance { id: "udp".into(), tags: vec!["udp".into()], ..here.clone() };
    let text = rendered_of(&[80], &[&[here, there, native, udp]], &[]);
    let lines = section(&text, "backend shop_80").into_iter();
    let found: Vec<_> =
        lines.filter_map(|line| line.strip_prefix("server ")?.split(' ').next()).collect();
    assert_eq!(found, [":n1:shop:80", "n2:shop:80", ":n2:shop:80"], "{text}");
}

#[test]
fn a_service_without_instances_keeps_the_protocol_that_it_had_under_either_name() {
    for name in ["shop", "shop-80"] {
        let web = [instance(name, 80, "http")];
        let text = rendered_of(&[80], &[&web, &[]], &[]);
        assert!(section(&text, "backend shop_80").contains(&"mode http"), "{name}:\n{text}");
    }
}
