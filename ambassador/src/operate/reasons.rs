//! Why an instance is served or not. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;

use consul::{ServiceEntry, Status};
use serde::Serialize;

use super::ports::Ports;
use super::report::{Backend, Document, State};

/// Why an instance is there that Consul has not.
pub(crate) const HELD: &str =
    "it has gone from Consul, but the guard holds it: too many vanished at once";

/// One instance, or a container that is none, and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explained {
    /// The ID in Consul; of a container that is not registered, its name.
    pub(crate) id: String,
    /// Empty where it is not known.
    pub(crate) node: String,
    /// `ip:port`; empty where it is not registered.
    pub(crate) address: String,
    /// Whether every ambassador that knows the service serves it.
    pub(crate) serving: bool,
    /// Why it is not, or not everywhere.
    pub(crate) reasons: Vec<String>,
    /// What each ambassador does with it.
    pub(crate) ambassadors: BTreeMap<String, String>,
}

/// Returns what is to be said about a registered instance; `ports` are those of its service, `since` is when Docker's own
/// health check began to fail.
pub(crate) fn explained(
    entry: &ServiceEntry,
    ports: &Ports,
    shares: &BTreeMap<String, f64>,
    documents: &[Document],
    since: Option<&str>,
) -> Explained {
    let service = &entry.service;
    let mut reasons = health(entry, since);
    if service.port == 0 {
        reasons.push("it is registered without a port".to_owned());
    }
    if is_udp(entry) {
        reasons.push("its port is one of UDP, which HAProxy does not carry".to_owned());
    }
    if let Some(why) = share(&service.tags, shares) {
        reasons.push(why);
    }
    let mut ambassadors = BTreeMap::new();
    let (mut serving, mut other_ports) = (true, false);
    let key = entry.key();
    for document in documents {
        for (name, backend) in document.backends_of(&service.name, &[&key]) {
            if !ports.belongs(entry, name) && !backend.has(&key) {
                other_ports = true;
                continue;
            }
            let (word, why) = at(document, backend, &key, &reasons);
            serving &= word == State::Serving.as_str();
            ambassadors.insert(document.name(), word);
            reasons.extend(why);
        }
        if let Some(why) = document.lacks(&service.name, &[&key]) {
            serving = false;
            ambassadors.insert(document.name(), "absent".to_owned());
            reasons.push(why);
        }
    }
    if ambassadors.is_empty() {
        serving = false;
        reasons.push(if other_ports {
            format!("ambassadors that know {:?} are for other ports of it", service.name)
        } else {
            format!("no ambassador reports that it knows {:?}", service.name)
        });
    }
    Explained {
        id: service.id.clone(),
        node: entry.node.name.clone(),
        address: format!("{}:{}", entry.address(), service.port),
        serving,
        reasons,
        ambassadors,
    }
}

/// Tells whether an instance is at a port of UDP: no ambassador is to serve it.
pub(crate) fn is_udp(entry: &ServiceEntry) -> bool {
    entry.service.tags.iter().any(|tag| tag == services::UDP)
}

/// Returns what Consul has against an instance.
fn health(entry: &ServiceEntry, since: Option<&str>) -> Vec<String> {
    let mut reasons = Vec::new();
    for check in &entry.checks {
        let whose = if check.service_id.is_empty() { "its node" } else { "it" };
        if check.is_maintenance() {
            let why = if check.notes.is_empty() { "no reason given" } else { &check.notes };
            let word = if why.starts_with("drain") { "drained" } else { "in maintenance" };
            reasons.push(format!("{whose} is {word}: {why}"));
        } else if check.status == Status::Critical {
            let since = since.filter(|_| check.id.ends_with(":docker-health"));
            let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
            let output = check.output.trim().lines().next().unwrap_or_default();
            let output = if output.is_empty() { "no output" } else { output };
            reasons.push(format!("{whose} is unhealthy{since}: check {:?}: {output}", check.id));
        } else if check.status == Status::Warning {
            let output = check.output.trim().lines().next().unwrap_or_default();
            reasons.push(format!("{whose} is not passing: check {:?} warns: {output}", check.id));
        }
    }
    reasons
}

