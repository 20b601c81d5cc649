//! The Docker Engine. The one module that uses bollard.

mod containers;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::query_parameters::EventsOptions;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};

pub(crate) use containers::Recipe;

use crate::link::tcp_ports;

/// How long the engine may take for one answer; it starts 7 or 8 containers a second.
const ANSWER: Duration = Duration::from_mins(1);
/// Events are asked for from this long before now: the engine's clock may be a little behind.
const OVERLAP: Duration = Duration::from_secs(1);
/// The events after which there may be something to do.
const EVENTS: [&str; 5] = ["start", "die", "destroy", "pause", "unpause"];

/// Why the engine could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("docker's address {0:?} is neither unix://PATH nor tcp://HOST:PORT")]
    Address(String),
    #[error("cannot use docker at {host}")]
    Connect { host: String, source: bollard::errors::Error },
    #[error("docker did not {what}")]
    Request { what: String, source: bollard::errors::Error },
    #[error("docker did not {0} in time")]
    Slow(String),
    #[error("docker's events ended")]
    Ended,
}

/// A connection to the engine; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine(Docker);

impl Engine {
    /// Prepares a connection; nothing is sent before the first question, but a socket must be
    /// there.
    pub(crate) fn new(host: &str) -> Result<Self, Error> {
        let seconds = ANSWER.as_secs();
        let docker = if let Some(path) = host.strip_prefix("unix://") {
            Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION)
        } else if host.starts_with("tcp://") || host.starts_with("http://") {
            Docker::connect_with_http(host, seconds, API_DEFAULT_VERSION)
        } else {
            return Err(Error::Address(host.to_owned()));
        };
        docker.map(Self).map_err(|source| Error::Connect { host: host.to_owned(), source })
    }

    /// Returns a signal for each event of a container that may matter, from a moment before now
    /// on. Its end, with or without an error, means that events may have been missed.
    pub(crate) fn events(&self) -> impl Stream<Item = Result<(), Error>> + use<> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = since.saturating_sub(OVERLAP);
        let options = EventsOptions {
            since: Some(format!("{}.{:09}", since.as_secs(), since.subsec_nanos())),
            until: None,
            filters: Some(HashMap::from([
                ("type".to_owned(), vec!["container".to_owned()]),
                ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
            ])),
        };
        self.0.events(Some(options)).map(|event| match event {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Request { what: "tell events".to_owned(), source }),
        })
    }

    /// Returns the TCP ports that an image exposes; none where there is no such image.
    pub(crate) async fn exposed(&self, image: &str) -> Result<Vec<u16>, Error> {
        match asked(&format!("inspect image {image}"), self.0.inspect_image(image)).await {
            Ok(image) => {
                let exposed = image.config.and_then(|config| config.exposed_ports);
                let mut ports: Vec<_> =
                    exposed.unwrap_or_default().iter().flat_map(|port| tcp_ports(port)).collect();
                ports.sort_unstable();
                Ok(ports)
            }
            Err(error) if error.status() == Some(404) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl Error {
    /// Returns the engine's status code, if it answered.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Request {
                source: bollard::errors::Error::DockerResponseServerError { status_code, .. },
                ..
            } => Some(*status_code),
            _ => None,
        }
    }
}

/// Waits for an answer, but not for ever.
async fn asked<T>(
    what: &str,
    question: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER, question).await {
        Ok(answer) => answer.map_err(|source| Error::Request { what: what.to_owned(), source }),
        Err(_) => Err(Error::Slow(what.to_owned())),
    }
}
