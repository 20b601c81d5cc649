//! Where a container can be reached: its ports, and the address and number to register for each. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::address;
use crate::container::NetworkMode;
use crate::labels::{Settings, short};
use crate::model::{Node, TaggedAddress};
use crate::ports::{self, Port, Published};
use crate::subject::Subject;
use crate::warnings::Warnings;

/// One endpoint of one port, before it has a name and an id.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// The container's port; `None` for a container that is registered without ports.
    pub(crate) port: Option<Port>,
    /// The address to register.
    pub(crate) address: String,
    /// The port to register.
    pub(crate) number: u16,
    /// The same endpoint in the other address family.
    pub(crate) tagged: Option<TaggedAddress>,
}

/// Returns every endpoint that shall be registered, by port and binding.
pub(crate) fn endpoints(subject: &Subject<'_>, warnings: &mut Warnings) -> Vec<Endpoint> {
    let ports = Ports::of(subject);
    let mut endpoints = Vec::new();
    for port in ports.all {
        let settings = subject.labels.at(Some(port));
        if is_wanted(subject, &settings, warnings) {
            let ways = ports.published.get(&port).map_or(&[][..], Vec::as_slice);
            endpoints.extend(reached(subject, port, ways, &settings, warnings));
        }
    }
    if endpoints.is_empty() {
        endpoints.extend(portless(subject, ports.none, warnings));
    }
    endpoints
}

/// The ports of a container in its own or another's network.
struct Ports {
    all: BTreeSet<Port>,
    published: BTreeMap<Port, Vec<Published>>,
    /// Whether there is none.
    none: bool,
}

impl Ports {
    /// In another's network, the ports that a container declares are its own. Without any all of the
    /// other's are, if it says what service it is: a capture or a shell in a service's network is none.
    fn of(subject: &Subject<'_>) -> Self {
        let (container, network) = (subject.container, subject.network);
        let mut published = ports::published(&network.published);
        let guest = matches!(container.network_mode, NetworkMode::Container(_));
        let all: BTreeSet<Port> =
            if guest && (!container.exposed.is_empty() || !subject.labels.names_anything()) {
                container.exposed.clone()
            } else {
                network.exposed.iter().chain(published.keys()).copied().collect()
            };
        published.retain(|port, _| all.contains(port));
        Self { none: all.is_empty(), all, published }
    }
}

fn is_wanted(subject: &Subject<'_>, settings: &Settings<'_>, warnings: &mut Warnings) -> bool {
    let named = settings.get("NAME").is_some() || !subject.options.explicit;
    named && settings.flag("IGNORE", warnings) != Some(true)
}

/// Returns the endpoints of one port.
fn reached(
    subject: &Subject<'_>,
    port: Port,
    ways: &[Published],
    settings: &Settings<'_>,
    warnings: &mut Warnings,
) -> Vec<Endpoint> {
    let given = number(settings, warnings);
    let own = given.unwrap_or(port.number);
    let endpoint = |(address, number, tagged)| Endpoint {
        port: Some(port),
        address,
        number: given.unwrap_or(number),
        tagged,
    };
    let refused = |problem: String, warnings: &mut Warnings| {
        warnings.add("port", format!("{port} {problem}"));
    };
    if subject.network.network_mode == NetworkMode::Host {
        return match on_host(subject, settings, warnings) {
            Ok(address) => vec![endpoint((address, own, None))],
            Err(problem) => {
                refused(problem, warnings);
                Vec::new()
            }
        };
    }
    if settings.flag("INTERNAL", warnings).unwrap_or(subject.options.internal) {
        let Some((address, tagged)) = internal(subject, settings, own, warnings) else {
            warnings.add("network", format!("no address for port {port}; not registered"));
            return Vec::new();
        };
        return vec![endpoint((address, own, tagged))];
    }
    let chosen = address::chosen(subject.container, settings, subject.options, warnings);
    let mut endpoints = Vec::new();
    for way in ways {
        match published(way, chosen, subject.node) {
            Ok(found) => endpoints.push(endpoint(found)),
            Err(problem) => refused(problem, warnings),
        }
    }
    endpoints
}

