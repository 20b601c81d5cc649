//! Brings a rendered file into a running HAProxy: by commands where that is enough, else by a confirmed reload.
//!
//! ```text
//! accepted text ─┐
//! wanted text ───┼─► diff ─► runtime socket ──refused──► master socket: reload, confirmed
//! actual state ──┘     ▲                                          │
//!                      └── work: checks that pass, servers that drain ◄┘
//! ```
//! The file on disk is the truth that a reload, or a restart, reads; commands only get there sooner. What is still
//! on its way (a server that waits for its first check, one that drains) is read from HAProxy's own state each time,
//! so nothing is lost when this process or HAProxy starts again.

mod ahead;
mod background;
mod check;
mod config;
mod diff;
mod error;
mod master;
mod options;
mod reach;
mod runtime;
mod serving;
mod state;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use background::Leaving;
pub use check::check;
use config::Config;
use diff::Key;
pub use diff::{Op, Plan, describe, diff};
pub use error::{CheckError, Error};
#[cfg(test)]
pub(crate) use options::all as options;
use runtime::Process;
pub(crate) use serving::{ServerState, Servers, servers};
pub use state::Unexpected;

/// Where an HAProxy is, and how it is treated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The runtime socket.
    pub runtime: PathBuf,
    /// The master socket.
    pub master: PathBuf,
    /// How long a removed server keeps its connections.
    pub drain_timeout: Duration,
    /// The program that explains a failed reload where HAProxy itself does not (2.6).
    pub program: PathBuf,
    /// The files that HAProxy loads, in their order, for the same purpose.
    pub files: Vec<PathBuf>,
}

impl Settings {
    /// Returns the usual settings: 30 s to drain, and the files `base.cfg` and `haproxy.cfg` beside the runtime socket.
    #[must_use]
    pub fn new(runtime: PathBuf, master: PathBuf) -> Self {
        let files = ["base.cfg", "haproxy.cfg"].map(|name| runtime.with_file_name(name)).into();
        Self {
            runtime,
            master,
            drain_timeout: Duration::from_secs(30),
            program: "haproxy".into(),
            files,
        }
    }
}

/// Why the first text of an HAProxy is always reloaded.
const UNKNOWN: &str = "nothing is known to be accepted yet";
/// Why the next text is reloaded after somebody else has written the file.
const EDITED: &str = "haproxy may have read what somebody else had written";

/// What a change came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Why there was a reload, if there was one.
    pub reloaded: Option<String>,
    /// How many changes the runtime socket took.
    pub operations: usize,
    /// How many servers wait for their first passed check.
    pub joining: usize,
    /// How many servers drain.
    pub leaving: usize,
}

/// How far the runtime socket alone came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The wanted text is live.
    Applied(Applied),
    /// It takes a reload, and why.
    NeedsReload(String),
}

/// What happened in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A server's first check passed, and it has its weight.
    Serving {
        /// The backend.
        backend: String,
        /// The server.
        server: String,
        /// The time since it came in.
        after: Duration,
    },
    /// A server that is not wanted any more is gone.
    Removed {
        /// The backend.
        backend: String,
        /// The server.
        server: String,
        /// The time it drained.
        after: Duration,
        /// Whether it had connections left, which were cut.
        killed: bool,
    },
}

/// A text that HAProxy runs, or is to run.
#[derive(Debug)]
pub(crate) struct Parsed {
    text: String,
    /// What it says; the error makes every change a reload.
    config: Result<Config, String>,
}

/// One running HAProxy, and the text it accepted last.
#[derive(Debug)]
pub struct Haproxy {
    settings: Settings,
    accepted: Option<Arc<Parsed>>,
    /// Why nothing is known to be accepted, if nothing is.
    unknown: &'static str,
    /// The worker that is known to have read a file of ours.
    worker: Option<Process>,
    /// The text that was asked about last: with fifty thousand servers, reading one takes a while.
    candidate: Mutex<Option<Arc<Parsed>>>,
    joining: BTreeMap<Key, Instant>,
    leaving: BTreeMap<Key, Leaving>,
    /// When the background work is due.
    next: Option<Instant>,
}

impl Haproxy {
    /// Returns an HAProxy of which `accepted` is known, from before a restart of this process.
    #[must_use]
    pub fn new(settings: Settings, accepted: Option<String>) -> Self {
        let accepted = accepted.map(|text| Arc::new(Parsed::new(&text)));
        // What an earlier process left on its way is found by the first look.
        let next = accepted.is_some().then(Instant::now);
        let (joining, leaving) = (BTreeMap::new(), BTreeMap::new());
        Self {
            settings,
            accepted,
            unknown: UNKNOWN,
            worker: None,
            candidate: Mutex::default(),
            joining,
            leaving,
            next,
        }
    }

