//! What the engine says of containers with a label, and when there is something new.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;

use bollard::query_parameters::ListContainersOptions;
use futures_util::{Stream, StreamExt};

use super::{Engine, Error};

/// The events after which other containers run than before.
const EVENTS: [&str; 3] = ["start", "die", "destroy"];

/// A container and its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labelled {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// News of containers, one after the other.
pub(crate) struct Events(Pin<Box<dyn Stream<Item = Result<(), Error>> + Send>>);

impl Events {
    /// Waits for the next one. An error, or their end, means that some may have been missed.
    pub(crate) async fn next(&mut self) -> Result<(), Error> {
        self.0.next().await.unwrap_or(Err(Error::Ended))
    }
}

impl Engine {
    /// Returns the containers with a label, `key` or `key=value`, that are in one of these states.
    pub(crate) async fn with_label(
        &self,
        label: &str,
        statuses: &[&str],
    ) -> Result<Vec<Labelled>, Error> {
        let statuses = statuses.iter().map(ToString::to_string).collect();
        let options = ListContainersOptions {
            filters: Some(HashMap::from([
                ("label".to_owned(), vec![label.to_owned()]),
                ("status".to_owned(), statuses),
            ])),
            ..ListContainersOptions::default()
        };
        let listing = self.0.api().list_containers(Some(options));
        let mut listed: Vec<Labelled> = self
            .0
            .ask("list containers", listing)
            .await?
            .into_iter()
            .filter_map(|container| {
                let id = container.id?;
                let name = container.names.unwrap_or_default().into_iter().next();
                let name = name.map_or_else(|| id.clone(), |n| n.trim_start_matches('/').into());
                let labels = container.labels.unwrap_or_default().into_iter().collect();
                Some(Labelled { id, name, labels })
            })
            .collect();
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    /// Returns the name of the engine's node.
    pub(crate) async fn node(&self) -> Result<String, Error> {
        let info = self.0.ask("tell its name", self.0.api().info()).await?;
        Ok(info.name.unwrap_or_default())
    }

    /// Returns the starts and ends of containers with the label `key`, from a moment before now on.
    pub(crate) fn events(&self, key: &str) -> Events {
        let filters = [("type", &["container"][..]), ("event", &EVENTS), ("label", &[key])];
        Events(Box::pin(self.0.events(&filters, None).map(|event| event.map(drop))))
    }
}