/// Returns the port that the settings want registered for this one, whatever Docker says.
fn number(settings: &Settings<'_>, warnings: &mut Warnings) -> Option<u16> {
    let text = settings.specific("PORT")?;
    let number = text.trim().parse().ok().filter(|number| *number != 0);
    if number.is_none() {
        warnings.add("SERVICE_PORT", format!("{:?} is no port; not used", short(text)));
    }
    number
}

fn on_host(
    subject: &Subject<'_>,
    settings: &Settings<'_>,
    warnings: &mut Warnings,
) -> Result<String, String> {
    let chosen = address::chosen(subject.container, settings, subject.options, warnings);
    address::on_host(chosen, subject.node)
}

/// Returns the container's own address, and the one in the other family.
fn internal(
    subject: &Subject<'_>,
    settings: &Settings<'_>,
    port: u16,
    warnings: &mut Warnings,
) -> Option<(String, Option<TaggedAddress>)> {
    let labelled = address::labelled(subject.container, settings, subject.options, warnings);
    if let Some(ip) = labelled {
        return Some((ip.to_string(), None));
    }
    let found = address::internal(subject.network, settings, subject.options, warnings)?;
    let is_usable = |text: &String| text.parse().is_ok_and(address::is_reachable);
    let usable = |text: &Option<String>| text.clone().filter(is_usable);
    let (four, six) = (usable(&found.network.ipv4), usable(&found.network.ipv6));
    let (first, second) = if found.ipv6 { (six, four) } else { (four, six) };
    match (first, second) {
        (Some(one), other) => Some((one, other.map(|address| TaggedAddress { address, port }))),
        (None, other) => other.map(|address| (address, None)),
    }
}

/// Returns the address and port of one binding, and those in the other family if the node has an
/// address there; the error says why nobody else reaches it.
fn published(
    way: &Published,
    chosen: Option<IpAddr>,
    node: &Node,
) -> Result<(String, u16, Option<TaggedAddress>), String> {
    let address = address::published(chosen, way, node)?;
    let number = |ip: IpAddr| match way.other_family {
        // A wildcard that has a partner is always the IPv4 one.
        Some(six) if ip.is_ipv6() => six,
        _ => way.host_port,
    };
    let Ok(ip) = address.parse::<IpAddr>() else { return Ok((address, way.host_port, None)) };
    let of_node = [node.address.parse().ok(), node.other_family];
    let other = of_node.into_iter().flatten().find(|node| node.is_ipv4() != ip.is_ipv4());
    let tagged = other
        .filter(|ip| address::is_reachable(*ip))
        .filter(|_| way.other_family.is_some())
        .map(|other| TaggedAddress { address: other.to_string(), port: number(other) });
    Ok((address, number(ip), tagged))
}

/// Returns the endpoint of a container that asks to be registered although it has no port for it;
/// `none` tells whether it has none at all, so that `SERVICE_PORT` can only mean its own.
fn portless(subject: &Subject<'_>, none: bool, warnings: &mut Warnings) -> Option<Endpoint> {
    let settings = subject.labels.at(None);
    let forced = settings.flag("FORCE_REGISTER", warnings) == Some(true);
    let number = match settings.get("PORT").map(|text| text.trim().parse::<u16>()) {
        Some(Ok(number)) if none || number == 0 => Some(number),
        Some(Err(_)) if none => {
            warnings.add("SERVICE_PORT", "is no port; not registered");
            None
        }
        _ => forced.then_some(0),
    }?;
    if !is_wanted(subject, &settings, warnings) {
        return None;
    }
    let is_internal = settings.flag("INTERNAL", warnings).unwrap_or(subject.options.internal);
    let own = (is_internal && subject.network.network_mode != NetworkMode::Host)
        .then(|| internal(subject, &settings, number, warnings))
        .flatten();
    let (address, tagged) = match own {
        Some(own) => own,
        None => match on_host(subject, &settings, warnings) {
            Ok(address) => (address, None),
            Err(problem) => {
                warnings.add("address", format!("the container {problem}"));
                return None;
            }
        },
    };
    Some(Endpoint { port: None, address, number, tagged })
}
