//! What each ambassador reports of itself: the documents that confd keeps in Consul.

use std::collections::BTreeMap;
use std::time::SystemTime;

use consul::KvPair;
use serde::{Deserialize, Serialize};

/// Where they are: `ambassadors/<node>/<id>`.
pub(crate) const PREFIX: &str = "ambassadors/";

/// One ambassador and what it does with each instance.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Document {
    pub(crate) node: String,
    pub(crate) id: String,
    pub(crate) resource: Option<String>,
    /// The name of the client's container, for an ambassador that has one client.
    pub(crate) client: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) generation: u64,
    pub(crate) applied_at: Option<String>,
    pub(crate) published_at: Option<String>,
    /// How old the data was when this was written.
    pub(crate) data_age_seconds: Option<f64>,
    pub(crate) event_to_serving_ms: Option<f64>,
    pub(crate) error: Option<String>,
    /// Whether it has an HAProxy; other files are published, too.
    pub(crate) load_balancer: bool,
    /// Whether its HAProxy, which does not answer, may serve all the same.
    pub(crate) silent: bool,
    /// What its one client asks for; of an ambassador that serves all there is nothing here.
    pub(crate) upstreams: Option<Vec<Upstream>>,
    /// Instances by their keys (`ServiceEntry::key`), by backend.
    pub(crate) backends: BTreeMap<String, Backend>,
}

/// A service that a client asks for, and the names that may be meant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Upstream {
    service: String,
    written: String,
    port: u16,
}

/// The state of each instance, or, where there are very many, the number in each state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Backend {
    States(BTreeMap<String, State>),
    Counts(BTreeMap<State, u64>),
}

/// What an ambassador does with an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Serving,
    Joining,
    Draining,
    /// It could be served, and its share of the traffic is 0.
    Weightless,
    Down,
    Held,
    LeftOut,
    Maintenance,
    /// A word of a newer confd.
    #[serde(untagged)]
    Other(String),
}

impl Document {
    /// Reads a document; what is none is left out.
    pub(crate) fn read(pair: &KvPair) -> Option<Self> {
        match serde_json::from_slice(&pair.value) {
            Ok(document) => Some(document),
            Err(error) => {
                tracing::warn!(key = pair.key, %error, "not understood");
                None
            }
        }
    }

    /// Returns when it was written.
    pub(crate) fn published(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(self.published_at.as_deref()?).ok()
    }

    /// Returns `<node>/<id>`, or `<node>/<client>` where that is known.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.node, self.client.as_ref().unwrap_or(&self.id))
    }

    /// Returns the backends of a service with their names: those that are named after it or have one of its instances.
    pub(crate) fn backends_of<'a>(
        &'a self,
        service: &'a str,
        instances: &'a [&'a str],
    ) -> impl Iterator<Item = (&'a str, &'a Backend)> {
        self.backends.iter().filter_map(move |(name, backend)| {
            // One of rng-80 that is empty is kept for rng-80, and not for rng, whatever that has now.
            let named = is_of(name, service) && !(backend.is_empty() && is_longer(name, service));
            (named || instances.iter().any(|id| backend.has(id)))
                .then_some((name.as_str(), backend))
        })
    }

    /// Says why a service is not served here although it is to be, where it has no backend that would tell.
    pub(crate) fn lacks(&self, service: &str, instances: &[&str]) -> Option<String> {
        if self.backends_of(service, instances).next().is_some() {
            return None;
        }
        let means = |one: &Upstream| {
            let ported = || format!("{}-{}", one.service, one.port) == service;
            one.service == service || one.written == service || ported()
        };
        let wanted = match &self.upstreams {
            // A template of somebody's own may name its backends otherwise: where there are some and all is well, it is right.
            Some(upstreams) => {
                (self.error.is_some() || self.backends.is_empty()) && upstreams.iter().any(means)
            }
            // Who serves everything has backends as soon as its HAProxy has answered once.
            None => self.error.is_some() && self.backends.is_empty(),
        };
        let why = self.error.as_deref().unwrap_or("it is not configured yet");
        (self.load_balancer && wanted).then(|| format!("{}: {why}", self.name()))
    }

    /// Returns what it does with an instance in each backend that has it.
    pub(crate) fn states(&self, instance: &str) -> impl Iterator<Item = &State> {
        self.backends.values().filter_map(move |backend| match backend {
            Backend::States(all) => all.get(instance),
            Backend::Counts(_) => None,
        })
    }

    /// Says why connections to an instance of a service may be left here, if they may.
    pub(crate) fn keeps(&self, service: &str, instance: &str) -> Option<String> {
        if let Some(state) = self.states(instance).find(|state| state.may_have_connections()) {
            return Some(format!("{instance} is {} at {}", state.as_str(), self.name()));
        }
        if self.silent
            && let Some(why) = self.lacks(service, &[])
        {
            return Some(why);
        }
        let counted =
            |backend: &Backend| matches!(backend, Backend::Counts(counts) if !counts.is_empty());
        self.backends_of(service, &[])
            .any(|(_, backend)| counted(backend))
            .then(|| format!("{} reports numbers only, not {instance}", self.name()))
    }
}

