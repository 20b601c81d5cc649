//! The parts of one service in a Compose file that the conversion reads and changes. Pure: no
//! I/O, no clock, no async.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use saphyr::{Mapping, Yaml};

use super::build::{Dockerfile, build};
use super::ports::{of_container, split, without_host};
use super::yaml::{get, text, words};
use crate::upstreams::LABEL;

/// A link: a service, and the name that the linking service knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) service: String,
    pub(crate) name: String,
}

/// Returns a service's links, in order.
pub(crate) fn links(service: &Yaml) -> Vec<Link> {
    let link = |word: &str| {
        let (service, name) = word.split_once(':').unwrap_or((word, word));
        Link { service: service.to_owned(), name: name.to_owned() }
    };
    items(service, "links").filter_map(words).map(link).collect()
}

/// Returns the label that asks for upstreams, if there is one.
pub(crate) fn asked(service: &Yaml) -> Option<String> {
    let prefix = format!("{LABEL}=");
    match get(service, "labels")? {
        Yaml::Sequence(lines) => {
            let line = lines.iter().filter_map(words).find_map(|line| line.strip_prefix(&prefix));
            line.map(str::to_owned)
        }
        labels => get(labels, LABEL).and_then(words).map(str::to_owned),
    }
}

/// Returns whose network a service uses, if it has none of its own.
pub(crate) fn others_network<'a>(service: &'a Mapping) -> Option<&'a str> {
    let network = ["network_mode", "net"].iter().find_map(|key| service.get(&text(*key)));
    let shared = |mode: &&str| {
        *mode == "host" || mode.starts_with("service:") || mode.starts_with("container:")
    };
    network.and_then(words).filter(shared)
}

/// Returns the TCP ports that a service says it has.
pub(crate) fn ports(service: &Yaml) -> Vec<u16> {
    let said: BTreeSet<_> =
        items(service, "ports").chain(items(service, "expose")).flat_map(of_container).collect();
    if said.is_empty()
        && let Some(build) = build(service)
        && let Dockerfile::Inline(text) = &build.dockerfile
    {
        return build.image(text).ports.into_iter().collect();
    }
    said.into_iter().collect()
}

/// Drops what ties a service to one host: fixed ports, and paths of the host's file system.
pub(crate) fn untie(service: &mut Mapping) {
    if let Some(Yaml::Sequence(ports)) = service.get_mut(&text("ports")) {
        let mut seen = Vec::new();
        for entry in std::mem::take(ports) {
            let entry = without_host(entry);
            if !seen.contains(&entry) {
                seen.push(entry);
            }
        }
        *ports = seen;
    }
    let empty = match service.get_mut(&text("volumes")) {
        Some(Yaml::Sequence(volumes)) => {
            volumes.retain(|volume| !of_host(volume));
            volumes.is_empty()
        }
        _ => false,
    };
    if empty {
        service.remove(&text("volumes"));
    }
}

/// Publishes ports of the container on random ports of the host, unless they are.
pub(crate) fn publish(service: &mut Mapping, ports: &[u16]) {
    let list = entry(service, "ports", Yaml::Sequence(Vec::new()));
    let Yaml::Sequence(list) = list else { return };
    for port in ports {
        if !list.iter().any(|entry| of_container(entry).contains(port)) {
            list.push(text(port.to_string()));
        }
    }
}

/// Writes the label that asks for upstreams, in the style of the other labels.
pub(crate) fn ask(service: &mut Mapping, upstreams: &str) {
    let labels = entry(service, "labels", Yaml::Mapping(Mapping::new()));
    if let Yaml::Sequence(lines) = labels {
        let prefix = format!("{LABEL}=");
        put(lines, text(format!("{prefix}{upstreams}")), |line| line.starts_with(&prefix));
        return;
    }
    if !matches!(labels, Yaml::Mapping(_)) {
        *labels = Yaml::Mapping(Mapping::new());
    }
    if let Yaml::Mapping(labels) = labels {
        replace(labels, LABEL, upstreams);
    }
}

/// Makes a name mean an address, in the style of the other names.
pub(crate) fn name(service: &mut Mapping, name: &str, address: Ipv4Addr) {
    let hosts = entry(service, "extra_hosts", Yaml::Sequence(Vec::new()));
    if let Yaml::Mapping(hosts) = hosts {
        replace(hosts, name, &address.to_string());
        return;
    }
    if !matches!(hosts, Yaml::Sequence(_)) {
        *hosts = Yaml::Sequence(Vec::new());
    }
    if let Yaml::Sequence(lines) = hosts {
        put(lines, text(format!("{name}:{address}")), |line| {
            line.split([':', '=']).next() == Some(name)
        });
    }
}

/// Puts a line in the place of the first that it replaces, or at the end.
fn put<'i>(lines: &mut Vec<Yaml<'i>>, line: Yaml<'i>, replaces: impl Fn(&str) -> bool) {
    let found = lines.iter().position(|line| words(line).is_some_and(&replaces));
    match found {
        Some(at) => lines[at] = line,
        None => lines.push(line),
    }
}

