//! What all workers share.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::board::Board;
use crate::control::Workers;
use crate::exec;
use crate::metrics::Metrics;
use crate::publish::Reports;
use crate::watch::Watches;

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// Where the data comes from.
    pub watches: Arc<Watches>,
    /// What Prometheus can ask.
    pub metrics: Metrics,
    /// How each resource is doing.
    pub board: Board,
    /// By what the other commands reach the workers.
    pub workers: Workers,
    /// What each load balancer serves, for others to read.
    pub reports: Reports,
    /// Where generations are kept.
    pub state_dir: PathBuf,
    /// Where Docker is.
    pub docker: engine::Endpoint,
    /// The programs that run once, with `--once`.
    pub programs: Option<Programs>,
    /// How long a load balancer that has just been found, or is not there yet, may take until it can be reached.
    pub patience: Duration,
}

/// The programs of a single run, and how they ended. Copies are the same.
#[derive(Clone, Debug, Default)]
pub struct Programs(Arc<Mutex<Vec<exec::Ended>>>);

impl Programs {
    pub(crate) fn add(&self, program: exec::Ended) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(program);
    }

    /// Waits for the end of all, and returns the first exit code that is not 0; 128 and its number for a signal.
    pub async fn ended(&self) -> u8 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut code = 0;
        for mut program in all {
            let status = program.wait_for(Option::is_some).await.ok().and_then(|status| *status);
            let this = status.map_or(1, |status| {
                let of_signal = || 128 + status.signal().unwrap_or_default();
                u8::try_from(status.code().unwrap_or_else(of_signal)).unwrap_or(u8::MAX)
            });
            code = if code == 0 { this } else { code };
        }
        code
    }
}
