//! The ports in a Compose file's short and long forms. Pure: no I/O, no clock, no async.

use saphyr::Yaml;

use super::error::{Error, Ports};
use super::yaml::{get, load, text, words};

use crate::exposed::{range, tcp};

/// Returns an entry of `ports` without the host's part, so that the host's port is a random one.
pub(crate) fn without_host(entry: Yaml<'_>) -> Yaml<'_> {
    match entry {
        Yaml::Mapping(mut entries) => {
            for key in ["published", "host_ip"] {
                entries.remove(&text(key));
            }
            Yaml::Mapping(entries)
        }
        entry => match words(&entry).map(split) {
            Some((host, container)) if !host.is_empty() => text(container),
            _ => entry,
        },
    }
}

/// Returns the TCP ports of the container in an entry of `ports` or `expose`, or in a line of
/// EXPOSE.
pub(crate) fn of_container(entry: &Yaml) -> Vec<u16> {
    if let Yaml::Mapping(_) = entry {
        let tcp = get(entry, "protocol").and_then(words).is_none_or(|protocol| protocol == "tcp");
        let target = get(entry, "target").and_then(words).unwrap_or_default();
        return if tcp { range(target) } else { Vec::new() };
    }
    words(entry).map(|entry| tcp(split(entry).1)).unwrap_or_default()
}

/// Reads `ports.yml`: a port, or a list of ports, by service.
pub(crate) fn named(file: &str) -> Result<Ports, Error> {
    let file = load(file)?;
    let mut ports = Ports::new();
    for (key, value) in file.as_mapping().ok_or(Error::NoServices)? {
        let service = words(key).unwrap_or_default().to_owned();
        let all: Vec<_> = match value {
            Yaml::Sequence(all) => all.iter().flat_map(of_container).collect(),
            one => of_container(one),
        };
        if all.is_empty() {
            return Err(Error::Ports(service));
        }
        ports.insert(service, all);
    }
    Ok(ports)
}

/// Splits `[[IP:]HOST:]CONTAINER` before the container's part. The colons of variables with a
/// default, `${PORT:-80}`, do not count.
pub(super) fn split(entry: &str) -> (&str, &str) {
    let mut depth = 0_usize;
    let mut colon = None;
    for (at, character) in entry.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => colon = Some(at),
            _ => {}
        }
    }
    colon.map_or(("", entry), |colon| (&entry[..colon], &entry[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::super::yaml::{dump, load};
    use super::*;

    #[test]
    fn ports_are_named_in_a_file() {
        let named = named("rng: 80\nweb: [443, \"80\"]\n").unwrap();
        assert_eq!(named["rng"], [80]);
        assert_eq!(named["web"], [443, 80]);
        assert!(matches!(super::named("rng: http\n"), Err(Error::Ports(name)) if name == "rng"));
    }

    #[test]
    fn the_hosts_part_goes_and_the_containers_stays() {
        for (entry, left, ports) in [
            ("\"8001:80\"", "\"80\"", vec![80]),
            ("8001:80", "\"80\"", vec![80]),
            ("80", "80", vec![80]),
            ("\"80\"", "\"80\"", vec![80]),
            ("127.0.0.1:8001:80/tcp", "\"80/tcp\"", vec![80]),
            ("\"127.0.0.1::80\"", "\"80\"", vec![80]),
            ("\"[::1]:8001:80\"", "\"80\"", vec![80]),
            ("5353:53/udp", "\"53/udp\"", vec![]),
            ("9090-9091:8080-8081", "\"8080-8081\"", vec![8080, 8081]),
            ("\"${PORT:-8000}:80\"", "\"80\"", vec![80]),
            ("\"${PORT:-80}\"", "\"${PORT:-80}\"", vec![]),
            ("{target: 80, published: 8001, mode: host}", "target: 80\nmode: host", vec![80]),
            ("{target: 53, published: \"53\", protocol: udp}", "target: 53\nprotocol: udp", vec![]),
        ] {
            let tree = load(entry).unwrap();
            assert_eq!(of_container(&tree), ports, "{entry}");
            let once = without_host(tree);
            assert_eq!(dump(&once).trim_end(), left, "{entry}");
            assert_eq!(without_host(once.clone()), once, "{entry}");
        }
    }
}