/// Sets an entry, in its old place if it has one.
fn replace(entries: &mut Mapping, key: &str, value: &str) {
    *entry(entries, key, text("")) = text(value);
}

/// Returns an entry, which keeps its place; the map's own `entry` moves it to the end.
fn entry<'a, 'i>(entries: &'a mut Mapping<'i>, key: &str, new: Yaml<'i>) -> &'a mut Yaml<'i> {
    if !entries.contains_key(&text(key)) {
        entries.insert(text(key), new);
    }
    entries.get_mut(&text(key)).expect("it was there or was inserted above")
}

fn items<'a, 'i>(service: &'a Yaml<'i>, key: &str) -> impl Iterator<Item = &'a Yaml<'i>> {
    get(service, key).and_then(Yaml::as_sequence).into_iter().flatten()
}

/// Whether a volume is a path of the host's file system, and neither named nor anonymous.
fn of_host(volume: &Yaml) -> bool {
    if let Yaml::Mapping(_) = volume {
        return get(volume, "type").and_then(words) == Some("bind");
    }
    let Some(volume) = words(volume) else { return false };
    // A variable may hold anything; what follows it tells, and so does its usual name.
    let variable = volume.starts_with('$') && (volume.contains("}/") || volume.contains("PWD"));
    (is_path(volume) || variable) && !split(volume).0.is_empty()
}

/// Whether what a volume begins with is a path, also where it is the default of a variable.
fn is_path(text: &str) -> bool {
    let mut characters = text.chars();
    let drive = characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && characters.next() == Some(':')
        && matches!(characters.next(), Some('\\' | '/'));
    let default = || {
        let variable = text.strip_prefix("${")?;
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let rest = variable.trim_start_matches(name);
        rest.strip_prefix(":-").or_else(|| rest.strip_prefix('-'))
    };
    drive || text.starts_with(['/', '.', '~', '\\']) || default().is_some_and(is_path)
}

#[cfg(test)]
mod tests {
    use super::super::yaml::{dump, load};
    use super::*;

    #[test]
    fn paths_of_the_host_are_told_from_other_volumes() {
        for (volume, host) in [
            ("./rng:/src", true),
            ("/data:/data:ro", true),
            ("~/x:/y", true),
            ("C:\\x:/y", true),
            ("$PWD/x:/y", true),
            ("${HERE}/x:/y", true),
            ("\"${DATA_DIR:-./data}:/data\"", true),
            ("\"${DATA_DIR-/data}:/data:ro\"", true),
            ("\"${A:-${B:-~/data}}:/data\"", true),
            ("\"${NAME:-data}:/data\"", false),
            ("\"${PLACE:-/data}\"", false),
            ("\"${PLACE:?./say}:/data\"", false),
            ("{type: bind, source: ., target: /src}", true),
            ("data:/data", false),
            ("/data", false),
            ("${NAME}:/data", false),
            ("{type: volume, source: data, target: /data}", false),
            ("{type: tmpfs, target: /tmp}", false),
        ] {
            assert_eq!(of_host(&load(volume).unwrap()), host, "{volume}");
        }
    }

    #[test]
    fn a_dockerfile_in_the_file_tells_the_ports_that_nothing_else_tells() {
        let build = "build:\n  dockerfile_inline: |\n    FROM a\n    EXPOSE 80 443\n";
        assert_eq!(ports(&load(build).unwrap()), [80, 443]);
        assert_eq!(ports(&load(&format!("{build}expose: [8080]\n")).unwrap()), [8080]);
        let stages = "build:\n  target: b\n  dockerfile_inline: |\n    FROM a AS b\n    EXPOSE 80\n    FROM a\n    EXPOSE 81\n";
        assert_eq!(ports(&load(stages).unwrap()), [80]);
    }

    #[test]
    fn labels_and_names_keep_their_style_and_place() {
        for (before, after) in [
            (
                "labels: [a=1, ambassador.upstreams=x:1, b=2]\nextra_hosts: [rng:1.2.3.4, b:1.1.1.1]",
                "labels:\n  - a=1\n  - \"ambassador.upstreams=rng:80\"\n  - b=2\n\
                 extra_hosts:\n  - \"rng:127.127.0.2\"\n  - b:1.1.1.1\n",
            ),
            (
                "labels: {ambassador.upstreams: 'x:1', b: 2}\nextra_hosts: {b: 1.1.1.1}",
                "labels:\n  ambassador.upstreams: \"rng:80\"\n  b: 2\n\
                 extra_hosts:\n  b: 1.1.1.1\n  rng: \"127.127.0.2\"\n",
            ),
            (
                "labels:\nextra_hosts: []",
                "labels:\n  ambassador.upstreams: \"rng:80\"\nextra_hosts:\n  - \"rng:127.127.0.2\"\n",
            ),
        ] {
            let mut service = load(before).unwrap().into_mapping().unwrap();
            ask(&mut service, "rng:80");
            name(&mut service, "rng", Ipv4Addr::new(127, 127, 0, 2));
            let service = Yaml::Mapping(service);
            assert_eq!(dump(&service), after);
            assert_eq!(asked(&service).as_deref(), Some("rng:80"));
        }
    }
}
