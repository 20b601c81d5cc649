//! Notices that resources or templates should be read again: they were edited, or SIGHUP says so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Quiet time after an edit: editors and copies write in several steps.
const QUIET: Duration = Duration::from_millis(60);
/// A folder that is never quiet is read at least this often.
const LONGEST: Duration = Duration::from_millis(600);

/// Why everything is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked for it: what is as it was is looked at, too.
    Hangup,
    /// A file has changed.
    Edit,
}

/// Waits for reasons to read again.
pub struct Reasons {
    hangup: Signal,
    edited: Arc<Notify>,
    /// When the first edit was noticed that was not told yet: who waits may be called away.
    untold: Option<Instant>,
    /// `None` where the system cannot watch the folder; SIGHUP is left then.
    _watcher: Option<RecommendedWatcher>,
}

impl Reasons {
    /// Starts to watch `confdir` and everything below.
    pub fn new(confdir: &Path) -> std::io::Result<Self> {
        let edited = Arc::new(Notify::new());
        let watcher = watcher(confdir, Arc::clone(&edited))
            .inspect_err(|error| {
                tracing::warn!(confdir = %confdir.display(), %error, "cannot be watched: only SIGHUP reloads");
            })
            .ok();
        Ok(Self { hangup: signal(SignalKind::hangup())?, edited, untold: None, _watcher: watcher })
    }

    /// Returns when there is a reason, and it has been quiet since.
    pub async fn next(&mut self) -> Reason {
        if self.untold.is_none() {
            tokio::select! {
                _ = self.hangup.recv() => return Reason::Hangup,
                () = self.edited.notified() => self.untold = Some(Instant::now()),
            }
        }
        let longest = self.untold.unwrap_or_else(Instant::now) + LONGEST;
        let settled =
            async { while tokio::time::timeout(QUIET, self.edited.notified()).await.is_ok() {} };
        // Long enough or quiet: either is a good moment.
        drop(tokio::time::timeout_at(longest, settled).await);
        self.untold = None;
        Reason::Edit
    }
}

fn watcher(confdir: &Path, edited: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files must not be a reason to read them again.
        let matters = event.is_ok_and(|event| match event.kind {
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            _ => true,
        });
        if matters {
            edited.notify_one();
        }
    })?;
    watcher.watch(confdir, RecursiveMode::Recursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than a file system takes to tell.
    const LIMIT: Duration = Duration::from_secs(20);
    /// No edit comes so late.
    const SILENCE: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn edits_are_noticed_and_reads_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("templates")).unwrap();
        let path = folder.path().join("templates/a");
        std::fs::write(&path, "one").unwrap();
        let mut reasons = Reasons::new(folder.path()).unwrap();
        std::fs::write(&path, "two").unwrap();
        let reason = tokio::time::timeout(LIMIT, reasons.next()).await;
        assert_eq!(reason, Ok(Reason::Edit));
        // On a busy machine one edit may be told in parts.
        while tokio::time::timeout(SILENCE, reasons.next()).await.is_ok() {}
        std::fs::read(&path).unwrap();
        let again = tokio::time::timeout(SILENCE, reasons.next()).await;
        assert!(again.is_err(), "reading was taken for an edit");
    }

    #[tokio::test]
    async fn an_edit_is_told_although_who_waited_was_called_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut reasons = Reasons::new(folder.path()).unwrap();
        std::fs::write(folder.path().join("a"), "one").unwrap();
        // Away as soon as the edit is noticed, before it has been quiet.
        while reasons.untold.is_none() {
            assert!(tokio::time::timeout(Duration::ZERO, reasons.next()).await.is_err());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let later = tokio::time::timeout(LIMIT, reasons.next()).await;
        assert_eq!(later, Ok(Reason::Edit));
    }
}
