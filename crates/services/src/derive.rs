//! From a container to the instances it offers. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{self, Target};
use crate::clean;
use crate::container::{Container, NetworkMode};
use crate::endpoints::{Endpoint, endpoints};
use crate::health::{Verdict, verdict};
use crate::id;
use crate::labels::{Labels, Settings, short};
use crate::meta;
use crate::model::{Derived, Instance, Node, Options, TaggedAddress, Weights};
use crate::name;
use crate::ports::Port;
use crate::subject::Subject;
use crate::tags;
use crate::warnings::Warnings;

/// Images that make up this system; their containers are registered only under a name of their own choice.
const SYSTEM_IMAGES: [&str; 4] = ["registrator", "confd", "consul", "ambassador"];
/// Labels that mark this system's containers: the ambassadors that the node agent makes, and whatever is declared one.
const SYSTEM_LABELS: [&str; 2] = ["ambassador.container", "ambassador.system"];
/// How many containers are followed from one network to the next; Docker itself allows one.
const HOPS: usize = 4;

/// Returns the instances that `container` offers, and what of its settings could not be used.
///
/// `owner` returns another container by id or name: the one whose network this container uses.
/// The ports of `container:` networking are those the container declares itself, else the owner's.
#[must_use]
pub fn instances<'a>(
    container: &Container,
    options: &Options,
    node: &Node,
    owner: &dyn Fn(&str) -> Option<&'a Container>,
) -> Derived {
    let mut warnings = Warnings::default();
    let labels = Labels::of(container, &options.label_prefix);
    let mut instances = Vec::new();
    let is_system = is_system(container) && !labels.names_anything();
    if container.running && !is_system {
        match network(container, owner) {
            Ok(network) => {
                let subject = Subject { container, network, labels: &labels, options, node };
                instances = subject.instances(&mut warnings);
            }
            Err(id) => {
                let problem = format!("uses the network of {}, which is not there", short(id));
                warnings.add("network", problem);
            }
        }
    }
    Derived { instances, warnings: warnings.into_vec(), is_system }
}

/// Returns the container whose network `container` uses; otherwise the id of the one that is not there.
fn network<'a: 'b, 'b>(
    container: &'b Container,
    owner: &dyn Fn(&str) -> Option<&'a Container>,
) -> Result<&'b Container, &'b str> {
    let mut at = container;
    for _ in 0..HOPS {
        match &at.network_mode {
            NetworkMode::Container(id) => at = owner(id).ok_or(id.as_str())?,
            NetworkMode::Own | NetworkMode::Host => return Ok(at),
        }
    }
    Err(&at.id)
}

/// Tells whether a container is a part of this system: registrator, confd, Consul, an ambassador.
#[must_use]
pub fn is_system(container: &Container) -> bool {
    SYSTEM_LABELS.iter().any(|label| container.labels.contains_key(*label))
        || name::image(&container.image).is_some_and(|name| SYSTEM_IMAGES.contains(&name))
}

impl Subject<'_> {
    fn instances(&self, warnings: &mut Warnings) -> Vec<Instance> {
        let endpoints = endpoints(self, warnings);
        let ports: BTreeSet<Option<Port>> = endpoints.iter().map(|one| one.port).collect();
        let mut used = BTreeSet::new();
        let mut instances = Vec::new();
        for endpoint in endpoints {
            let instance = self.instance(endpoint, ports.len() > 1, &used, warnings);
            used.extend(instance.iter().map(|instance| instance.id.clone()));
            instances.extend(instance);
        }
        instances
    }

    /// `several` tells whether more than one port is registered, `used` are the ids of the others.
    fn instance(
        &self,
        endpoint: Endpoint,
        several: bool,
        used: &BTreeSet<String>,
        warnings: &mut Warnings,
    ) -> Option<Instance> {
        let port = endpoint.port;
        let settings = &self.labels.at(port);
        let Verdict::Register(docker_health) = verdict(self.container, settings, warnings) else {
            return None;
        };
        let target = Target { address: &endpoint.address, port: endpoint.number };
        Some(Instance {
            service: name::name(self, port, several, settings, warnings)?,
            id: id::id(self, &endpoint, settings, used, warnings),
            checks: check::checks(settings, &target, warnings),
            tags: tags::tags(self, port, settings, warnings),
            meta: meta::meta(self, port, settings, warnings),
            weights: weights(settings, warnings),
            tagged_addresses: by_family(endpoint.tagged),
            enable_tag_override: settings.flag("ENABLE_TAG_OVERRIDE", warnings).unwrap_or(false),
            container: self.container.id.clone(),
            container_name: clean::value(&self.container.name),
            address: endpoint.address,
            port: endpoint.number,
            docker_health,
        })
    }
}

/// Names an address as Consul does.
fn by_family(tagged: Option<TaggedAddress>) -> BTreeMap<String, TaggedAddress> {
    let name = |tagged: &TaggedAddress| {
        if tagged.address.contains(':') { "lan_ipv6" } else { "lan_ipv4" }
    };
    tagged.into_iter().map(|tagged| (name(&tagged).to_owned(), tagged)).collect()
}

fn weights(settings: &Settings<'_>, warnings: &mut Warnings) -> Weights {
    let Some(text) = settings.get("WEIGHT") else { return Weights::default() };
    let (passing, warning) = text.split_once(':').unwrap_or((text, "1"));
    match (passing.trim().parse(), warning.trim().parse()) {
        (Ok(passing), Ok(warning)) if passing > 0 => Weights { passing, warning },
        _ => {
            let problem = format!("{:?} is no weight such as 10 or 10:1; uses 1", short(text));
            warnings.add("SERVICE_WEIGHT", problem);
            Weights::default()
        }
    }
}
