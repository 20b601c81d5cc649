//! The Docker Engine: what runs, and when to look again. The one file that uses bollard.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use serde_json::Value;

/// How long the engine may take for one answer; an inspection waits for a start under way.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to say that it is alive.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// Events are asked for from this long before now: the engine's clock may be a little behind.
const OVERLAP: Duration = Duration::from_secs(1);
/// The events of a container that may change what is registered for it.
const CONTAINER_EVENTS: [&str; 11] = [
    "start",
    "die",
    "kill",
    "stop",
    "pause",
    "unpause",
    "rename",
    "update",
    "destroy",
    "oom",
    "health_status",
];
/// The events of a network that do.
const NETWORK_EVENTS: [&str; 2] = ["connect", "disconnect"];

/// Where the engine is, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `unix:///path`, `tcp://host:port`, `http://…` or `https://…`.
    pub host: String,
    /// The folder of `ca.pem`, `cert.pem` and `key.pem`, where TLS is spoken.
    pub certificates: Option<PathBuf>,
}

/// Why the engine could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address, or the certificates for it, cannot be used.
    #[error("cannot use docker at {host}")]
    Connect {
        /// The address.
        host: String,
        /// What is wrong with it.
        #[source]
        source: bollard::errors::Error,
    },
    /// The address has a scheme that is not spoken here.
    #[error("docker's address {0:?} is none of unix://, tcp://, http:// and https://")]
    Scheme(String),
    /// The engine did not answer, or with an error.
    #[error("docker did not answer: {what}")]
    Request {
        /// What was asked.
        what: &'static str,
        /// What happened.
        #[source]
        source: bollard::errors::Error,
    },
    /// The engine did not answer in time.
    #[error("docker did not answer in time: {0}")]
    Slow(&'static str),
    /// An answer is not JSON as expected.
    #[error("docker's answer cannot be understood")]
    Answer(#[from] serde_json::Error),
}

/// A container as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its full ID.
    pub id: String,
    /// Whether it runs, paused or not.
    pub running: bool,
    /// Changes whenever something in the list does but for times and sizes.
    pub fingerprint: u64,
}

/// An event of a container, or of a network about one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The container's full ID.
    pub container: String,
    /// What happened to it.
    pub what: What,
    /// When, in nanoseconds since 1970, by the engine's clock.
    pub time_nano: i64,
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was sent a signal.
    Killed(String),
    /// It joined or left a network.
    Network,
    /// Anything else, by Docker's name for it.
    Other(String),
}

impl What {
    /// Returns Docker's name for it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Killed(_) => "kill",
            Self::Network => "network",
            Self::Other(name) => name.split(':').next().unwrap_or(name),
        }
    }
}

/// A connection to the engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine(Docker);

