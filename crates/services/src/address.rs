//! Which of many addresses an instance is registered with. Pure.

use std::net::IpAddr;

use crate::container::{Container, Network};
use crate::labels::{Settings, short};
use crate::model::{Node, Options};
use crate::ports::Published;
use crate::warnings::Warnings;

/// A network that no client is on, and that Swarm adds by itself.
const INGRESS: &str = "ingress";

/// Returns whether others can reach `ip`: neither a wildcard nor the loopback, also where it is written as an IPv6
/// address, `::ffff:127.0.0.1`.
#[must_use]
pub fn is_reachable(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    !ip.is_unspecified() && !ip.is_loopback()
}

/// Reads an address that others can reach, in its usual form: not `::ffff:10.0.0.1`, which few clients take.
fn reachable(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.trim().parse().ok()?;
    is_reachable(ip).then(|| ip.to_canonical())
}

/// Returns the address that the container's own labels choose, if they do.
pub(crate) fn labelled(
    container: &Container,
    settings: &Settings<'_>,
    options: &Options,
    warnings: &mut Warnings,
) -> Option<IpAddr> {
    let mut parse = |setting: &str, text: &str| {
        let ip = reachable(text);
        if ip.is_none() {
            let problem =
                format!("{:?} is not an address that others can reach; not used", short(text));
            warnings.add(setting, problem);
        }
        ip
    };
    settings.get("IP").and_then(|text| parse("SERVICE_IP", text)).or_else(|| {
        let label = options.use_ip_from_label.as_ref()?;
        // Often written with a prefix length, as network plugins do.
        let text = container.labels.get(label)?.split('/').next().unwrap_or_default();
        (!text.is_empty()).then(|| parse(label, text)).flatten()
    })
}

/// Returns the address that the labels or the operator choose for published ports, if they do.
pub(crate) fn chosen(
    container: &Container,
    settings: &Settings<'_>,
    options: &Options,
    warnings: &mut Warnings,
) -> Option<IpAddr> {
    labelled(container, settings, options, warnings)
        .or_else(|| options.ip.filter(|ip| is_reachable(*ip)).map(|ip| ip.to_canonical()))
}

/// A network of a container, and in which family its address is wanted.
pub(crate) struct Chosen<'a> {
    pub(crate) network: &'a Network,
    /// Whether the IPv6 address counts where there are both.
    pub(crate) ipv6: bool,
}

/// Returns the container's own addresses on the network that counts.
pub(crate) fn internal<'a>(
    container: &'a Container,
    settings: &Settings<'_>,
    options: &Options,
    warnings: &mut Warnings,
) -> Option<Chosen<'a>> {
    let any = |network| Chosen { network, ipv6: false };
    let is_usable = |text: &Option<String>| text.as_deref().and_then(reachable).is_some();
    let has_address = |network: &&Network| is_usable(&network.ipv4) || is_usable(&network.ipv6);
    let named = |name: &str| {
        let suffix = format!("_{name}");
        let exact = container.networks.get(name);
        // Compose puts the project before the name that its file has.
        let composed = || {
            container
                .networks
                .iter()
                .find(|(key, _)| key.ends_with(&suffix))
                .map(|(_, network)| network)
        };
        exact.or_else(composed).filter(has_address)
    };
    if let Some(name) = settings.get("NETWORK") {
        if let Some(network) = named(name) {
            return Some(any(network));
        }
        let problem = format!("the container is not on the network {:?}", short(name));
        warnings.add("SERVICE_NETWORK", problem);
    }
    if let Some(network) = options.network.as_deref().and_then(named) {
        return Some(any(network));
    }
    if let Some(cidr) = options.network_cidr.as_deref() {
        match range(cidr) {
            None => {
                let problem = format!("{:?} is no range such as 10.0.0.0/8; not used", short(cidr));
                warnings.add("network-cidr", problem);
            }
            Some(range) => {
                if let Some(network) = within(container, range) {
                    return Some(Chosen { network, ipv6: range.0.is_ipv6() });
                }
            }
        }
    }
    let mut candidates: Vec<(&String, &Network)> =
        container.networks.iter().filter(|(_, network)| has_address(network)).collect();
    if candidates.len() > 1 {
        candidates.retain(|(name, _)| *name != INGRESS);
    }
    if candidates.len() > 1 {
        let problem = format!("on {} networks; uses {}", candidates.len(), candidates[0].0);
        warnings.add("SERVICE_NETWORK", problem);
    }
    candidates.first().map(|(_, network)| any(network))
}

/// Tells whether a text is a range of addresses such as `10.0.0.0/8`.
#[must_use]
pub fn is_range(text: &str) -> bool {
    range(text).is_some()
}

