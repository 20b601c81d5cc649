//! Waits until ambassadors that were just made can be configured.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::plan::Identity;
use super::resources::short;
use crate::directory::Directory;
use crate::master::patient;

/// How long all of them may take: a third of a second is usual for one.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until the HAProxy of each ambassador answers; returns how many do not. Without the volume, as `folder`, nothing can
/// be seen.
pub(crate) async fn silent(folder: &Path, volume: &str, wanted: &BTreeSet<Identity>) -> usize {
    if !folder.is_dir() {
        return 0;
    }
    let deadline = Instant::now() + LIMIT;
    let answers = wanted.iter().map(async |identity| {
        let socket = socket(folder, identity);
        let answer = patient(&socket, deadline, |processes| !processes.workers.is_empty()).await;
        if let Err(error) = &answer {
            tracing::warn!(
                client = identity.container,
                "its ambassador does not answer at {} (the volume {volume:?} must be mounted there): {error}",
                socket.display()
            );
        }
        answer.is_err()
    });
    join_all(answers).await.into_iter().filter(|silent| *silent).count()
}

/// Returns where an ambassador's HAProxy answers, in the volume.
pub(crate) fn socket(folder: &Path, identity: &Identity) -> PathBuf {
    Directory::new(&folder.join(short(&identity.container))).master()
}