impl Engine {
    /// Connects, and agrees on the version of the API.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let docker = endpoint.client()?;
        let negotiated = in_time("version", PING_LIMIT, docker.negotiate_version()).await?;
        Ok(Self(negotiated))
    }

    /// Returns the events that matter, from a moment before now on; the end of the stream, with or
    /// without an error, means that events may have been missed.
    pub fn events(&self) -> impl Stream<Item = Result<Event, Error>> + use<> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = since.saturating_sub(OVERLAP);
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let options = EventsOptions {
            since: Some(format!("{}.{:09}", since.as_secs(), since.subsec_nanos())),
            until: None,
            filters: Some(HashMap::from([
                ("type".to_owned(), words(&["container", "network"])),
                ("event".to_owned(), [words(&CONTAINER_EVENTS), words(&NETWORK_EVENTS)].concat()),
            ])),
        };
        self.0.events(Some(options)).filter_map(|message| {
            std::future::ready(match message {
                Ok(message) => event(message).map(Ok),
                Err(source) => Some(Err(Error::Request { what: "events", source })),
            })
        })
    }

    /// Returns all containers that run, or (`all`) that exist.
    pub async fn list(&self, all: bool) -> Result<Vec<Listed>, Error> {
        let options = ListContainersOptions { all, ..Default::default() };
        let listed = in_time("list", ANSWER_LIMIT, self.0.list_containers(Some(options))).await?;
        listed.into_iter().map(|summary| Ok(summarise(&serde_json::to_value(summary)?))).collect()
    }

    /// Returns everything about a container, as the engine tells it; `None` if there is none.
    pub async fn inspect(&self, id: &str) -> Result<Option<Value>, Error> {
        match in_time("inspect", ANSWER_LIMIT, self.0.inspect_container(id, None)).await {
            Ok(container) => Ok(Some(serde_json::to_value(container)?)),
            Err(Error::Request {
                source: bollard::errors::Error::DockerResponseServerError { status_code: 404, .. },
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks whether the engine is alive.
    pub async fn ping(&self) -> Result<(), Error> {
        in_time("ping", PING_LIMIT, self.0.ping()).await.map(drop)
    }
}

impl Endpoint {
    /// Tells whether the address is of a kind that is spoken here.
    pub fn check(&self) -> Result<(), Error> {
        match self.host.split_once("://") {
            Some(("unix" | "tcp" | "http" | "https", rest)) if !rest.is_empty() => Ok(()),
            _ => Err(Error::Scheme(self.host.clone())),
        }
    }

    fn client(&self) -> Result<Docker, Error> {
        self.check()?;
        let limit = ANSWER_LIMIT.as_secs();
        let host = self.host.as_str();
        let client = match (&self.certificates, host.starts_with("unix://")) {
            (_, true) => Docker::connect_with_unix(host, limit, API_DEFAULT_VERSION),
            (Some(folder), false) => Docker::connect_with_ssl(
                host,
                &folder.join("key.pem"),
                &folder.join("cert.pem"),
                &folder.join("ca.pem"),
                limit,
                API_DEFAULT_VERSION,
            ),
            (None, false) => Docker::connect_with_http(host, limit, API_DEFAULT_VERSION),
        };
        client.map_err(|source| Error::Connect { host: host.to_owned(), source })
    }
}

async fn in_time<T>(
    what: &'static str,
    limit: Duration,
    answer: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|source| Error::Request { what, source }),
        Err(_) => Err(Error::Slow(what)),
    }
}

/// Returns what an event says about a container; only fields that every engine sends are used.
fn event(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let action = message.action?;
    let (container, what) = if message.typ == Some(EventMessageTypeEnum::NETWORK) {
        (attributes.remove("container")?, What::Network)
    } else if action == "kill" {
        (actor.id?, What::Killed(attributes.remove("signal").unwrap_or_default()))
    } else {
        (actor.id?, What::Other(action))
    };
    Some(Event { container, what, time_nano: message.time_nano.unwrap_or_default() })
}

fn summarise(summary: &Value) -> Listed {
    let mut fingerprint = 0_u64;
    for (key, value) in summary.as_object().into_iter().flatten() {
        let value = match (key.as_str(), value) {
            // "Up 3 minutes (healthy)": only what stands in brackets is a state.
            ("Status", Value::String(text)) => {
                fingerprint_of(&text.split_once('(').map_or("", |(_, state)| state))
            }
            ("SizeRw" | "SizeRootFs", _) => 0,
            (_, value) => unordered(value),
        };
        fingerprint = fingerprint.wrapping_add(fingerprint_of(&(key, value)));
    }
    let text = |key: &str| summary.get(key).and_then(Value::as_str).unwrap_or_default();
    Listed {
        id: text("Id").to_owned(),
        running: matches!(text("State"), "running" | "paused"),
        fingerprint,
    }
}

fn fingerprint_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns a fingerprint that does not depend on the order of maps and lists: the engine lists
/// ports in another order each time.
fn unordered(value: &Value) -> u64 {
    match value {
        Value::Array(values) => {
            values.iter().map(unordered).fold(1, |sum, one| sum.wrapping_add(fingerprint_of(&one)))
        }
        Value::Object(fields) => fields.iter().fold(2, |sum, (key, value)| {
            sum.wrapping_add(fingerprint_of(&(key, unordered(value))))
        }),
        value => fingerprint_of(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(message: Value) -> Option<Event> {
        event(serde_json::from_value(message).unwrap())
    }

    #[test]
    fn events_are_read_from_the_fields_that_new_engines_still_send() {
        let kill = json!({"Type": "container", "Action": "kill", "timeNano": 5,
            "Actor": {"ID": "c1", "Attributes": {"signal": "15"}}});
        let killed =
            Event { container: "c1".into(), what: What::Killed("15".into()), time_nano: 5 };
        assert_eq!(read(kill), Some(killed));
        let connect = json!({"Type": "network", "Action": "connect",
            "Actor": {"ID": "n1", "Attributes": {"container": "c1"}}});
        assert_eq!(read(connect).unwrap().what, What::Network);
        let health = json!({"Type": "container", "Action": "health_status: healthy",
            "Actor": {"ID": "c1"}});
        assert_eq!(read(health).unwrap().what.name(), "health_status");
        assert_eq!(read(json!({"Type": "container", "Action": "start"})), None);
    }

    #[test]
    fn the_fingerprint_changes_with_health_but_not_with_time() {
        let print = |status: &str| {
            summarise(&json!({"Id": "c", "State": "running", "Status": status})).fingerprint
        };
        assert_eq!(print("Up 2 minutes (healthy)"), print("Up 3 minutes (healthy)"));
        assert_ne!(print("Up 2 minutes (healthy)"), print("Up 2 minutes (unhealthy)"));
        assert_eq!(print("Up 2 minutes"), print("Up 3 hours"));
    }

    #[test]
    fn the_fingerprint_does_not_depend_on_the_order_of_ports() {
        let print = |ports: Value| summarise(&json!({"Id": "c", "Ports": ports})).fingerprint;
        let (a, b) = (json!({"PrivatePort": 80}), json!({"PrivatePort": 81}));
        assert_eq!(print(json!([a, b])), print(json!([b, a])));
        assert_ne!(print(json!([a, b])), print(json!([a, a])));
    }

    #[test]
    fn an_address_of_another_kind_is_refused() {
        for bad in ["", "ssh://host", "npipe:////./pipe/docker", "/var/run/docker.sock", "tcp://"] {
            let endpoint = Endpoint { host: bad.into(), certificates: None };
            assert!(matches!(endpoint.check(), Err(Error::Scheme(_))), "{bad}");
        }
    }
}