/// Returns why an instance gets nothing by its tags.
fn share(tags: &[String], shares: &BTreeMap<String, f64>) -> Option<String> {
    if shares.is_empty() {
        return None;
    }
    let own = tags.iter().find_map(|tag| Some((tag, *shares.get(tag)?)));
    let rest = 100.0 - shares.values().sum::<f64>();
    match own {
        Some((tag, share)) if share <= 0.0 => Some(format!("its tag {tag:?} has a share of 0 %")),
        None if rest <= 0.0 => Some("its tags have no share, and others have 100 %".to_owned()),
        _ => None,
    }
}

/// Returns what one ambassador does with an instance, and why it does not serve it.
fn at(
    document: &Document,
    backend: &Backend,
    id: &str,
    known: &[String],
) -> (String, Option<String>) {
    let name = document.name();
    let states = match backend {
        Backend::States(states) => states,
        Backend::Counts(counts) => {
            let serving = counts.get(&State::Serving).copied().unwrap_or(0);
            let total: u64 = counts.values().sum();
            let word = if serving == total {
                "serving".to_owned()
            } else {
                format!("{serving} of {total} serving")
            };
            return (word, None);
        }
    };
    let Some(state) = states.get(id) else {
        let why = match (&document.error, known.is_empty()) {
            (Some(error), _) => Some(format!("{name}: its last change failed: {error}")),
            (None, true) => Some(format!("{name}: it is not there yet")),
            (None, false) => None,
        };
        return ("absent".to_owned(), why);
    };
    let why = match state {
        State::Serving => return (state.as_str().to_owned(), None),
        State::Weightless => "its share is 0: by its tags' shares, or its own weight",
        State::Joining => "its weight is 0 until its first check passes",
        State::Draining => "it is draining: its last connections may end",
        State::Down => "HAProxy's own check of it fails",
        State::Held => HELD,
        State::LeftOut => "its service is left out: with it the configuration was refused",
        State::Maintenance => "it is in maintenance",
        State::Other(word) => word,
    };
    let said = matches!(state, State::Maintenance | State::Weightless) && !known.is_empty();
    (state.as_str().to_owned(), (!said).then(|| format!("{name}: {why}")))
}

#[cfg(test)]
mod tests {
    use consul::Check;

    use super::*;

    fn entry() -> ServiceEntry {
        let mut entry = ServiceEntry::default();
        (entry.node.name, entry.node.address) = ("n1".into(), "10.0.0.1".into());
        (entry.service.id, entry.service.name) = ("n1:a".into(), "rng".into());
        (entry.service.port, entry.service.tags) = (80, vec!["v1".into()]);
        entry
    }

    fn document(state: Option<State>) -> Document {
        let states = state.into_iter().map(|state| ("n1:a".to_owned(), state)).collect();
        Document {
            node: "n1".into(),
            id: "haproxy".into(),
            backends: [("http_rng".to_owned(), Backend::States(states))].into(),
            ..Document::default()
        }
    }

    fn said(entry: &ServiceEntry, state: Option<State>) -> Explained {
        let documents = [document(state)];
        explained(entry, &Ports::default(), &BTreeMap::new(), &documents, Some("10:00"))
    }

    #[test]
    fn each_state_of_an_ambassador_has_its_reason() {
        let served = said(&entry(), Some(State::Serving));
        assert!(served.serving && served.reasons.is_empty(), "{served:?}");
        assert_eq!(served.address, "10.0.0.1:80");
        for (state, word) in [
            (Some(State::Joining), "weight is 0 until its first check passes"),
            (Some(State::Held), "the guard holds it"),
            (Some(State::LeftOut), "left out"),
            (Some(State::Draining), "draining"),
            (Some(State::Weightless), "its share is 0"),
            (Some(State::Down), "check of it fails"),
            (None, "not there yet"),
        ] {
            let explained = said(&entry(), state);
            assert!(!explained.serving);
            assert_eq!(explained.reasons.len(), 1, "{explained:?}");
            assert!(explained.reasons[0].contains(word), "{explained:?}");
        }
    }

