//! The Docker Engine: what runs, and when to look again. The one module that uses bollard.

mod event;
mod listed;

use std::time::Duration;

use bollard::query_parameters::ListContainersOptions;
use futures_util::{Stream, StreamExt};
use serde_json::Value;

use event::{CONTAINER_EVENTS, NETWORK_EVENTS, event};
use listed::summarise;

pub use engine::{Endpoint, Error};
pub use event::{Event, What};
pub use listed::Listed;

/// How long the engine may take for one answer; an inspection waits for a start under way.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to say that it is alive.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// A connection to the engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine(engine::Engine);

impl Engine {
    /// Connects, and agrees on the version of the API.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        engine::Engine::new(endpoint, ANSWER_LIMIT)?.negotiated(PING_LIMIT).await.map(Self)
    }

    /// Returns the events that matter, from a moment before now on; the end of the stream, with or
    /// without an error, means that events may have been missed.
    pub fn events(&self) -> impl Stream<Item = Result<Event, Error>> + use<> {
        let names = [&CONTAINER_EVENTS[..], &NETWORK_EVENTS].concat();
        let filters = [("type", &["container", "network"][..]), ("event", &names)];
        self.0.events(&filters, None).filter_map(|message| {
            std::future::ready(match message {
                Ok(message) => event(message).map(Ok),
                Err(error) => Some(Err(error)),
            })
        })
    }

    /// Returns all containers that run, or (`all`) that exist.
    pub async fn list(&self, all: bool) -> Result<Vec<Listed>, Error> {
        let options = ListContainersOptions { all, ..Default::default() };
        let listing = self.0.api().list_containers(Some(options));
        let listed = self.0.ask("list containers", listing).await?;
        listed.into_iter().map(|summary| Ok(summarise(&serde_json::to_value(summary)?))).collect()
    }

    /// Returns everything about a container, as the engine tells it; `None` if there is none.
    pub async fn inspect(&self, id: &str) -> Result<Option<Value>, Error> {
        self.0.inspect(id).await
    }

    /// Asks whether the engine is alive.
    pub async fn ping(&self) -> Result<(), Error> {
        self.0.within(PING_LIMIT, "say that it is alive", self.0.api().ping()).await.map(drop)
    }
}
