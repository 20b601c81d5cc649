//! The Docker Engine. The one module that uses bollard.

mod containers;
mod ending;
mod last_words;

use std::time::Duration;

use futures_util::{Stream, StreamExt};

pub(crate) use containers::{Found, Recipe, Unknown};
pub(crate) use engine::{Endpoint, Error};
pub(crate) use last_words::Ended;

use crate::exposed;

/// How long the engine may take for one answer; it starts 7 or 8 containers a second.
const ANSWER: Duration = Duration::from_mins(1);
/// The events after which there may be something to do.
const EVENTS: [&str; 5] = ["start", "die", "destroy", "pause", "unpause"];

/// A connection to the engine; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine(engine::Engine);

impl Engine {
    /// Prepares a connection; nothing is sent before the first question, but a socket must be
    /// there.
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self, Error> {
        engine::Engine::new(endpoint, ANSWER).map(Self)
    }

    /// Returns a signal for each event of a container that may matter, from a moment before now
    /// on. Its end, with or without an error, means that events may have been missed.
    pub(crate) fn events(&self) -> impl Stream<Item = Result<(), Error>> + use<> {
        self.0
            .events(&[("type", &["container"]), ("event", &EVENTS)], None)
            .map(|event| event.map(drop))
    }

    /// Returns the TCP ports that an image exposes; none where there is no such image.
    pub(crate) async fn exposed(&self, image: &str) -> Result<Vec<u16>, Error> {
        let inspection = self.0.api().inspect_image(image);
        match self.0.ask(&format!("inspect image {image}"), inspection).await {
            Ok(image) => {
                let exposed = image.config.and_then(|config| config.exposed_ports);
                let mut ports: Vec<_> = exposed
                    .unwrap_or_default()
                    .iter()
                    .flat_map(|port| exposed::tcp(port))
                    .collect();
                ports.sort_unstable();
                Ok(ports)
            }
            Err(error) if error.status() == Some(404) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
