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

mod check;
mod config;
mod diff;
mod error;
mod master;
mod options;
mod runtime;
mod state;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

pub use check::check;
use config::{Config, Server};
use diff::{Change, Key, Steps};
pub use diff::{Op, Plan, describe, diff};
pub use error::{CheckError, Error};
use master::Reloaded;
use runtime::{Session, Verdict};
pub use state::Unexpected;

/// How soon HAProxy is asked again about a check or a drain that just began.
const SOONEST: Duration = Duration::from_millis(2);
/// How late it is asked at most, however long something takes.
const LATEST: Duration = Duration::from_secs(1);
/// The share of the time something has taken already that may pass until the next look at it.
const SHARE: u32 = 10;
/// How long a check that only explains a failed reload may take.
const EXPLAIN: Duration = Duration::from_secs(10);
/// How long after a reload the old worker may still answer on the runtime socket.
const HANDOVER: Duration = Duration::from_secs(2);

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

/// A server that drains.
#[derive(Debug)]
struct Leaving {
    since: Instant,
    /// What it was, if it was ours: it may come back unchanged.
    server: Option<Server>,
    killed: bool,
}

/// A text that HAProxy runs.
#[derive(Debug)]
struct Accepted {
    text: String,
    /// What it says; the error makes every change a reload.
    config: Result<Config, String>,
}

/// One running HAProxy, and the text it accepted last.
#[derive(Debug)]
pub struct Haproxy {
    settings: Settings,
    accepted: Option<Accepted>,
    joining: BTreeMap<Key, Instant>,
    leaving: BTreeMap<Key, Leaving>,
    /// When the background work is due.
    next: Option<Instant>,
}

impl Haproxy {
    /// Returns an HAProxy of which `accepted` is known, from before a restart of this process.
    #[must_use]
    pub fn new(settings: Settings, accepted: Option<String>) -> Self {
        let accepted = accepted.map(Accepted::new);
        // What an earlier process left on its way is found by the first look.
        let next = accepted.is_some().then(Instant::now);
        Self { settings, accepted, joining: BTreeMap::new(), leaving: BTreeMap::new(), next }
    }

    /// Returns the text that HAProxy accepted last.
    #[must_use]
    pub fn accepted(&self) -> Option<&str> {
        Some(&self.accepted.as_ref()?.text)
    }

