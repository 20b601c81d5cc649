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
    let folder = tempfile::tempdir().unwrap();
    let templates = folder.path().join("templates");
    std::fs::create_dir(&templates).unwrap();
    std::fs::write(templates.join("ambassador.cfg.tera"), OWN).unwrap();
    let upstreams: Vec<String> = ports
        .iter()
        .map(|port| format!(r#"{{"service": "shop", "port": {port}, "address": "127.127.0.2"}}"#))
        .collect();
    let text = format!(
        "{{%- set upstreams = [{}] -%}}{{%- include \"ambassador.cfg.tera\" -%}}",
        upstreams.join(", ")
    );
    std::fs::write(templates.join("t"), text).unwrap();
    let resource = Resource::parse(Path::new("t.toml"), "[template]\nsrc = \"t\"\ndest = \"/t\"\n");
    let templates = Templates::load(folder.path(), &resource.unwrap()).unwrap();
    let instance = |(port, tag): &(u16, &str)| Instance {
        id: format!("shop-{port}"),
        name: "shop".into(),
        node: "n1".into(),
        address: "10.0.0.1".into(),
        port: 30_000 + port,
        tags: [(*tag).to_owned()].into_iter().collect(),
        meta: BTreeMap::from([("container-port".to_owned(), port.to_string())]).into(),
        status: "passing".into(),
        weight: 1,
        ..Instance::default()
    };
    let list = instance::normalised(instances.iter().map(instance));
    let mut snapshot = Snapshot::default();
    loop {
        match templates.render(snapshot.clone(), SystemTime::UNIX_EPOCH).unwrap().outcome {
            Outcome::Rendered(text) => return text,
            Outcome::Pending(missing) => answer(&mut snapshot, missing, &list),
            Outcome::NotReady(why) => panic!("{why}"),
        }
    }
}

fn answer(
    snapshot: &mut Snapshot,
    missing: BTreeSet<Dependency>,
    list: &[std::sync::Arc<Instance>],
) {
    for dependency in missing {
        let data = match &dependency {
            Dependency::Service(_) => Data::Instances(list.to_vec()),
            _ => Data::Keys(BTreeMap::new()),
        };
        snapshot.update(&dependency.into(), data, None, SystemTime::UNIX_EPOCH);
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
        (80, "mode http", vec!["shop-80"]),
        (6379, "mode tcp", vec!["shop-6379"]),
        // Nobody says that it is this port's: all may be meant.
        (9000, "mode http", vec!["shop-6379", "shop-80"]),
    ] {
        for part in ["frontend", "backend"] {
            let lines = section(&text, &format!("{part} shop_{port}"));
            assert!(lines.contains(&mode), "{part} {port} is not {mode}:\n{text}");
        }
        let lines = section(&text, &format!("backend shop_{port}"));
        let found: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("server ")?.split(' ').next())
            .collect();
        assert_eq!(found, servers, "{text}");
    }
}