/// Tells whether a backend is a service's: it may say before the name what it speaks, and after it at which port.
fn is_of(backend: &str, service: &str) -> bool {
    let bare = bare(backend);
    let port = |rest: &str| rest.starts_with(['_', ':', '-']) && is_number(&rest[1..]);
    // What has several ports is registered as web-80, and asked for as the port 80 of web.
    let asked = || bare.rsplit_once('_').filter(|(_, port)| is_number(port));
    bare == service
        || bare.strip_prefix(service).is_some_and(port)
        || asked().is_some_and(|(name, port)| {
            service.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')) == Some(port)
        })
}

/// Tells whether a backend may be that of a service with a longer name.
fn is_longer(backend: &str, service: &str) -> bool {
    bare(backend).strip_prefix(service).is_some_and(|rest| rest.starts_with(['-', ':']))
}

/// Returns the port whose instances a service's backend is for, where its name tells one: `web_80`.
pub(crate) fn port_of<'a>(backend: &'a str, service: &str) -> Option<&'a str> {
    bare(backend).strip_prefix(service)?.strip_prefix('_').filter(|port| is_number(port))
}

/// Returns a backend's name without what it speaks.
fn bare(backend: &str) -> &str {
    let bare = backend.strip_prefix("http_").or_else(|| backend.strip_prefix("tcp_"));
    bare.unwrap_or(backend)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

impl Backend {
    fn is_empty(&self) -> bool {
        matches!(self, Self::States(all) if all.is_empty())
    }

    /// Whether it is known to have an instance.
    pub(crate) fn has(&self, instance: &str) -> bool {
        matches!(self, Self::States(all) if all.contains_key(instance))
    }
}

impl State {
    /// Whether it does with an instance all that is wanted: one with a share of 0 gets nothing on purpose.
    pub(crate) fn as_wanted(&self) -> bool {
        matches!(self, Self::Serving | Self::Weightless)
    }

    /// Whether new connections may come, or old ones may still be there.
    pub(crate) fn may_have_connections(&self) -> bool {
        // Who is down gets nothing new, but keeps what it had. Into maintenance an instance comes
        // when its last connection has ended.
        !matches!(self, Self::LeftOut | Self::Maintenance)
    }

    /// Returns the word for it.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Serving => "serving",
            Self::Joining => "joining",
            Self::Draining => "draining",
            Self::Weightless => "weightless",
            Self::Down => "down",
            Self::Held => "held",
            Self::LeftOut => "left out",
            Self::Maintenance => "maintenance",
            Self::Other(word) => word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Document> {
        Document::read(&KvPair { value: text.into(), ..KvPair::default() })
    }

    #[test]
    fn states_and_counts_and_words_of_newer_versions_are_read() {
        let document = read(
            r#"{"node": "n1", "id": "0123456789ab", "client": null, "generation": 7, "data_age_seconds": 0.5,
                "backends": {"http_rng": {"n1:rng-1:80": "serving", "n1:rng-2:80": "left_out"},
                             "tcp_many": {"serving": 800, "joining": 2}, "tcp_new": {"x": "resting"}}}"#,
        )
        .unwrap();
        assert_eq!(document.states("n1:rng-2:80").next(), Some(&State::LeftOut));
        assert_eq!(document.states("x").next(), Some(&State::Other("resting".into())));
        let Backend::Counts(counts) = &document.backends["tcp_many"] else { panic!("no counts") };
        assert_eq!(counts[&State::Serving], 800);
        assert_eq!(document.backends_of("rng", &[]).count(), 1);
        assert_eq!(document.backends_of("other", &["x"]).count(), 1);
        assert_eq!(document.name(), "n1/0123456789ab");
        assert_eq!(read("nonsense"), None);
    }

    #[test]
    fn who_is_to_serve_and_tells_nothing_is_not_taken_for_one_who_has_nothing_to_do_with_it() {
        let error = Some("cannot bind socket".to_owned());
        let hosts = Document { node: "n1".into(), id: "all".into(), error, ..Document::default() };
        assert_eq!(hosts.lacks("rng", &[]), None, "no load balancer, whatever is wrong with it");
        let shared = Document { load_balancer: true, ..hosts };
        assert_eq!(shared.lacks("rng", &[]).unwrap(), "n1/all: cannot bind socket");
        assert_eq!(shared.keeps("rng", "a"), None, "it does not even run");
        let silent = Document { silent: true, ..shared.clone() };
        assert!(silent.keeps("rng", "a").is_some());
        let fine = Document { error: None, ..shared.clone() };
        assert_eq!(
            fine.lacks("rng", &[]),
            None,
            "everything is as it should be, and there is no rng"
        );
        let other = [("http_x".to_owned(), Backend::States(BTreeMap::new()))];
        let other = Document { backends: other.into(), ..shared.clone() };
        assert_eq!(other.lacks("rng", &[]), None, "the error is about something else");
        let asks = Upstream { service: "my-db".into(), written: "my_db".into(), port: 80 };
        let own = Document { upstreams: Some(vec![asks]), silent: true, ..shared };
        let named = [("db".to_owned(), Backend::States(BTreeMap::new()))];
        let named = Document { error: None, backends: named.into(), ..own.clone() };
        assert_eq!(named.lacks("my-db", &[]), None, "a template that names its backends otherwise");
        for (service, lacks) in [
            ("my-db", true),
            ("my_db", true),
            ("my-db-80", true),
            ("my-db-81", false),
            ("x", false),
        ] {
            assert_eq!(own.lacks(service, &[]).is_some(), lacks, "{service}");
            assert_eq!(own.keeps(service, "a").is_some(), lacks, "{service}");
        }
    }

    #[test]
    fn what_is_kept_for_a_longer_name_is_not_the_shorter_ones() {
        let states = |ids: &[&str]| {
            Backend::States(ids.iter().map(|id| ((*id).to_owned(), State::Serving)).collect())
        };
        for (name, ids, is) in [
            ("http_web", &[][..], true),
            ("web_80", &[], true),
            ("tcp_web-80", &[], false),
            ("tcp_web-80", &["a"], true),
        ] {
            let backends = [(name.to_owned(), states(ids))].into();
            let document = Document { backends, ..Document::default() };
            assert_eq!(document.backends_of("web", &[]).count() == 1, is, "{name} {ids:?}");
        }
    }

    #[test]
    fn a_backends_name_tells_its_service() {
        for (backend, service, is) in [
            ("http_rng", "rng", true),
            ("tcp_redis", "redis", true),
            ("rng", "rng", true),
            ("rng_80", "rng", true),
            ("tcp_rng-80", "rng", true),
            ("http_rng-api", "rng", false),
            ("http_rng", "ng", false),
            ("rng_", "rng", false),
            ("web_80", "web-80", true),
            ("tcp_web_80", "web-80", true),
            ("web_443", "web-80", false),
            ("web_8", "web-80", false),
            ("web_80", "web-", false),
            ("my-web_80", "web-80", false),
        ] {
            assert_eq!(is_of(backend, service), is, "{backend} {service}");
        }
    }
}
