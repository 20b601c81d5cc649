//! From a container to the instances it offers. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::address;
use crate::check::{self, Target};
use crate::clean;
use crate::container::{Container, Health, NetworkMode};
use crate::labels::{Labels, Settings, short};
use crate::model::{
    Derived, DockerHealth, Instance, Node, Options, Status, TaggedAddress, Warning, Weights,
};
use crate::ports::{self, Port, Protocol};

/// Images that make up this system; their containers are registered only under a name of their own choice.
const SYSTEM_IMAGES: [&str; 4] = ["registrator", "confd", "consul", "ambassador"];
/// Labels that begin so mark this system's containers …
const SYSTEM_LABELS: &str = "ambassador.";
/// … but for this one, by which clients ask for an ambassador.
const UPSTREAMS: &str = "ambassador.upstreams";
/// Consul takes 64 Meta entries for a service; this many are left for labels beside our own.
const META_ENTRIES: usize = 48;
/// As many tags are taken from labels; a longer list is a mistake, or an attack.
const TAGS: usize = 128;
/// Consul cuts the output of a check at 4 KiB.
const NOTE: usize = 4096;

/// One endpoint of one port, before names and ids are given.
struct Endpoint {
    port: Option<Port>,
    address: String,
    number: u16,
    tagged: Option<TaggedAddress>,
}

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
    let mut derived = Derived::default();
    let labels = Labels::of(container, &options.label_prefix);
    if !container.running || (is_system(container) && !labels.names_anything()) {
        return derived;
    }
    let network = match &container.network_mode {
        NetworkMode::Container(id) => {
            let Some(owner) = owner(id) else {
                let problem = format!("uses the network of {}, which is not there", short(id));
                derived.warnings.push(Warning::new("network", problem));
                return derived;
            };
            owner
        }
        _ => container,
    };
    let endpoints = endpoints(container, network, &labels, options, node, &mut derived.warnings);
    let registered: BTreeSet<Option<Port>> =
        endpoints.iter().map(|endpoint| endpoint.port).collect();
    let mut used = BTreeSet::new();
    for endpoint in endpoints {
        let settings = labels.at(endpoint.port);
        let several = registered.len() > 1;
        let place = Place { container, options, node, several };
        if let Some(instance) =
            place.instance(endpoint, &settings, &mut used, &mut derived.warnings)
        {
            derived.instances.push(instance);
        }
    }
    derived.warnings.sort();
    derived.warnings.dedup();
    derived
}

/// Gives every instance of a node an id of its own, whatever `SERVICE_ID` says on different containers.
///
/// The first of `instances` keeps an id; a later one gets its container's short id behind it.
#[must_use]
pub fn unique(instances: Vec<Instance>) -> (Vec<Instance>, Vec<(String, Warning)>) {
    let mut used = BTreeSet::new();
    let mut warnings = Vec::new();
    let renamed = instances.into_iter().map(|mut instance| {
        if used.contains(&instance.id) {
            let short_id = instance.container.get(..12).unwrap_or(&instance.container).to_owned();
            let id = free(format!("{}:{short_id}", instance.id), &used);
            let problem = format!("{:?} is another container's; registered as {id:?}", instance.id);
            warnings.push((instance.container_name.clone(), Warning::new("SERVICE_ID", problem)));
            instance.id = id;
        }
        used.insert(instance.id.clone());
        instance
    });
    (renamed.collect(), warnings)
}

/// Returns `id`, with a number behind it if it is used.
fn free(id: String, used: &BTreeSet<String>) -> String {
    if !used.contains(&id) {
        return id;
    }
    // One more candidate than there are used ids: one of them is free.
    let mut candidates = (2..=used.len() + 2).map(|n| format!("{id}:{n}"));
    candidates.find(|id| !used.contains(id)).unwrap_or(id)
}

