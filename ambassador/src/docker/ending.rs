//! The end of a container that somebody asks for, and how long that may take.

use std::time::Duration;

use bollard::query_parameters::StopContainerOptions;
use services::Container;

use super::{ANSWER, Engine, Error};

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// Its whole ID.
    pub(crate) id: String,
    /// How many seconds it may take to end, as it says itself.
    stop_timeout: u64,
}

impl Engine {
    /// Returns a running container, by name or ID.
    pub(crate) async fn running(&self, word: &str) -> Result<Option<Running>, Error> {
        let Some(document) = self.0.inspect(word).await? else { return Ok(None) };
        let container = Container::from_inspect(&document).ok();
        let running = container.filter(|_| document["State"]["Running"] == true);
        Ok(running.map(|one| Running { id: one.id, stop_timeout: one.stop_timeout }))
    }

    /// Stops a container; `seconds` is how long it may take to end, if that is not its own matter.
    pub(crate) async fn stop(&self, one: &Running, seconds: Option<i32>) -> Result<(), Error> {
        let options = StopContainerOptions { t: seconds, ..StopContainerOptions::default() };
        // The engine answers when the container has ended, and kills it when its time is up.
        let api = self.0.api().clone().with_timeout(limit(seconds, one.stop_timeout));
        let stop = api.stop_container(&one.id, Some(options));
        match stop.await.map_err(|source| self.0.refused("stop it", source)) {
            Err(error) if error.status() == Some(304) => Ok(()),
            done => done,
        }
    }
}

/// Returns how long the engine may take for its answer; fewer `seconds` than none mean as long as it takes.
fn limit(seconds: Option<i32>, own: u64) -> Duration {
    let forever = u64::from(u32::MAX);
    let seconds = seconds.map_or(own, |seconds| u64::try_from(seconds).unwrap_or(forever));
    Duration::from_secs(seconds) + ANSWER
}

#[cfg(test)]
mod tests {
    use engine::Endpoint;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// Stops a container of an engine that answers after `takes` seconds.
    async fn stopped(own: u64, seconds: Option<i32>, takes: u64) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            tokio::time::sleep(Duration::from_secs(takes)).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        });
        let engine = Engine::new(&Endpoint::at(format!("unix://{}", socket.display()))).unwrap();
        let one = Running { id: "0123456789ab".into(), stop_timeout: own };
        let stopped = engine.stop(&one, seconds).await;
        answering.abort();
        stopped.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_container_is_waited_for_as_long_as_it_may_take() {
        assert!(stopped(300, None, 301).await, "its own time");
        assert!(stopped(10, Some(300), 301).await, "the time that it is given");
        assert!(stopped(10, Some(-1), 1_000_000).await, "as long as it takes");
        assert!(!stopped(300, Some(10), 301).await, "the engine does not answer");
    }
}