fn range(cidr: &str) -> Option<(IpAddr, u32)> {
    let (base, length) = cidr.trim().split_once('/')?;
    let base: IpAddr = base.parse().ok()?;
    let width = if base.is_ipv4() { 32 } else { 128 };
    Some((base, length.parse().ok().filter(|length| *length <= width)?))
}

fn within(container: &Container, (base, length): (IpAddr, u32)) -> Option<&Network> {
    container.networks.values().find(|network| {
        let addresses = [&network.ipv4, &network.ipv6].into_iter().flatten();
        addresses.filter_map(|text| text.parse().ok()).any(|ip| contains(base, length, ip))
    })
}

fn contains(base: IpAddr, length: u32, ip: IpAddr) -> bool {
    let bits = |ip| match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let ((base, width), (ip, ip_width)) = (bits(base), bits(ip));
    width == ip_width
        && length <= width
        && (base ^ ip).checked_shr(width - length).unwrap_or(0) == 0
}

/// Returns the address of a published port: what was chosen, else what the port is bound to, else the node's. Where
/// that is the loopback, out of everybody's reach, the error says which.
pub(crate) fn published(
    chosen: Option<IpAddr>,
    way: &Published,
    node: &Node,
) -> Result<String, String> {
    let bound = way.host_ip;
    match chosen {
        Some(ip) => Ok(ip.to_string()),
        None if bound.is_unspecified() && way.other_family.is_some() => on_host(None, node),
        None if bound.is_unspecified() => in_family(bound, node),
        None if is_reachable(bound) => Ok(bound.to_string()),
        None => Err(format!("is bound to {bound}, where nobody else reaches it; not registered")),
    }
}

/// Returns the node's address in the family in which alone the port is bound to every address. In the other one nobody
/// gets through: the engine's rules for the port are of one family, and so is the socket of its proxy (`IPV6_V6ONLY`).
fn in_family(bound: IpAddr, node: &Node) -> Result<String, String> {
    let Ok(address) = node.address.parse::<IpAddr>() else { return on_host(None, node) };
    let of_node = [Some(address), node.other_family].into_iter().flatten();
    let family = if bound.is_ipv4() { "IPv4" } else { "IPv6" };
    match of_node.map(|ip| ip.to_canonical()).find(|ip| ip.is_ipv4() == bound.is_ipv4()) {
        Some(ip) => on_host(Some(ip), node),
        None => Err(format!(
            "is bound to {bound}, {family} only, and Consul's agent advertises {address}; not registered (publish it \
             without an address, or start registrator with --ip)"
        )),
    }
}

/// Returns what was chosen, else the node's address, unless nobody else reaches that.
pub(crate) fn on_host(chosen: Option<IpAddr>, node: &Node) -> Result<String, String> {
    let address = chosen.map_or_else(|| node.address.clone(), |ip| ip.to_string());
    let Ok(ip) = address.parse::<IpAddr>() else { return Ok(address) };
    if !is_reachable(ip) {
        return Err(format!(
            "is at the node's address, and Consul's agent advertises {address}, where nobody else reaches it; not \
             registered (start the agent with -advertise, or registrator with --ip)"
        ));
    }
    Ok(ip.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let contains = |base: &str, length, ip: &str| {
            contains(base.parse().unwrap(), length, ip.parse().unwrap())
        };
        assert!(contains("10.1.0.0", 16, "10.1.255.7"));
        assert!(!contains("10.1.0.0", 16, "10.2.0.1"));
        assert!(contains("0.0.0.0", 0, "9.9.9.9"));
        assert!(contains("fd00::", 8, "fdff::1"));
        assert!(!contains("fd00::", 8, "10.1.0.1"));
        assert!(!contains("10.0.0.0", 33, "10.0.0.0"));
        assert!(is_range("10.0.0.0/8") && is_range("fd00::/128"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/-1", "home/8", "/8", ""] {
            assert!(!is_range(bad), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_or_the_loopback_is_never_an_address() {
        let at = |chosen: Option<&str>, bound: &str, node: &str| {
            let chosen = chosen.map(|ip| ip.parse().unwrap());
            let bound = bound.parse().unwrap();
            let way = Published { host_ip: bound, host_port: 80, other_family: Some(80) };
            published(chosen, &way, &Node::new("node1", node)).ok()
        };
        assert_eq!(at(None, "0.0.0.0", "192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(at(None, "::", "192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(at(None, "127.0.0.1", "192.0.2.1"), None);
        assert_eq!(at(None, "10.0.0.7", "127.0.0.1").as_deref(), Some("10.0.0.7"));
        assert_eq!(at(Some("10.9.9.9"), "127.0.0.1", "127.0.0.1").as_deref(), Some("10.9.9.9"));
        for node in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
            assert_eq!(at(None, "0.0.0.0", node), None);
        }
    }
}