fn is_system(container: &Container) -> bool {
    let labelled =
        container.labels.keys().any(|key| key.starts_with(SYSTEM_LABELS) && key != UPSTREAMS);
    labelled || image_name(&container.image).is_some_and(|name| SYSTEM_IMAGES.contains(&name))
}

/// Returns the last element of an image's path without tag and digest; `None` for a bare image id.
fn image_name(image: &str) -> Option<&str> {
    let path = image.split('@').next()?;
    let last = path.rsplit('/').next()?;
    let name = last.split(':').next()?;
    let bare_id = last.starts_with("sha256:")
        || (image.len() >= 12 && image.chars().all(|c| c.is_ascii_hexdigit()));
    (!name.is_empty() && !bare_id).then_some(name)
}

/// Returns every endpoint that shall be registered, by port and binding.
fn endpoints(
    container: &Container,
    network: &Container,
    labels: &Labels<'_>,
    options: &Options,
    node: &Node,
    warnings: &mut Vec<Warning>,
) -> Vec<Endpoint> {
    let own_ports = matches!(container.network_mode, NetworkMode::Container(_))
        && !container.exposed.is_empty();
    let declared = if own_ports { &container.exposed } else { &network.exposed };
    let published = ports::published(&network.published);
    let all: BTreeSet<Port> = declared
        .iter()
        .copied()
        .chain(
            published.keys().copied().filter(|port| !own_ports || container.exposed.contains(port)),
        )
        .collect();
    let mut endpoints = Vec::new();
    for port in &all {
        let settings = labels.at(Some(*port));
        if settings.flag("IGNORE", warnings) == Some(true)
            || (options.explicit && settings.get("NAME").is_none())
        {
            continue;
        }
        let internal = settings.flag("INTERNAL", warnings).unwrap_or(options.internal);
        let number = registered_number(&settings, *port, warnings);
        let host = network.network_mode == NetworkMode::Host;
        let place = |address: String, number: u16, tagged: Option<TaggedAddress>| Endpoint {
            port: Some(*port),
            address,
            number,
            tagged,
        };
        if host {
            let chosen = address::chosen(container, &settings, options, warnings);
            let address = chosen.map_or_else(|| node.address.clone(), |ip| ip.to_string());
            endpoints.push(place(address, number, None));
        } else if internal {
            let Some((address, tagged)) =
                internal_address(network, &settings, options, number, warnings)
            else {
                warnings.push(Warning::new(
                    "network",
                    format!("no address for port {port}; not registered"),
                ));
                continue;
            };
            endpoints.push(place(address, number, tagged));
        } else {
            let chosen = address::chosen(container, &settings, options, warnings);
            for way in published.get(port).into_iter().flatten() {
                let Some(address) = address::published(chosen, way.host_ip, &node.address) else {
                    let problem = format!(
                        "{port} is bound to {}, where nobody else reaches it; not registered",
                        way.host_ip
                    );
                    warnings.push(Warning::new("port", problem));
                    continue;
                };
                let is_v4 = address.parse().is_ok_and(|ip: IpAddr| ip.is_ipv4());
                let six = node.address.parse().ok().filter(IpAddr::is_ipv6).filter(|_| is_v4);
                let tagged = way
                    .other_family
                    .zip(six)
                    .map(|(port, ip)| TaggedAddress { address: ip.to_string(), port });
                endpoints.push(place(address, way.host_port, tagged));
            }
        }
    }
    if endpoints.is_empty() && all.is_empty() {
        endpoints.extend(portless(container, network, labels, options, node, warnings));
    }
    endpoints
}

/// Returns the port to register for a port of the container: `SERVICE_<port>_PORT` may name another.
fn registered_number(settings: &Settings<'_>, port: Port, warnings: &mut Vec<Warning>) -> u16 {
    let Some(text) = settings.get("PORT").filter(|_| settings.is_specific("PORT")) else {
        return port.number;
    };
    text.trim().parse().ok().filter(|number| *number != 0).unwrap_or_else(|| {
        let problem = format!("{:?} is no port; uses {}", short(text), port.number);
        warnings.push(Warning::new("SERVICE_PORT", problem));
        port.number
    })
}

