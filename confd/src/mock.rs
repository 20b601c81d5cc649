//! Plausible answers for checking a template where no source of services is at hand.
//! Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use crate::ambassadors::Ambassador;
use crate::dependency::Dependency;
use crate::instance::Instance;
use crate::meta::Meta;
use crate::snapshot::{Check, Data, Node};

/// Returns an answer to `dependency` that has the shape of a real one.
pub(crate) fn data(dependency: &Dependency) -> Data {
    match dependency {
        Dependency::Services { .. } => Data::Services(BTreeMap::from([
            ("example".to_owned(), BTreeSet::from(["http".to_owned()])),
            ("example-tcp".to_owned(), BTreeSet::new()),
        ])),
        Dependency::Service(service) => {
            let tags = service
                .tag
                .clone()
                .or_else(|| (!service.name.ends_with("-tcp")).then(|| "http".to_owned()));
            Data::Instances(vec![instance(&service.name, tags.into_iter().collect()).into()])
        }
        Dependency::Nodes { .. } => Data::Nodes(vec![node()]),
        Dependency::Node { .. } => {
            Data::Node(Some((node(), vec![instance("example", vec!["http".to_owned()]).into()])))
        }
        Dependency::Datacenters => Data::Names(vec!["dc1".to_owned()]),
        // Text, a number, JSON and YAML at once.
        Dependency::Key { .. } => Data::Key(Some("1".to_owned())),
        Dependency::Prefix { .. } => {
            Data::Keys(BTreeMap::from([("key".to_owned(), "1".to_owned())]))
        }
        Dependency::Checks { .. } => Data::Checks(vec![Check {
            node: "node1".to_owned(),
            id: "check".to_owned(),
            name: "check".to_owned(),
            status: "passing".to_owned(),
            ..Check::default()
        }]),
        Dependency::Ambassadors => Data::Ambassadors(vec![Ambassador::example()]),
    }
}

fn node() -> Node {
    Node {
        name: "node1".to_owned(),
        // An address that is reserved for documentation (RFC 5737).
        address: "192.0.2.1".to_owned(),
        datacenter: "dc1".to_owned(),
        ..Node::default()
    }
}

fn instance(name: &str, tags: Vec<String>) -> Instance {
    Instance {
        id: format!("node1:{name}:80"),
        name: name.to_owned(),
        node: "node1".to_owned(),
        node_address: "192.0.2.1".to_owned(),
        address: "192.0.2.2".to_owned(),
        port: 80,
        tags,
        meta: Meta::from_iter([("container-port".to_owned(), "6379".to_owned())]),
        weight: 1,
        status: "passing".to_owned(),
        datacenter: "dc1".to_owned(),
    }
}
