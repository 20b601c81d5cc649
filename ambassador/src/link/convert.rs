//! Links → ambassadors, in a Compose file. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use saphyr::{Mapping, Yaml};

use super::build::{Build, build};
use super::error::{Error, Ports};
use super::service::{self, ask, asked, links, name, others_network, ports, publish, untie};
use super::yaml::{dump, get, load, text, words};
use crate::upstreams::Upstreams;

/// A service whose ports the Compose file does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) service: String,
    pub(crate) image: Option<String>,
    /// How that is built.
    pub(crate) build: Option<Build>,
}

/// Returns the linked services whose ports are neither known nor told by the file.
pub(crate) fn unknown(file: &str, known: &Ports) -> Result<Vec<Unknown>, Error> {
    let file = load(file)?;
    let services = services(&file)?;
    let wanted: BTreeSet<_> =
        services.values().flat_map(|service| links(service)).map(|link| link.service).collect();
    let silent = wanted.into_iter().filter_map(|name| {
        let service = *services.get(name.as_str())?;
        (!known.contains_key(&name) && ports(service).is_empty()).then(|| Unknown {
            image: get(service, "image").and_then(words).map(str::to_owned),
            build: build(service),
            service: name,
        })
    });
    Ok(silent.collect())
}

/// Says which services of a converted file listen on a port that they also ask for: in one network namespace, who listens
/// on all addresses and who listens on one of them keep each other out.
pub(crate) fn collisions(file: &str, known: &Ports) -> Result<Vec<String>, Error> {
    let file = load(file)?;
    let mut found = Vec::new();
    for (name, service) in services(&file)? {
        let wrong = |source| Error::Upstreams { service: name.to_owned(), source };
        let upstreams: Upstreams = asked(service).unwrap_or_default().parse().map_err(wrong)?;
        let mut own = ports(service);
        own.extend(known.get(name).into_iter().flatten());
        let met = upstreams.iter().filter(|(_, port)| own.contains(port));
        found.extend(met.map(|(upstream, port)| {
            format!(
                "{name} asks for {upstream}:{port} and listens on port {port} itself: its ambassador cannot have that port \
                 unless {name} listens on one address only, which is not 0.0.0.0"
            )
        }));
    }
    Ok(found)
}

/// Converts a Compose file; `known` counts more than what the file says of ports.
///
/// Converting what was converted changes nothing.
pub(crate) fn convert(file: &str, known: &Ports) -> Result<String, Error> {
    let mut file = load(file)?;
    let mut clients = BTreeMap::new();
    let mut backends = Ports::new();
    {
        let services = services(&file)?;
        for (name, service) in &services {
            let (upstreams, names) = client(name, service, &services, known)?;
            for (backend, port) in upstreams.iter() {
                let ports = backends.entry(backend.to_owned()).or_default();
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
            clients.insert((*name).to_owned(), (upstreams, names));
        }
    }
    for (key, service) in services_mut(&mut file) {
        let (Some(key), Yaml::Mapping(service)) = (words(key), service) else { continue };
        untie(service);
        // Who shares another's network publishes nothing, and Compose would refuse it.
        let own = others_network(service).is_none();
        if let Some(ports) = backends.get(key).filter(|_| own) {
            publish(service, ports);
        }
        if let Some((upstreams, names)) = clients.get(key) {
            rewrite(service, upstreams, names);
        }
    }
    Ok(dump(&file))
}

/// Returns what a service asks for, by label or by link, and the links' names for it.
fn client(
    client: &str,
    service: &Yaml,
    services: &BTreeMap<&str, &Yaml>,
    known: &Ports,
) -> Result<(Upstreams, Vec<service::Link>), Error> {
    let wrong = |source| Error::Upstreams { service: client.to_owned(), source };
    let mut upstreams: Upstreams = asked(service).unwrap_or_default().parse().map_err(wrong)?;
    if get(service, "links").is_some_and(|links| !links.is_null() && links.as_sequence().is_none())
    {
        return Err(Error::Links(client.to_owned()));
    }
    let links = links(service);
    let network = service.as_mapping().and_then(others_network).filter(|_| !links.is_empty());
    if let Some(network) = network {
        return Err(Error::Network { service: client.to_owned(), network: network.to_owned() });
    }
    for link in &links {
        let backend = services.get(link.service.as_str()).ok_or_else(|| Error::Link {
            service: client.to_owned(),
            link: link.service.clone(),
        })?;
        let said = ports(backend);
        let ports = known.get(&link.service).unwrap_or(&said);
        if ports.is_empty() {
            return Err(Error::Ports(link.service.clone()));
        }
        for port in ports {
            upstreams.add(&link.service, *port).map_err(wrong)?;
        }
    }
    Ok((upstreams, links))
}

/// Puts names and a label in the place of links.
fn rewrite(service: &mut Mapping, upstreams: &Upstreams, links: &[service::Link]) {
    if links.is_empty() {
        return;
    }
    service.remove(&text("links"));
    let addresses = upstreams.addresses();
    for link in links {
        name(service, &link.name, addresses[link.service.as_str()]);
    }
    ask(service, &upstreams.to_string());
}

/// Returns the services by name: under `services` in today's format, at the top in that of 2015.
pub(crate) fn services<'a, 'i>(
    file: &'a Yaml<'i>,
) -> Result<BTreeMap<&'a str, &'a Yaml<'i>>, Error> {
    let entries = match get(file, "services") {
        Some(services) => services.as_mapping(),
        // A version is told by today's format, or one that is not much older.
        None if get(file, "version").is_some_and(|version| !version.is_mapping()) => None,
        None if get(file, "include").is_some_and(|files| !files.is_mapping()) => {
            return Err(Error::AllIncluded);
        }
        None => file.as_mapping(),
    };
    let mut services = BTreeMap::new();
    for (key, service) in entries.ok_or(Error::NoServices)? {
        let name = words(key).unwrap_or_default();
        if name.starts_with("x-") {
            continue;
        }
        if service.as_mapping().is_none() {
            return Err(Error::Service(name.to_owned()));
        }
        services.insert(name, service);
    }
    if services.is_empty() { Err(Error::NoServices) } else { Ok(services) }
}

/// Returns the services to be changed.
pub(crate) fn services_mut<'a, 'i>(
    file: &'a mut Yaml<'i>,
) -> impl Iterator<Item = (&'a Yaml<'i>, &'a mut Yaml<'i>)> {
    let today = get(file, "services").is_some();
    let entries = if today {
        file.as_mapping_mut().and_then(|file| file.get_mut(&text("services")))
    } else {
        Some(file)
    };
    entries.and_then(Yaml::as_mapping_mut).into_iter().flat_map(Mapping::iter_mut)
}