fn internal_address(
    network: &Container,
    settings: &Settings<'_>,
    options: &Options,
    port: u16,
    warnings: &mut Vec<Warning>,
) -> Option<(String, Option<TaggedAddress>)> {
    let found = address::internal(network, settings, options, warnings)?;
    let usable = |text: &Option<String>| text.clone().filter(|text| text.parse::<IpAddr>().is_ok());
    match (usable(&found.ipv4), usable(&found.ipv6)) {
        (Some(four), six) => Some((four, six.map(|address| TaggedAddress { address, port }))),
        (None, six) => six.map(|address| (address, None)),
    }
}

/// Returns the endpoint of a container without ports that asks to be registered all the same.
fn portless(
    container: &Container,
    network: &Container,
    labels: &Labels<'_>,
    options: &Options,
    node: &Node,
    warnings: &mut Vec<Warning>,
) -> Option<Endpoint> {
    let settings = labels.at(None);
    let forced = settings.flag("FORCE_REGISTER", warnings) == Some(true);
    let number = match settings.get("PORT").map(|text| text.trim().parse::<u16>()) {
        Some(Ok(number)) => Some(number),
        Some(Err(_)) => {
            warnings.push(Warning::new("SERVICE_PORT", "is no port; not registered"));
            None
        }
        None => forced.then_some(0),
    }?;
    let hidden = options.explicit && settings.get("NAME").is_none();
    if hidden || settings.flag("IGNORE", warnings) == Some(true) {
        return None;
    }
    let internal = settings.flag("INTERNAL", warnings).unwrap_or(options.internal);
    let own = (internal && network.network_mode != NetworkMode::Host)
        .then(|| internal_address(network, &settings, options, number, warnings))
        .flatten();
    let (address, tagged) = own.unwrap_or_else(|| {
        let chosen = address::chosen(container, &settings, options, warnings);
        (chosen.map_or_else(|| node.address.clone(), |ip| ip.to_string()), None)
    });
    Some(Endpoint { port: None, address, number, tagged: tagged.filter(|_| number != 0) })
}

/// Where an instance is put together.
struct Place<'a> {
    container: &'a Container,
    options: &'a Options,
    node: &'a Node,
    /// Whether the container has more than one registered port.
    several: bool,
}

