//! Notices that resources or templates should be read again: they were edited, or SIGHUP says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Quiet time after an edit: editors and copies write in several steps.
const QUIET: Duration = Duration::from_millis(60);
/// A folder that is never quiet is read at least this often.
const LONGEST: Duration = Duration::from_millis(600);
/// How long a file is waited for that somebody writes and has not closed: what is written in place is empty at first.
const WRITTEN: Duration = Duration::from_secs(10);

/// Why everything is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked for it: what is as it was is looked at, too.
    Hangup,
    /// A file has changed.
    Edit,
}

/// What is noticed in the folder.
#[derive(Default)]
struct Edits {
    noticed: Notify,
    /// Files that were written to and are not closed yet.
    unfinished: Mutex<BTreeSet<PathBuf>>,
}

impl Edits {
    fn notice(&self, event: &notify::Event) {
        let mut unfinished = self.unfinished();
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => unfinished.extend(event.paths.clone()),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => unfinished.retain(|path| !event.paths.contains(path)),
            // Reading the files must not be a reason to read them again.
            EventKind::Access(_) => return,
            // Events were lost, of ends perhaps.
            _ if event.need_rescan() => unfinished.clear(),
            _ => {}
        }
        drop(unfinished);
        self.noticed.notify_one();
    }

    fn unfinished(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for reasons to read again.
pub struct Reasons {
    hangup: Signal,
    edits: Arc<Edits>,
    /// When the first edit was noticed that was not told yet: who waits may be called away.
    untold: Option<Instant>,
    /// `None` where the system cannot watch the folder; SIGHUP is left then.
    _watcher: Option<RecommendedWatcher>,
}

impl Reasons {
    /// Starts to watch `confdir` and everything below.
    pub fn new(confdir: &Path) -> std::io::Result<Self> {
        let edits = Arc::new(Edits::default());
        let watcher = watcher(confdir, Arc::clone(&edits))
            .inspect_err(|error| {
                tracing::warn!(confdir = %confdir.display(), %error, "cannot be watched: only SIGHUP reloads");
            })
            .ok();
        Ok(Self { hangup: signal(SignalKind::hangup())?, edits, untold: None, _watcher: watcher })
    }

    /// Returns when there is a reason, it has been quiet since, and no file is only half written.
    pub async fn next(&mut self) -> Reason {
        if self.untold.is_none() {
            tokio::select! {
                _ = self.hangup.recv() => return Reason::Hangup,
                () = self.edits.noticed.notified() => self.untold = Some(Instant::now()),
            }
        }
        let begun = self.untold.unwrap_or_else(Instant::now);
        loop {
            let quiet = tokio::time::timeout(QUIET, self.edits.noticed.notified()).await.is_err();
            let mut unfinished = self.edits.unfinished();
            match unfinished.first() {
                None if quiet || begun.elapsed() >= LONGEST => break,
                Some(path) if begun.elapsed() >= WRITTEN => {
                    tracing::warn!(path = %path.display(), "read as it is: somebody still writes to it");
                    unfinished.clear();
                    break;
                }
                _ => {}
            }
        }
        self.untold = None;
        Reason::Edit
    }
}

fn watcher(confdir: &Path, edits: Arc<Edits>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Ok(event) = event {
            edits.notice(&event);
        }
    })?;
    watcher.watch(confdir, RecursiveMode::Recursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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
    async fn what_is_written_in_place_is_an_edit_when_it_is_closed_or_gone_or_takes_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, "one").unwrap();
        let mut reasons = Reasons::new(folder.path()).unwrap();
        for gone in [false, true] {
            let mut file = std::fs::File::create(&path).unwrap();
            file.write_all(b"tw").unwrap();
            assert!(tokio::time::timeout(LONGEST * 2, reasons.next()).await.is_err());
            std::fs::write(&other, "whole").unwrap();
            assert!(tokio::time::timeout(LONGEST * 2, reasons.next()).await.is_err());
            if gone {
                std::fs::rename(&path, &other).unwrap();
            }
            file.write_all(b"o").unwrap();
            drop(file);
            assert_eq!(tokio::time::timeout(WRITTEN / 2, reasons.next()).await, Ok(Reason::Edit));
        }
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"three").unwrap();
        assert!(tokio::time::timeout(LONGEST * 2, reasons.next()).await.is_err());
        assert_eq!(tokio::time::timeout(LIMIT, reasons.next()).await, Ok(Reason::Edit));
        drop(file);
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