    /// Returns what it would take to bring a text to life, as far as texts can tell.
    #[must_use]
    pub fn plan(&self, wanted: &str) -> Plan {
        self.accepted.as_ref().map_or_else(first_text, |accepted| diff(&accepted.text, wanted))
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
        let Some(Accepted { text, config }) = &self.accepted else {
            return Ok(Outcome::NeedsReload("nothing is known to be accepted yet".to_owned()));
        };
        if text == wanted {
            return self.reach(Accepted::new(wanted.to_owned()), None).await;
        }
        let new = Accepted::new(wanted.to_owned());
        let (old, next) = match (config, &new.config) {
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

    /// Reloads HAProxy, which reads the files on disk, and confirms it.
    pub async fn reload(&mut self, wanted: &str) -> Result<Applied, Error> {
        self.reload_because(wanted, "asked for".to_owned()).await
    }

    /// Compares HAProxy's state with the accepted text, and repairs what others changed.
    pub async fn drift(&mut self) -> Result<Applied, Error> {
        let Some(accepted) = &self.accepted else { return Ok(Applied::default()) };
        let text = accepted.text.clone();
        match self.reach(Accepted::new(text.clone()), None).await? {
            Outcome::Applied(applied) => Ok(applied),
            Outcome::NeedsReload(reason) => self.reload_because(&text, reason).await,
        }
    }

    /// Does what is left in the background: weights after passed checks, deletions of drained servers.
    ///
    /// Returns when something happened; never if nothing is under way. May be dropped at any time.
    pub async fn work(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            let Some(next) = self.next else { return std::future::pending().await };
            sleep_until(next).await;
            // If this is dropped or fails half-way, the next look is not at once.
            self.next = Some(Instant::now() + LATEST);
            let events = self.look().await?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    async fn look(&mut self) -> Result<Vec<Event>, Error> {
        let Some(Accepted { config: Ok(config), .. }) = &self.accepted else {
            self.next = None;
            return Ok(Vec::new());
        };
        let now = Instant::now();
        let expired = self
            .leaving
            .iter()
            .filter(|(_, leaving)| now - leaving.since >= self.settings.drain_timeout);
        let expired: BTreeSet<Key> = expired.map(|(key, _)| key.clone()).collect();
        let mut session = Session::open(&self.settings.runtime).await?;
        let busy =
            self.joining.keys().chain(self.leaving.keys()).map(|(backend, _)| backend.clone());
        let busy: BTreeSet<String> = busy.collect();
        // Nothing is known to be under way: this is the first look of this process, at all there is.
        let first = busy.is_empty();
        let mut state = session.state((!first).then_some(&busy)).await?;
        let draining: BTreeSet<&str> =
            self.leaving.keys().map(|(backend, _)| backend.as_str()).collect();
        session.sessions(&draining, &mut state).await?;
        let config = if first { config.clone() } else { config.only(&busy) };
        let steps = diff::steps(&config, &state, &expired);
        // Whatever others did meanwhile is for `drift`: here only what is under way is carried on.
        let ours = |op: &Op| {
            let key = (op.backend.clone(), op.server.clone());
            match op.change {
                Change::Weight(_) => self.joining.contains_key(&key),
                Change::Drain | Change::Maintenance | Change::Kill | Change::Delete => {
                    self.leaving.contains_key(&key)
                }
                _ => false,
            }
        };
        let ops: Vec<Op> = steps.ops.iter().filter(|op| first || ours(op)).cloned().collect();
        for op in ops.iter().filter(|op| op.change == Change::Kill) {
            if let Some(leaving) = self.leaving.get_mut(&(op.backend.clone(), op.server.clone())) {
                leaving.killed = true;
            }
        }
        let verdicts = session.execute(&ops).await?;
        self.settle(&ops, &verdicts, &steps)
    }
}

fn first_text() -> Plan {
    Plan::Reload("nothing is known to be accepted yet".to_owned())
}

impl Accepted {
    fn new(text: String) -> Self {
        let config = Config::parse(&text);
        Self { text, config }
    }
}

impl Haproxy {
    /// Carries out what the state of some backends (`None` = all) lacks of a text.
    async fn reach(
        &mut self,
        wanted: Accepted,
        backends: Option<BTreeSet<String>>,
    ) -> Result<Outcome, Error> {
        let config = match &wanted.config {
            Ok(config) => config,
            // Nothing can be compared; the text is live since its reload.
            Err(_) => return Ok(Outcome::Applied(self.applied(0))),
        };
        let mut session = Session::open(&self.settings.runtime).await?;
        let state = session.state(backends.as_ref()).await?;
        let scope =
            backends.as_ref().map_or_else(|| config.clone(), |backends| config.only(backends));
        if let Some(reason) = self.stranger(&scope, &state) {
            return Ok(Outcome::NeedsReload(reason));
        }
        let steps = diff::steps(&scope, &state, &BTreeSet::new());
        if let Some(reason) = steps.impossible {
            return Ok(Outcome::NeedsReload(reason));
        }
        let verdicts = session.execute(&steps.ops).await?;
        let refused = steps.ops.iter().zip(&verdicts).find_map(|(op, verdict)| match verdict {
            Verdict::Refused(answer) => Some(format!("haproxy refused to {op}: {answer}")),
            Verdict::Done | Verdict::Busy => None,
        });
        if let Some(reason) = refused {
            return Ok(Outcome::NeedsReload(reason));
        }
        self.remember(&scope, &steps, &verdicts);
        self.accepted = Some(wanted);
        Ok(Outcome::Applied(self.applied(steps.ops.len())))
    }

    /// Returns a wanted server that runs already without being ours, or with other options: it is not to be trusted.
    fn stranger(&self, wanted: &Config, state: &state::State) -> Option<String> {
        let accepted = self.accepted.as_ref()?.config.as_ref().ok()?;
        wanted.servers().find_map(|(key, server)| {
            let (backend, name) = &key;
            state.get(backend, name)?;
            let known = accepted.pools.get(backend).and_then(|pool| pool.servers.get(name));
            let known = known.or_else(|| self.leaving.get(&key)?.server.as_ref());
            let same = known.is_some_and(|known| match (&known.options, &server.options) {
                (Some(known), Some(wanted)) => options::same(known, wanted),
                _ => known.words == server.words,
            });
            (!same).then(|| {
                format!("server {backend}/{name} runs with options that are not the wanted ones")
            })
        })
    }

    /// Notes what is under way after a successful pass over some backends.
    fn remember(&mut self, scope: &Config, steps: &Steps, verdicts: &[Verdict]) {
        let now = Instant::now();
        let of_scope = |key: &Key| scope.pools.contains_key(&key.0);
        self.joining.retain(|key, _| !of_scope(key) || steps.joining.contains(key));
        self.leaving.retain(|key, _| !of_scope(key) || steps.leaving.contains(key));
        for key in &steps.joining {
            self.joining.entry(key.clone()).or_insert(now);
        }
        let old = self.accepted.as_ref().and_then(|accepted| accepted.config.as_ref().ok());
        for key in &steps.leaving {
            let server = || old.and_then(|old| old.pools.get(&key.0)?.servers.get(&key.1)).cloned();
            let leaving = || Leaving { since: now, server: server(), killed: false };
            self.leaving.entry(key.clone()).or_insert_with(leaving);
        }
        for (op, verdict) in steps.ops.iter().zip(verdicts) {
            if op.change == Change::Delete && *verdict == Verdict::Done {
                self.leaving.remove(&(op.backend.clone(), op.server.clone()));
            }
        }
        self.schedule();
    }

    /// Turns what one look in the background found and did into events.
    fn settle(
        &mut self,
        ops: &[Op],
        verdicts: &[Verdict],
        steps: &Steps,
    ) -> Result<Vec<Event>, Error> {
        let now = Instant::now();
        let mut events = Vec::new();
        let mut refused = None;
        let mut deleted = BTreeSet::new();
        for (op, verdict) in ops.iter().zip(verdicts) {
            match verdict {
                Verdict::Refused(answer) => {
                    refused =
                        Some(Error::Refused { operation: op.to_string(), answer: answer.clone() });
                }
                Verdict::Done if op.change == Change::Delete => {
                    deleted.insert((op.backend.clone(), op.server.clone()));
                }
                Verdict::Done | Verdict::Busy => {}
            }
        }
        if self.joining.is_empty() && self.leaving.is_empty() {
            // The first look of this process: all that is under way was begun by another.
            self.joining = steps.joining.iter().map(|key| (key.clone(), now)).collect();
            let leaving =
                |key: &Key| (key.clone(), Leaving { since: now, server: None, killed: false });
            self.leaving = steps.leaving.iter().map(leaving).collect();
        }
        self.joining.retain(|(backend, server), since| {
            let waits =
                refused.is_some() || steps.joining.contains(&(backend.clone(), server.clone()));
            if !waits {
                let (backend, server) = (backend.clone(), server.clone());
                events.push(Event::Serving { backend, server, after: now - *since });
            }
            waits
        });
        self.leaving.retain(|key, leaving| {
            let stays = steps.leaving.contains(key) && !deleted.contains(key);
            if !stays {
                let (backend, server) = key.clone();
                let (after, killed) = (now - leaving.since, leaving.killed);
                events.push(Event::Removed { backend, server, after, killed });
            }
            stays
        });
        self.schedule();
        match refused {
            Some(error) => Err(error),
            None => Ok(events),
        }
    }

    /// Sets when the background work is due: soon while something is fresh, seldom if it takes long.
    fn schedule(&mut self) {
        let now = Instant::now();
        let since = self
            .joining
            .values()
            .copied()
            .chain(self.leaving.values().map(|leaving| leaving.since));
        let pause = since.map(|since| ((now - since) / SHARE).clamp(SOONEST, LATEST)).min();
        let expiry = self.leaving.values().filter(|leaving| !leaving.killed);
        let expiry = expiry.map(|leaving| leaving.since + self.settings.drain_timeout).min();
        self.next =
            pause.map(|pause| expiry.map_or(now + pause, |expiry| expiry.clamp(now, now + pause)));
    }

    fn applied(&self, operations: usize) -> Applied {
        Applied {
            reloaded: None,
            operations,
            joining: self.joining.len(),
            leaving: self.leaving.len(),
        }
    }

    async fn reload_because(&mut self, wanted: &str, reason: String) -> Result<Applied, Error> {
        let worker = match master::reload(&self.settings.master).await? {
            Reloaded::Accepted(worker) => worker,
            Reloaded::Rejected(lines) => {
                return Err(Error::Reload { lines: self.explain(lines).await });
            }
        };
        self.accepted = Some(Accepted::new(wanted.to_owned()));
        // The new worker knows the file's servers only, all with their weight.
        self.joining.clear();
        self.leaving.clear();
        self.next = None;
        self.wait_for(worker).await;
        Ok(Applied { reloaded: Some(reason), ..Applied::default() })
    }

    /// Waits until the runtime socket belongs to the new worker; commands to the old one would be lost.
    async fn wait_for(&self, worker: u32) {
        let end = Instant::now() + HANDOVER;
        while Instant::now() < end {
            if let Ok(mut session) = Session::open(&self.settings.runtime).await
                && session.worker().await.is_ok_and(|pid| pid == worker)
            {
                return;
            }
            sleep(SOONEST).await;
        }
        tracing::warn!(worker, "the old haproxy worker still answers on the runtime socket");
    }

    async fn explain(&self, lines: Vec<String>) -> Vec<String> {
        if !lines.is_empty() {
            return lines;
        }
        match check(&self.settings.program, &self.settings.files, EXPLAIN).await {
            Err(CheckError::Rejected { lines }) => lines,
            Err(error) => vec![format!("the reload failed; {error}")],
            Ok(()) => vec![
                "the reload failed, though `haproxy -c` accepts the files: is an address in use?"
                    .to_owned(),
            ],
        }
    }
}
