//! The Docker Engine: containers that are told about a new file. The one module that uses bollard.

use std::time::Duration;

use bollard::query_parameters::{KillContainerOptions, RestartContainerOptions};
use nix::sys::signal::Signal;

mod follow;
mod node;

pub(crate) use engine::{Endpoint, Error};
pub(crate) use follow::Labelled;
pub(crate) use node::Change;

/// A connection to the engine; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine(engine::Engine);

/// A container as the engine lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) name: String,
}

impl Engine {
    /// Prepares a connection on which each answer may take `limit`; nothing is sent before the first question.
    pub(crate) fn new(endpoint: &Endpoint, limit: Duration) -> Result<Self, Error> {
        engine::Engine::new(endpoint, limit).map(Self)
    }

    /// Returns the running containers with a label: `key`, or `key=value`.
    pub(crate) async fn labelled(&self, label: &str) -> Result<Vec<Listed>, Error> {
        let containers = self.with_label(label, &["running"]).await?;
        let mut listed: Vec<_> =
            containers.into_iter().map(|one| Listed { id: one.id, name: one.name }).collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Sends `signal` to a container's main process. One that has ended meanwhile is no error.
    pub(crate) async fn signal(&self, container: &Listed, signal: Signal) -> Result<(), Error> {
        let options = KillContainerOptions { signal: signal.as_str().to_owned() };
        let killing = self.0.api().kill_container(&container.id, Some(options));
        let what = format!("send {} to {}", signal.as_str(), container.name);
        settled(self.0.ask(&what, killing).await)
    }

    /// Restarts a container, which has its own time to stop. One that is gone is no error.
    pub(crate) async fn restart(&self, container: &Listed) -> Result<(), Error> {
        let restarting =
            self.0.api().restart_container(&container.id, None::<RestartContainerOptions>);
        settled(self.0.ask(&format!("restart {}", container.name), restarting).await)
    }
}

/// A container that is gone, or does not run any more, reads the new file when it starts.
fn settled(answer: Result<(), Error>) -> Result<(), Error> {
    match answer {
        Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(()),
        other => other,
    }
}
