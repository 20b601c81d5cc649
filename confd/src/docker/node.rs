//! All that runs on this node, and what happens to it: what `--source docker` is made of.

use std::pin::Pin;
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::ListContainersOptions;
use futures_util::{Stream, StreamExt};
use serde_json::Value;

use super::{Engine, Error};

/// The events after which a container may offer something else, or not what it did.
const EVENTS: [&str; 11] = [
    "start",
    "die",
    "kill",
    "pause",
    "unpause",
    "rename",
    "update",
    "destroy",
    "health_status",
    "connect",
    "disconnect",
];

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) container: String,
    /// The signal that it was sent, by name or number.
    pub(crate) signal: Option<String>,
    /// Whether it has just started.
    pub(crate) started: bool,
    /// When, in nanoseconds since 1970.
    pub(crate) at: i64,
}

/// Changes, one after the other.
pub(crate) struct Changes(Pin<Box<dyn Stream<Item = Result<Option<Change>, Error>> + Send>>);

impl Changes {
    /// Waits for the next one. An error, or their end, means that some may have been missed.
    pub(crate) async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.0.next().await.unwrap_or(Err(Error::Ended))? {
                return Ok(change);
            }
        }
    }
}

impl Engine {
    /// Returns the IDs of the running containers, paused or not.
    pub(crate) async fn running(&self) -> Result<Vec<String>, Error> {
        let listing = self.0.api().list_containers(Some(ListContainersOptions::default()));
        let listed = self.0.ask("list containers", listing).await?;
        Ok(listed.into_iter().filter_map(|container| container.id).collect())
    }

    /// Returns everything about a container; `None` if there is none.
    pub(crate) async fn inspect(&self, id: &str) -> Result<Option<Value>, Error> {
        self.0.inspect(id).await
    }

    /// Returns what happens to containers: what came after `seen` (nanoseconds since 1970), as far as the engine remembers.
    pub(crate) fn changes(&self, seen: i64) -> Changes {
        let since = u64::try_from(seen).ok().map(Duration::from_nanos);
        let is_new = move |change: &Change| change.at > seen;
        let filters = [("type", &["container", "network"][..]), ("event", &EVENTS)];
        let events = self.0.events(&filters, since);
        let changes = events.map(move |event| Ok(change(event?).filter(is_new)));
        Changes(Box::pin(changes))
    }
}

/// Reads an event from the fields that every engine sends; one that names no container says nothing.
fn change(event: EventMessage) -> Option<Change> {
    let actor = event.actor?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let action = event.action?;
    let container = if event.typ == Some(EventMessageTypeEnum::NETWORK) {
        attributes.remove("container")?
    } else {
        actor.id?
    };
    let signal = (action == "kill").then(|| attributes.remove("signal").unwrap_or_default());
    let at = event.time_nano.unwrap_or_default();
    Some(Change { container, signal, started: action == "start", at })
}
