//! What an instance must be, so that nobody downstream is surprised.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use services::{CheckKind, Instance};

/// What Consul takes for one service.
const META_ENTRIES: usize = 64;

/// The ranges whose addresses lead every reader to itself, all written as IPv6 and by the bits that count: `::` and `::1`,
/// 0.0.0.0, 127.0.0.0/8.
const ONESELF: [(&str, u32); 3] = [("::", 127), ("::ffff:0.0.0.0", 128), ("::ffff:127.0.0.0", 104)];

/// Tells whether an address is one that others reach, in the form that every client reads.
fn leads_elsewhere(text: &str) -> bool {
    let Ok(ip) = text.parse::<IpAddr>() else { return false };
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let begins_with = |(base, length): (&str, u32)| {
        let base = base.parse::<Ipv6Addr>().unwrap().to_bits();
        base >> (128 - length) == bits >> (128 - length)
    };
    let is_mapped = text.contains(':') && text.contains('.');
    !is_mapped && !ONESELF.into_iter().any(begins_with)
}

/// Returns what is illegal about an instance; nothing, that is.
pub(crate) fn faults(instance: &Instance) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |good: bool, what: &str| faults.extend((!good).then(|| what.to_owned()));
    let name = &instance.service;
    must((1..=63).contains(&name.len()), "the name's length");
    must(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "the name's letters");
    must(!name.starts_with('-') && !name.ends_with('-'), "the name's ends");
    must(leads_elsewhere(&instance.address), "the address");
    let mut others = instance.tagged_addresses.values();
    must(others.all(|at| leads_elsewhere(&at.address)), "the other address");
    must(instance.port != 0 || !instance.meta.contains_key("container-port"), "no port");
    must(instance.weights.passing > 0, "the weight");
    must(!matches!(instance.id.as_str(), "" | "." | "..") && !instance.id.contains('/'), "the id");
    must(instance.id.len() < 512, "the id's length");
    must(instance.meta.len() <= META_ENTRIES, "too much meta");
    for (key, value) in &instance.meta {
        let letters = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        must(
            letters && (1..=128).contains(&key.len()) && !key.starts_with("consul-"),
            "a meta key",
        );
        must(value.len() <= 512, "a meta value");
    }
    must(instance.meta["managed-by"] == "registrator", "the owner");
    must(instance.meta["registrator-host"] == "node1", "the owner's host");
    let tags: BTreeSet<&String> = instance.tags.iter().collect();
    must(tags.len() == instance.tags.len() && !tags.contains(&String::new()), "the tags");
    for check in &instance.checks {
        let sane = Duration::from_millis(1)..Duration::from_hours(400 * 24);
        let times = [Some(check.interval), check.timeout, check.deregister_after];
        must(times.into_iter().flatten().all(|time| sane.contains(&time)), "a check's times");
        let asks = match &check.kind {
            CheckKind::Http { url, .. } => url.split("://").nth(1),
            CheckKind::Tcp { target } | CheckKind::Grpc { target, .. } => Some(target.as_str()),
            CheckKind::Ttl { .. } | CheckKind::Command { .. } => None,
        };
        let own = format!(
            "{}:",
            if instance.address.contains(':') {
                format!("[{}]", instance.address)
            } else {
                instance.address.clone()
            }
        );
        must(asks.is_none_or(|asks| asks.starts_with(&own)), "a check asks somebody else");
    }
    // In JSON, a control character is an escape.
    let text = serde_json::to_string(instance).unwrap();
    let mut escapes = ["\\n", "\\r", "\\t", "\\b", "\\f", "\\u00"].into_iter();
    let text = text.replace("\\\\", "");
    must(
        !escapes.any(|escape| text.contains(escape)) && !text.contains(char::is_control),
        "a control character",
    );
    faults
}
