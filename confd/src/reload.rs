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

    #[tokio::test]
    async fn edits_are_noticed_and_reads_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("templates")).unwrap();
        let path = folder.path().join("templates/a");
        std::fs::write(&path, "one").unwrap();
        let mut reasons = Reasons::new(folder.path()).unwrap();
        let started = Instant::now();
        std::fs::write(&path, "two").unwrap();
        reasons.next().await;
        assert!(started.elapsed() < Duration::from_secs(2));
        std::fs::read(&path).unwrap();
        let again = tokio::time::timeout(Duration::from_millis(300), reasons.next()).await;
        assert!(again.is_err(), "reading was taken for an edit");
    }

    #[tokio::test]
    async fn an_edit_is_told_although_who_waited_was_called_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut reasons = Reasons::new(folder.path()).unwrap();
        std::fs::write(folder.path().join("a"), "one").unwrap();
        let soon = tokio::time::timeout(QUIET / 2, reasons.next()).await;
        assert!(soon.is_err(), "it may be written to still");
        let later = tokio::time::timeout(Duration::from_secs(2), reasons.next()).await;
        assert_eq!(later, Ok(Reason::Edit));
    }
}