    #[test]
    fn whoever_is_to_serve_it_and_cannot_is_told_of_with_the_reason() {
        let error = Some("cannot bind socket".to_owned());
        let broken = Document {
            backends: BTreeMap::new(),
            id: "b".into(),
            error,
            load_balancer: true,
            ..document(None)
        };
        let documents = [document(Some(State::Serving)), broken];
        let told = explained(&entry(), &Ports::default(), &BTreeMap::new(), &documents, None);
        assert!(!told.serving, "{told:?}");
        assert_eq!(told.reasons, ["n1/b: cannot bind socket"]);
        let mut elsewhere = entry();
        elsewhere.node.name = "n2".into();
        let twin = said(&elsewhere, Some(State::Serving));
        assert!(!twin.serving, "the ID is another instance's there: {twin:?}");
    }

    #[test]
    fn a_backend_that_is_for_another_port_needs_no_instance() {
        let (mut one, mut other) = (entry(), entry());
        for (entry, port) in [(&mut one, "80"), (&mut other, "443")] {
            entry.service.meta.insert("container-port".into(), port.into());
        }
        let mut ports = Ports::default();
        ports.add(&[one.clone(), other]);
        let document = |backends: &[(&str, &[&str])]| {
            let states = |ids: &[&str]| {
                let states = ids.iter().map(|id| ((*id).to_owned(), State::Serving));
                Backend::States(states.collect())
            };
            let backends = backends.iter().map(|(name, ids)| ((*name).to_owned(), states(ids)));
            Document { backends: backends.collect(), ..document(None) }
        };
        let said =
            |backends| explained(&one, &ports, &BTreeMap::new(), &[document(backends)], None);
        assert!(said(&[("rng_80", &["n1:a"]), ("rng_443", &["n1:b"])]).serving);
        assert!(said(&[("rng_80", &[])]).reasons[0].contains("not there yet"));
        assert!(said(&[("rng_443", &["n1:b"])]).reasons[0].contains("are for other ports of it"));
    }

    #[test]
    fn what_consul_knows_is_said_once() {
        let check = |id: &str, service: &str, notes: &str, output: &str| Check {
            id: id.into(),
            service_id: service.into(),
            notes: notes.into(),
            output: output.into(),
            ..Check::default()
        };
        for (check, word) in [
            (check("_service_maintenance:a", "a", "by hand", ""), "it is in maintenance: by hand"),
            (
                check("_service_maintenance:a", "a", "draining: SIGTERM", ""),
                "it is drained: draining: SIGTERM",
            ),
            (check("_node_maintenance", "", "", ""), "its node is in maintenance: no reason given"),
            (
                check("a:docker-health", "a", "", "no\nmore"),
                "unhealthy since 10:00: check \"a:docker-health\": no",
            ),
            (
                Check { status: Status::Warning, ..check("disk", "", "", "90 %") },
                "its node is not passing: check \"disk\" warns: 90 %",
            ),
            (
                check("serfHealth", "", "", "gone"),
                "its node is unhealthy: check \"serfHealth\": gone",
            ),
        ] {
            let mut entry = entry();
            entry.checks.push(check);
            let explained = said(&entry, None);
            assert_eq!(explained.reasons.len(), 1, "{explained:?}");
            assert!(explained.reasons[0].contains(word), "{explained:?}");
        }
    }

    #[test]
    fn shares_of_nothing_are_said() {
        let shares = |pairs: &[(&str, f64)]| {
            pairs.iter().map(|(tag, share)| ((*tag).to_owned(), *share)).collect()
        };
        let of = |pairs| share(&entry().service.tags, &shares(pairs));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("v1", 1.0), ("v2", 99.0)]), None);
        assert!(of(&[("v1", 0.0), ("v2", 50.0)]).unwrap().contains("0 %"));
        assert!(of(&[("v2", 100.0)]).unwrap().contains("no share"));
        assert_eq!(of(&[("v2", 90.0)]), None, "the rest is for the others");
    }
}
