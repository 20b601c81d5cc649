//! A container's ports, and where the host forwards them from. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// A port of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The number, at least 1.
    pub number: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// What everything is unless it says otherwise.
    Tcp,
    /// Datagrams.
    Udp,
    /// Streams of datagrams.
    Sctp,
}

impl Protocol {
    /// Returns Docker's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|p| p.as_str().eq_ignore_ascii_case(text))
    }
}

impl Port {
    /// Parses `80` or `80/udp`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse().ok().filter(|number| *number != 0)?;
        Some(Self { number, protocol: Protocol::parse(protocol)? })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

/// A port of the host that leads to a port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The container's port.
    pub container: Port,
    /// The host's address; a wildcard for all of them.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
}

/// One way to reach a port, in one address family or in both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Published {
    /// The address bound; a wildcard for all of them.
    pub(crate) host_ip: IpAddr,
    /// The host's port.
    pub(crate) host_port: u16,
    /// The port at which the other family's wildcard is bound, for `-p 80` on a host with both.
    pub(crate) other_family: Option<u16>,
}

/// Returns the ways to reach each published port, with the two wildcards of one `-p` as one.
///
/// Engines before 23 may give the families different random ports, so wildcards without a
/// partner of the same port are paired in order.
pub(crate) fn published(bindings: &[Binding]) -> BTreeMap<Port, Vec<Published>> {
    let mut by_port: BTreeMap<Port, Vec<&Binding>> = BTreeMap::new();
    for binding in bindings {
        by_port.entry(binding.container).or_default().push(binding);
    }
    by_port.into_iter().map(|(port, bindings)| (port, paired(&bindings))).collect()
}

fn paired(bindings: &[&Binding]) -> Vec<Published> {
    let wildcards = |v6: bool| {
        bindings.iter().filter(move |b| b.host_ip.is_unspecified() && b.host_ip.is_ipv6() == v6)
    };
    let mut sixes: Vec<u16> = wildcards(true).map(|b| b.host_port).collect();
    let mut ways: Vec<Published> = bindings
        .iter()
        .filter(|b| !(b.host_ip.is_unspecified() && b.host_ip.is_ipv6()))
        .map(|b| Published { host_ip: b.host_ip, host_port: b.host_port, other_family: None })
        .collect();
    for same_port in [true, false] {
        for way in &mut ways {
            let lonely = way.host_ip.is_unspecified() && way.other_family.is_none();
            let partner = sixes.iter().position(|port| !same_port || *port == way.host_port);
            if let (true, Some(partner)) = (lonely, partner) {
                way.other_family = Some(sixes.remove(partner));
            }
        }
    }
    let unspecified = IpAddr::from([0_u16; 8]);
    let alone = |host_port| Published { host_ip: unspecified, host_port, other_family: None };
    ways.extend(sixes.into_iter().map(alone));
    ways.sort();
    ways.dedup();
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(bindings: &[(&str, u16)]) -> Vec<(String, u16, Option<u16>)> {
        let container = Port::parse("80").unwrap();
        let bindings: Vec<Binding> = bindings
            .iter()
            .map(|(ip, host_port)| Binding {
                container,
                host_ip: ip.parse().unwrap(),
                host_port: *host_port,
            })
            .collect();
        let ways = published(&bindings).remove(&container).unwrap();
        ways.into_iter().map(|w| (w.host_ip.to_string(), w.host_port, w.other_family)).collect()
    }

    #[test]
    fn the_two_families_of_one_binding_are_one_way() {
        let one = [("0.0.0.0".to_owned(), 8080, Some(8080))];
        assert_eq!(ways(&[("0.0.0.0", 8080), ("::", 8080)]), one);
    }

    #[test]
    fn random_ports_that_differ_between_the_families_are_one_way() {
        let one = [("0.0.0.0".to_owned(), 49153, Some(49154))];
        assert_eq!(ways(&[("0.0.0.0", 49153), ("::", 49154)]), one);
    }

    #[test]
    fn every_distinct_binding_is_a_way() {
        assert_eq!(ways(&[("10.0.0.1", 80), ("10.0.0.2", 80), ("0.0.0.0", 81)]).len(), 3);
        assert_eq!(ways(&[("::", 80)]), [("::".to_owned(), 80, None)]);
    }
}