impl Place<'_> {
    fn instance(
        &self,
        endpoint: Endpoint,
        settings: &Settings<'_>,
        used: &mut BTreeSet<String>,
        warnings: &mut Vec<Warning>,
    ) -> Option<Instance> {
        let docker_health = self.docker_health(settings, warnings)?;
        let service = self.name(endpoint.port, settings, warnings)?;
        let id = self.id(&endpoint, settings, used, warnings);
        used.insert(id.clone());
        let target = Target { address: &endpoint.address, port: endpoint.number };
        Some(Instance {
            checks: check::checks(settings, &target, warnings),
            tags: self.tags(endpoint.port, settings, warnings),
            meta: self.meta(endpoint.port, settings, warnings),
            weights: weights(settings, warnings),
            tagged_addresses: endpoint
                .tagged
                .map(|tagged| ("lan_ipv6".to_owned(), tagged))
                .into_iter()
                .collect(),
            enable_tag_override: settings.flag("ENABLE_TAG_OVERRIDE", warnings).unwrap_or(false),
            container: self.container.id.clone(),
            container_name: self.container.name.clone(),
            id,
            service,
            address: endpoint.address,
            port: endpoint.number,
            docker_health,
        })
    }

    /// Returns what Docker says of the container's health; the outer `None` where the container
    /// shall not be registered because of it.
    #[allow(
        clippy::option_option,
        reason = "not registered, and registered without Docker's health, differ"
    )]
    fn docker_health(
        &self,
        settings: &Settings<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Option<Option<DockerHealth>> {
        let mode = settings.get("HEALTH").map(|text| text.trim().to_ascii_lowercase());
        if let Some(other) = mode.as_deref().filter(|mode| !matches!(*mode, "ignore" | "gate")) {
            let problem = format!("{:?} is neither ignore nor gate; not used", short(other));
            warnings.push(Warning::new("SERVICE_HEALTH", problem));
        }
        if self.container.paused {
            return Some(Some(DockerHealth {
                status: Status::Critical,
                note: "paused".to_owned(),
            }));
        }
        let Some(probe) = &self.container.health else { return Some(None) };
        let (status, word) = match probe.status {
            Health::Healthy => (Status::Passing, "healthy"),
            Health::Starting => (Status::Critical, "starting"),
            Health::Unhealthy => (Status::Critical, "unhealthy"),
        };
        match mode.as_deref() {
            Some("ignore") => Some(None),
            Some("gate") if status != Status::Passing => None,
            _ => {
                let output = clean::limited(probe.output.trim(), NOTE - 16);
                let note =
                    if output.is_empty() { word.to_owned() } else { format!("{word}: {output}") };
                Some(Some(DockerHealth { status, note }))
            }
        }
    }

    fn name(
        &self,
        port: Option<Port>,
        settings: &Settings<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Option<String> {
        let suffix = match port {
            Some(port) if self.several && !settings.is_specific("NAME") => {
                format!("-{}", port.number)
            }
            _ => String::new(),
        };
        let given = settings.get("NAME");
        let raw = given.map_or_else(|| self.default_name(), ToOwned::to_owned);
        // The suffix tells services apart, so a long name gives way to it.
        let room = 63 - suffix.len();
        let name = clean::dns_label(&raw).map(|name| {
            let cut: String = name.chars().take(room).collect();
            format!("{}{suffix}", cut.trim_end_matches('-'))
        });
        match &name {
            None => {
                let problem = format!(
                    "{:?} holds no letter or digit for a name; not registered",
                    short(&raw)
                );
                warnings.push(Warning::new("SERVICE_NAME", problem));
            }
            Some(name) if given.is_some() && *name != format!("{raw}{suffix}") => {
                let problem = format!("{:?} is no DNS label; registered as {name:?}", short(&raw));
                warnings.push(Warning::new("SERVICE_NAME", problem));
            }
            Some(_) => {}
        }
        name
    }

    fn default_name(&self) -> String {
        let labels = &self.container.labels;
        let orchestrated = ["com.docker.compose.service", "com.docker.swarm.service.name"];
        let by_label =
            orchestrated.iter().find_map(|key| labels.get(*key)).filter(|name| !name.is_empty());
        match by_label.filter(|_| self.options.compose_names) {
            Some(name) => name.clone(),
            None => image_name(&self.container.image).unwrap_or(&self.container.name).to_owned(),
        }
    }

    fn id(
        &self,
        endpoint: &Endpoint,
        settings: &Settings<'_>,
        used: &BTreeSet<String>,
        warnings: &mut Vec<Warning>,
    ) -> String {
        let number = endpoint.port.map_or(endpoint.number, |port| port.number);
        let protocol = match endpoint.port.map(|port| port.protocol) {
            None | Some(Protocol::Tcp) => String::new(),
            Some(other) => format!(":{}", other.as_str()),
        };
        let own = settings.get("ID").and_then(|text| {
            let id = clean::id(text);
            if id.as_deref() != Some(text) {
                warnings.push(Warning::new("SERVICE_ID", format!("{:?} was cleaned", short(text))));
            }
            id
        });
        let given = own.is_some();
        let id = own.unwrap_or_else(|| {
            format!("{}:{}:{number}{protocol}", self.node.name, self.container.name)
        });
        if !used.contains(&id) {
            return id;
        }
        let port = if given { format!(":{number}{protocol}") } else { String::new() };
        let id = format!("{id}{port}");
        if given && !used.contains(&id) {
            return id;
        }
        free(format!("{id}:{}:{}", endpoint.address, endpoint.number), used)
    }

    fn tags(
        &self,
        port: Option<Port>,
        settings: &Settings<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Vec<String> {
        let own = split_tags(settings.get("TAGS").unwrap_or_default());
        let udp = port.filter(|port| port.protocol == Protocol::Udp).map(|_| "udp".to_owned());
        let mut tags: Vec<String> = Vec::new();
        for tag in own.into_iter().chain(self.options.tags.iter().cloned()).chain(udp) {
            let clean = clean::value(tag.trim());
            if clean != tag.trim() {
                warnings.push(Warning::new(
                    "SERVICE_TAGS",
                    format!("the tag {:?} was cleaned", short(&tag)),
                ));
            }
            if clean.is_empty() || tags.contains(&clean) {
                continue;
            }
            if tags.len() == TAGS {
                warnings.push(Warning::new(
                    "SERVICE_TAGS",
                    format!("more than {TAGS} tags; the rest is left out"),
                ));
                break;
            }
            tags.push(clean);
        }
        tags
    }

    fn meta(
        &self,
        port: Option<Port>,
        settings: &Settings<'_>,
        warnings: &mut Vec<Warning>,
    ) -> BTreeMap<String, String> {
        let labels = &self.container.labels;
        let mut meta: BTreeMap<String, String> = [
            ("managed-by", Some("registrator".to_owned())),
            ("registrator-host", Some(self.node.name.clone())),
            ("container", Some(self.container.short_id().to_owned())),
            ("image", Some(self.container.image.clone())),
            ("compose-project", labels.get("com.docker.compose.project").cloned()),
            ("compose-service", labels.get("com.docker.compose.service").cloned()),
            ("container-port", port.map(|port| port.number.to_string())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), clean::value(&value?))))
        .collect();
        let mut entries = 0;
        for (name, value) in settings.meta() {
            let setting = format!("SERVICE_{}", short(&name.to_uppercase()));
            let Some(key) = clean::meta_key(&name) else {
                warnings
                    .push(Warning::new(setting, "holds no letter or digit for a key; left out"));
                continue;
            };
            if key != name {
                warnings.push(Warning::new(&setting, format!("registered as {key:?}")));
            }
            if meta.contains_key(&key) {
                warnings.push(Warning::new(setting, format!("{key:?} is already there; left out")));
                continue;
            }
            if entries == META_ENTRIES {
                warnings.push(Warning::new(
                    "SERVICE_*",
                    format!("more than {META_ENTRIES} of them; the rest is left out"),
                ));
                break;
            }
            let clean = clean::value(value);
            if clean != value {
                let problem = format!("cut or cleaned to {} bytes of {}", clean.len(), value.len());
                warnings.push(Warning::new(setting, problem));
            }
            entries += 1;
            meta.insert(key, clean);
        }
        meta
    }
}

/// Splits tags at commas; `\,` is a comma within one.
fn split_tags(text: &str) -> Vec<String> {
    let mut tags = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let tag = tags.last_mut().expect("begins with one");
        match (c, characters.peek()) {
            ('\\', Some(',')) => tag.extend(characters.next()),
            (',', _) => tags.push(String::new()),
            _ => tag.push(c),
        }
    }
    tags
}

fn weights(settings: &Settings<'_>, warnings: &mut Vec<Warning>) -> Weights {
    let Some(text) = settings.get("WEIGHT") else { return Weights::default() };
    let (passing, warning) = text.split_once(':').unwrap_or((text, "1"));
    match (passing.trim().parse(), warning.trim().parse()) {
        (Ok(passing), Ok(warning)) if passing > 0 => Weights { passing, warning },
        _ => {
            let problem = format!("{:?} is no weight such as 10 or 10:1; uses 1", short(text));
            warnings.push(Warning::new("SERVICE_WEIGHT", problem));
            Weights::default()
        }
    }
}
