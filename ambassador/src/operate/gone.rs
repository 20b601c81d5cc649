//! Instances that ambassadors have and Consul has not: held by the guard, or on their way out.

use std::collections::{BTreeMap, BTreeSet};

use consul::{Client, Query, ServiceEntry, instance_key};

use super::reasons::{Explained, HELD};
use super::report::{Backend, Document, State};

/// Returns what is to be said about those among a service's `instances`.
pub(crate) async fn gone(
    client: &Client,
    service: &str,
    instances: &[ServiceEntry],
    documents: &[Document],
) -> Result<Vec<Explained>, consul::Error> {
    let own: Vec<_> = instances.iter().map(ServiceEntry::key).collect();
    let own: Vec<_> = own.iter().map(AsRef::as_ref).collect();
    let mut strangers = strangers(service, &own, documents);
    if !strangers.is_empty() {
        // A backend may be that of several services: web_80 is what web and web-80 are asked for by.
        let nodes = client.catalog_nodes(&Query::default()).await?.value;
        if nodes.is_empty() {
            // Not even our own: a token that may not see nodes cannot tell who has gone.
            return Ok(Vec::new());
        }
        for node in nodes {
            let found = client.catalog_node(&node.name, &Query::default()).await?.value;
            for id in found.into_iter().flat_map(|node| node.services.into_keys()) {
                strangers.remove(instance_key(&node.name, &id).as_ref());
            }
        }
    }
    Ok(strangers.into_values().collect())
}

/// Returns the instances in a service's backends that are none of its `own`, all by their keys.
fn strangers(service: &str, own: &[&str], documents: &[Document]) -> BTreeMap<String, Explained> {
    let own_ids: BTreeSet<_> = own.iter().copied().collect();
    let mut strangers = BTreeMap::new();
    for document in documents {
        for (_, backend) in document.backends_of(service, own) {
            let Backend::States(states) = backend else { continue };
            for (id, state) in states.iter().filter(|(id, _)| !own_ids.contains(id.as_str())) {
                let one = strangers.entry(id.clone()).or_insert_with(|| unknown(id));
                let why = match state {
                    State::Held => HELD,
                    State::Draining => "it has gone from Consul: its last connections may end",
                    _ => "it has gone from Consul",
                };
                // Whom an ambassador still serves is served: a template may have servers of its own, too.
                one.serving &= *state == State::Serving;
                one.reasons.push(format!("{}: {why}", document.name()));
                one.ambassadors.insert(document.name(), state.as_str().to_owned());
            }
        }
    }
    strangers
}

/// Returns an instance of which only the key is known: it has the node in it where the ID alone is not enough.
fn unknown(key: &str) -> Explained {
    let (node, id) =
        key.strip_prefix(':').and_then(|rest| rest.split_once(':')).unwrap_or(("", key));
    Explained {
        id: id.to_owned(),
        node: node.to_owned(),
        address: String::new(),
        serving: true,
        reasons: Vec::new(),
        ambassadors: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ambassadors_keep_without_consul_says_why_it_is_there() {
        let states = [
            ("a", State::Serving),
            ("b", State::Held),
            ("c", State::Draining),
            (":n2:d", State::Serving),
        ];
        let states = states.map(|(id, state)| (id.to_owned(), state));
        let other = [("x".to_owned(), State::Held)];
        let document = Document {
            node: "n1".into(),
            id: "haproxy".into(),
            backends: [
                ("http_rng".to_owned(), Backend::States(states.into())),
                ("http_other".to_owned(), Backend::States(other.into())),
            ]
            .into(),
            ..Document::default()
        };
        let found = strangers("rng", &["a"], &[document]);
        assert_eq!(found.keys().collect::<Vec<_>>(), [":n2:d", "b", "c"]);
        for (id, word, serving) in [
            ("b", "the guard holds it", false),
            ("c", "its last connections may end", false),
            (":n2:d", "it has gone from Consul", true),
        ] {
            let one = &found[id];
            let own = if id == ":n2:d" { ("n2", "d") } else { ("", id) };
            assert_eq!((one.node.as_str(), one.id.as_str()), own);
            assert_eq!((one.serving, one.reasons.len()), (serving, 1), "{one:?}");
            assert!(one.reasons[0].starts_with("n1/haproxy: "), "{one:?}");
            assert!(one.reasons[0].contains(word), "{one:?}");
        }
    }
}
