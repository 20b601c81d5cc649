//! One daemon has one state folder: two of them would write the same files and take each other's orders.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long a daemon that is just ending may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look whether it has ended.
const LOOK: Duration = Duration::from_millis(100);

/// Claims `state_dir` for as long as the returned file is open; `None` where the folder cannot be written to, so that
/// nothing is lost there either. Waits a while for a daemon that is ending, then says who has it.
pub(crate) async fn claim(
    state_dir: &Path,
    token: &CancellationToken,
) -> Result<Option<File>, String> {
    let path = state_dir.join("confd.lock");
    let Ok(file) = File::options().create(true).append(true).open(&path) else { return Ok(None) };
    let end = Instant::now() + PATIENCE;
    let mut waits = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => {
                tracing::debug!(path = %path.display(), %error, "cannot be locked");
                return Ok(None);
            }
            Err(TryLockError::WouldBlock) if token.is_cancelled() || Instant::now() >= end => {
                return Err(format!(
                    "another confd uses {}: give each its own --state-dir",
                    state_dir.display()
                ));
            }
            Err(TryLockError::WouldBlock) => {
                if !waits {
                    tracing::info!(folder = %state_dir.display(), "another confd uses it: waiting for its end");
                }
                waits = true;
                sleep(LOOK).await;
            }
        }
    }
}
