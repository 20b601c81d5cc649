//! Whether HAProxy serves, for the health check of an image.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

use crate::args::Place;
use crate::master::patient;

/// The master answers nobody while it reloads, about 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns success when the master answers and has a worker; else says why not.
pub(crate) async fn healthcheck(place: &Place) -> ExitCode {
    let deadline = Instant::now() + PATIENCE;
    let socket = place.directory.master();
    match patient(&socket, deadline, |processes| !processes.workers.is_empty()).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("haproxy does not serve: {}: {error}", socket.display());
            ExitCode::FAILURE
        }
    }
}