    /// Returns the text that HAProxy accepted last.
    #[must_use]
    pub fn accepted(&self) -> Option<&str> {
        Some(&self.accepted.as_ref()?.text)
    }

    /// Returns the same with what it says, to be shared.
    pub(crate) fn parsed(&self) -> Option<Arc<Parsed>> {
        self.accepted.clone()
    }

    /// Returns why it takes a reload to bring a text to life, if texts can tell.
    #[must_use]
    pub fn needs_reload(&self, wanted: &str) -> Option<String> {
        let Some(accepted) = &self.accepted else { return Some(self.unknown.to_owned()) };
        if accepted.text == wanted {
            return None;
        }
        match (&accepted.config, &self.read(wanted).config) {
            (Ok(old), Ok(new)) => diff::needs_reload(old, new),
            (Err(reason), _) | (_, Err(reason)) => Some(reason.clone()),
        }
    }

    /// Reads a text, unless it was read last.
    fn read(&self, wanted: &str) -> Arc<Parsed> {
        let known = self.accepted.as_ref().filter(|accepted| accepted.text == wanted);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let mut candidate = self.candidate.lock().unwrap_or_else(PoisonError::into_inner);
        match &*candidate {
            Some(candidate) if candidate.text == wanted => Arc::clone(candidate),
            _ => Arc::clone(candidate.insert(Arc::new(Parsed::new(wanted)))),
        }
    }

    /// Notes what HAProxy runs.
    fn accept(&mut self, text: Arc<Parsed>) {
        self.accepted = Some(text);
        *self.candidate.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Brings the text, which the file on disk already has, to life: by commands, or by a reload where it takes one.
    pub async fn apply(&mut self, wanted: &str) -> Result<Applied, Error> {
        match self.apply_runtime(wanted).await? {
            Outcome::Applied(applied) => Ok(applied),
            Outcome::NeedsReload(reason) => self.reload_because(wanted, reason).await,
        }
    }

    /// Brings the text to life by commands only. If that is not enough, some may have been carried out already.
    pub async fn apply_runtime(&mut self, wanted: &str) -> Result<Outcome, Error> {
        let Some(accepted) = &self.accepted else {
            return Ok(Outcome::NeedsReload(self.unknown.to_owned()));
        };
        if accepted.text == wanted {
            return self.reach(Arc::clone(accepted), None).await;
        }
        let new = self.read(wanted);
        let (old, next) = match (&accepted.config, &new.config) {
            (Ok(old), Ok(next)) => (old, next),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Outcome::NeedsReload(reason.clone())),
        };
        if let Some(reason) = diff::needs_reload(old, next) {
            return Ok(Outcome::NeedsReload(reason));
        }
        let changed = next.pools.iter().filter(|(name, pool)| old.pools.get(*name) != Some(pool));
        let changed = changed.map(|(name, _)| name.clone()).collect();
        self.reach(new, Some(changed)).await
    }

    /// Brings those servers of a text to life that need no reload, while the rest has to wait for one. What is refused
    /// comes with the reload, too.
    pub async fn apply_servers(&mut self, wanted: &str) -> Result<Applied, Error> {
        let text = self.accepted.as_ref().and_then(|old| ahead::text(old, &self.read(wanted)));
        match text {
            None => Ok(Applied { joining: self.joining.len(), ..Applied::default() }),
            Some(text) => match self.apply_runtime(&text).await? {
                Outcome::Applied(applied) => Ok(applied),
                Outcome::NeedsReload(_) => Ok(Applied::default()),
            },
        }
    }

    /// Reloads HAProxy, which reads the files on disk, and confirms it.
    pub async fn reload(&mut self, wanted: &str) -> Result<Applied, Error> {
        self.reload_because(wanted, "asked for".to_owned()).await
    }

    /// Takes into account that somebody else had written the file: unless HAProxy's worker is the one that read ours, it
    /// may run anything, and only a reload tells it what it should.
    pub async fn doubt(&mut self) {
        if self.accepted.is_some() && !self.is_same_worker().await {
            (self.accepted, self.unknown) = (None, EDITED);
        }
    }

    /// Compares HAProxy's state with the accepted text, and repairs what others changed.
    pub async fn drift(&mut self) -> Result<Applied, Error> {
        let Some(accepted) = self.accepted.clone() else { return Ok(Applied::default()) };
        match self.reach(Arc::clone(&accepted), None).await? {
            Outcome::Applied(applied) => Ok(applied),
            Outcome::NeedsReload(reason) => self.reload_because(&accepted.text, reason).await,
        }
    }
}

impl Parsed {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), config: Config::parse(text) }
    }
}
