//! What a container's labels and environment say about one port: `SERVICE_X`, `SERVICE_80_X`, `SERVICE_80_udp_X`,
//! `SERVICE_1000-2000_X` and `service.80.x`. Pure.

use std::collections::BTreeMap;

use crate::container::Container;
use crate::model::Options;
use crate::ports::{Port, Protocol};
use crate::warnings::Warnings;

/// Settings with a meaning; everything else becomes Meta.
pub(crate) const RESERVED: [&str; 12] = [
    "NAME",
    "TAGS",
    "ID",
    "IGNORE",
    "IP",
    "NETWORK",
    "INTERNAL",
    "WEIGHT",
    "HEALTH",
    "PORT",
    "ENABLE_TAG_OVERRIDE",
    "FORCE_REGISTER",
];

/// Labels of others that mean something here: whether a container is a part of this system, and what Compose and Swarm
/// call it.
const FOREIGN: [&str; 5] = [
    "ambassador.container",
    "ambassador.system",
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.swarm.service.name",
];

/// Tells whether a label can mean anything for instances.
pub(crate) fn matters(key: &str, options: &Options) -> bool {
    let is_setting = |key: &str| key.starts_with("SERVICE_") || key.starts_with("service.");
    key.strip_prefix(&options.label_prefix).is_some_and(is_setting)
        || options.use_ip_from_label.as_deref() == Some(key)
        || FOREIGN.contains(&key)
}

/// What a setting is about; later ones are more specific, and win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Every port.
    Any,
    /// The ports of a range; the narrower, the more specific.
    Range { narrowness: u16, from: u16, protocol: Option<Protocol> },
    /// A port, in one protocol or in all.
    Port { number: u16, protocol: Option<Protocol> },
}

impl Scope {
    fn covers(self, port: Option<Port>) -> bool {
        let agrees =
            |wanted: Option<Protocol>, port: Port| wanted.is_none_or(|p| p == port.protocol);
        match (self, port) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Range { narrowness, from, protocol }, Some(port)) => {
                let to = from + (u16::MAX - narrowness);
                (from..=to).contains(&port.number) && agrees(protocol, port)
            }
            (Self::Port { number, protocol }, Some(port)) => {
                number == port.number && agrees(protocol, port)
            }
        }
    }

    /// Returns the scope that the first parts of a key name, and the rest of the key.
    fn split(key: &str) -> (Self, &str) {
        let Some((first, rest)) = key.split_once('_') else { return (Self::Any, key) };
        let number = |text: &str| {
            text.parse::<u16>().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
        };
        let (protocol, after) = match rest.split_once('_') {
            Some((word, after)) if Protocol::parse(word).is_some() => {
                (Protocol::parse(word), after)
            }
            _ => (None, rest),
        };
        if let Some(number) = number(first) {
            return (Self::Port { number, protocol }, after);
        }
        match first.split_once('-').map(|(from, to)| (number(from), number(to))) {
            Some((Some(from), Some(to))) if from <= to => {
                (Self::Range { narrowness: u16::MAX - (to - from), from, protocol }, after)
            }
            _ => (Self::Any, key),
        }
    }
}

/// The settings of one container, parsed once.
#[derive(Debug)]
pub(crate) struct Labels<'a> {
    /// What holds for every port.
    any: BTreeMap<String, &'a str>,
    /// What holds for some ports; a later entry wins.
    scoped: Vec<Entry<'a>>,
}

/// A setting; sorted so that the one that wins comes last.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry<'a> {
    scope: Scope,
    from_label: bool,
    name: String,
    value: &'a str,
}

impl<'a> Labels<'a> {
    /// Reads labels behind `prefix`, and the environment. Empty values count as not set.
    pub(crate) fn of(container: &'a Container, prefix: &str) -> Self {
        let labels = container.labels.iter().filter_map(|(key, value)| {
            let key = key.strip_prefix(prefix)?;
            let dotted = || key.strip_prefix("service.").map(|rest| rest.replace('.', "_"));
            let name = key.strip_prefix("SERVICE_").map(ToOwned::to_owned).or_else(dotted)?;
            Some((name, value.as_str(), true))
        });
        let environment = container.environment.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix("SERVICE_")?.to_owned(), value.as_str(), false))
        });
        let mut entries: Vec<Entry<'a>> = labels
            .chain(environment)
            .filter(|(_, value, _)| !value.trim().is_empty())
            .map(|(key, value, from_label)| {
                let (scope, name) = Scope::split(&key);
                Entry { scope, from_label, name: name.to_uppercase(), value }
            })
            .filter(|entry| !entry.name.is_empty())
            .collect();
        entries.sort();
        let scoped = entries.split_off(entries.partition_point(|entry| entry.scope == Scope::Any));
        let any = entries.into_iter().map(|entry| (entry.name, entry.value)).collect();
        Self { any, scoped }
    }

    /// Returns whether any port has a name of its own choice.
    pub(crate) fn names_anything(&self) -> bool {
        self.any.contains_key("NAME") || self.scoped.iter().any(|entry| entry.name == "NAME")
    }

    /// Returns what holds for `port`; `None` for a container without ports.
    pub(crate) fn at(&self, port: Option<Port>) -> Settings<'_> {
        let covering = self.scoped.iter().filter(|entry| entry.scope.covers(port));
        let own = covering.map(|entry| (entry.name.as_str(), entry.value)).collect();
        Settings { any: &self.any, own }
    }
}

/// What the labels say about one port, by upper-case name without `SERVICE_`.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    any: &'a BTreeMap<String, &'a str>,
    own: BTreeMap<&'a str, &'a str>,
}

impl<'a> Settings<'a> {
    /// Returns a value.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.own.get(name).or_else(|| self.any.get(name)).copied()
    }

    /// Returns a value that was meant for this port, or a few with it, and not for all.
    pub(crate) fn specific(&self, name: &str) -> Option<&'a str> {
        self.own.get(name).copied()
    }

    /// Returns a value that means yes or no; a warning if it means neither.
    pub(crate) fn flag(&self, name: &str, warnings: &mut Warnings) -> Option<bool> {
        let value = self.get(name)?;
        let flag = yes_or_no(value);
        if flag.is_none() {
            let problem = format!("{:?} is neither true nor false; not used", short(value));
            warnings.add(format!("SERVICE_{name}"), problem);
        }
        flag
    }

    /// Returns the settings that begin with `CHECK_`, without that.
    pub(crate) fn checks(&self) -> BTreeMap<&'a str, &'a str> {
        let any = self.any.iter().map(|(name, value)| (name.as_str(), *value));
        let own = self.own.iter().map(|(name, value)| (*name, *value));
        any.chain(own)
            .filter_map(|(name, value)| Some((name.strip_prefix("CHECK_")?, value)))
            .collect()
    }

    /// Returns the settings without a meaning of their own: those for this port, then the others.
    pub(crate) fn meta(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = self.own.iter().map(|(name, value)| (*name, *value));
        let any = self.any.iter().map(|(name, value)| (name.as_str(), *value));
        let others = any.filter(|(name, _)| !self.own.contains_key(name));
        own.chain(others)
            .filter(|(name, _)| !RESERVED.contains(name) && !name.starts_with("CHECK_"))
    }
}

/// Reads a word that means yes or no.
pub(crate) fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" | "t" => Some(true),
        "0" | "false" | "no" | "off" | "n" | "f" => Some(false),
        _ => None,
    }
}

/// Returns as much of `text` as a message can bear.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
