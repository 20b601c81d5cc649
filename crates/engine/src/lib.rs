//! How to reach the Docker Engine: the flags, the connection, its events, and errors that say where and what.
//!
//! What a program asks the engine is in its own module `docker`; this is what they have in common.

mod endpoint;
mod error;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt};
use serde_json::Value;

pub use endpoint::Endpoint;
pub use error::Error;

/// Events are asked for from this long before now: the engine's clock may be a little behind.
const OVERLAP: Duration = Duration::from_secs(1);

/// What Podman says after an end: at the `die` before, it still answers that the container runs.
const PODMAN: [&str; 2] = ["cleanup", "remove"];

/// A connection to the engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
    host: Arc<str>,
    limit: Duration,
}

impl Engine {
    /// Prepares a connection on which each answer may take `limit`. Nothing is sent before the first
    /// question, but a socket or the files for TLS must be there.
    pub fn new(endpoint: &Endpoint, limit: Duration) -> Result<Self, Error> {
        let docker = endpoint.client(limit)?;
        Ok(Self { docker, host: endpoint.host().into(), limit })
    }

    /// Agrees with the engine on the version of the API, if it answers within `limit`.
    pub async fn negotiated(self, limit: Duration) -> Result<Self, Error> {
        let negotiation = self.docker.clone().negotiate_version();
        let docker = self.within(limit, "tell its version", negotiation).await?;
        Ok(Self { docker, ..self })
    }

    /// Returns what questions are put to.
    #[must_use]
    pub fn api(&self) -> &Docker {
        &self.docker
    }

    /// Waits for the answer to a question, as long as it may take; `what` completes "docker did not …".
    pub async fn ask<T>(
        &self,
        what: &str,
        question: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        self.within(self.limit, what, question).await
    }

    /// The same with a limit of its own.
    pub async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        question: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(limit, question).await {
            Ok(answer) => answer.map_err(|source| self.refused(what, source)),
            Err(_) => Err(Error::Slow { host: self.host.to_string(), what: what.to_owned() }),
        }
    }

    /// Returns everything about a container, by name or ID; `None` if there is none.
    pub async fn inspect(&self, word: &str) -> Result<Option<Value>, Error> {
        match self.ask("inspect a container", self.docker.inspect_container(word, None)).await {
            Ok(container) => Ok(Some(serde_json::to_value(container)?)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the events that the filters let through: those since a time (after 1970), as far as the
    /// engine remembers, or from a moment before now on; Podman's words for an end are among them. Their end, with or
    /// without an error, means that some may have been missed.
    pub fn events(
        &self,
        filters: &[(&str, &[&str])],
        since: Option<Duration>,
    ) -> impl Stream<Item = Result<EventMessage, Error>> + Send + use<> {
        let since = since.unwrap_or_else(a_moment_ago);
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut filters: HashMap<String, Vec<String>> =
            filters.iter().map(|(key, values)| ((*key).to_owned(), words(values))).collect();
        if let Some(events) = filters.get_mut("event") {
            events.extend(PODMAN.map(str::to_owned));
        }
        let options = EventsOptions {
            since: Some(format!("{}.{:09}", since.as_secs(), since.subsec_nanos())),
            until: None,
            filters: Some(filters),
        };
        let engine = self.clone();
        self.docker
            .events(Some(options))
            .map(move |event| event.map_err(|source| engine.refused("tell events", source)))
    }

    /// Returns the error of a question that was answered by `source`.
    #[must_use]
    pub fn refused(&self, what: &str, source: bollard::errors::Error) -> Error {
        Error::Request { host: self.host.to_string(), what: what.to_owned(), source }
    }
}

/// Returns the time, after 1970, from which events are asked for by who has seen none yet.
#[must_use]
pub fn a_moment_ago() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(OVERLAP)
}
