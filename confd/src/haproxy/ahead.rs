//! What of a text can come to life ahead of the reload that the rest of it needs. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use super::Parsed;
use super::config::{Config, SECTIONS};
use super::{diff, words};

/// Returns the accepted text with those servers of the wanted one that need no reload; `None` if there is no difference.
pub(super) fn text(accepted: &Parsed, wanted: &Parsed) -> Option<String> {
    let (Ok(old), Ok(new)) = (&accepted.config, &wanted.config) else { return None };
    let mut moved: BTreeSet<&str> = BTreeSet::new();
    for (name, pool) in &old.pools {
        if let Some(new) = new.pools.get(name)
            && new.servers != pool.servers
            && diff::obstacle_of_servers(pool, pool, new).is_none()
        {
            moved.insert(name);
        }
    }
    // What a section says of all its servers may have changed, too: then its servers would be others than the wanted.
    let tried = Config::parse(&with_servers_of(&accepted.text, &wanted.text, &moved)).ok()?;
    let servers = |config: &Config, name: &str| config.pools.get(name).map(|p| p.servers.clone());
    moved.retain(|name| servers(&tried, name) == servers(new, name));
    (!moved.is_empty()).then(|| with_servers_of(&accepted.text, &wanted.text, &moved))
}

/// Returns a text in which the backends `moved` have the servers of another one.
fn with_servers_of(accepted: &str, wanted: &str, moved: &BTreeSet<&str>) -> String {
    let mut servers: BTreeMap<String, String> = BTreeMap::new();
    let is_moved = |section: &Option<String>| section.as_deref().is_some_and(|s| moved.contains(s));
    for (section, line, _) in lines(wanted).filter(|(section, _, is)| *is && is_moved(section)) {
        let servers = servers.entry(section.unwrap_or_default()).or_default();
        servers.push_str(line);
        servers.push('\n');
    }
    let (mut text, mut before) = (String::new(), None);
    for (section, line, is_server) in lines(accepted) {
        if section != before {
            // Behind all that the section says of its servers.
            text.extend(before.take().and_then(|name: String| servers.remove(&name)));
            before.clone_from(&section);
        }
        if !(is_server && is_moved(&section)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.extend(before.and_then(|name| servers.remove(&name)));
    text
}

/// Returns the lines of a text, each with the backend that it belongs to, and whether it is a server of that.
fn lines(text: &str) -> impl Iterator<Item = (Option<String>, &str, bool)> {
    let mut section = None;
    text.lines().map(move |line| {
        let words = words::split(line).unwrap_or_default();
        let first = words.first().map(|word| word.text.as_str()).unwrap_or_default();
        if matches!(first, "backend" | "listen") {
            section = words.get(1).map(|name| name.text.clone());
        } else if first == "defaults" || SECTIONS.contains(&first) {
            section = None;
        }
        (section.clone(), line, first == "server" && section.is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::{Plan, diff};
    use proptest::prelude::*;

    fn ahead(accepted: &str, wanted: &str) -> Option<String> {
        text(&Parsed::new(accepted), &Parsed::new(wanted))
    }

    #[test]
    fn servers_come_and_go_in_the_backends_that_stay_and_nothing_else_changes() {
        let old = "frontend f\n bind :80\nbackend a\n server one 10.0.0.1:80\n\nbackend b\n server two 10.0.0.2:80\n";
        let new = "frontend f\n bind :81\nbackend a\n server one 10.0.0.1:80\n server new 10.0.0.3:80\n\
                   backend b\n server two 10.0.0.2:80 ssl\nbackend c\n server three 10.0.0.3:80\n";
        let text = ahead(old, new).unwrap();
        assert!(text.contains(":80\nbackend a") && !text.contains("backend c"), "{text}");
        let Plan::Runtime(ops) = diff::diff(old, &text) else { panic!("{text}") };
        assert_eq!(ops.len(), 1, "{ops:?}");
        assert_eq!((ops[0].backend.as_str(), ops[0].server.as_str()), ("a", "new"));
        assert_eq!(ahead(old, &old.replace(":80\nbackend a", ":81\nbackend a")), None);
    }

    /// A file of some backends, each with some lines and servers.
    fn files() -> impl Strategy<Value = String> {
        let rules = ["", " cookie x\n", " balance source\n", " default-server check\n"];
        let options = ["", " weight 5", " ssl", " check inter 1s"];
        let server = (0..4_u8, prop::sample::select(options.to_vec()))
            .prop_map(|(n, options)| (n, format!(" server s{n} 10.0.0.{n}:80{options}\n")));
        let servers = prop::collection::vec(server, 0..4).prop_map(|list| {
            let unique: BTreeMap<u8, String> = list.into_iter().collect();
            unique.into_values().collect::<String>()
        });
        let section = (prop::sample::select(rules.to_vec()), servers, any::<bool>());
        prop::collection::btree_map(0..3_u8, section, 0..4).prop_map(|sections| {
            let section = |(n, (rule, servers, first)): (u8, (&str, String, bool))| {
                let (one, two) =
                    if first { (rule, servers.as_str()) } else { (servers.as_str(), rule) };
                format!("backend b{n}\n{one}{two}")
            };
            sections.into_iter().map(section).collect()
        })
    }

    proptest! {
        #[test]
        fn it_never_needs_a_reload_and_is_done_after_one_step(old in files(), new in files()) {
            if let Some(text) = ahead(&old, &new) {
                let plan = diff::diff(&old, &text);
                prop_assert!(!matches!(plan, Plan::Reload(_)), "{plan:?}:\n{old}\n{text}");
                prop_assert_eq!(ahead(&text, &new), None);
            }
        }
    }
}
