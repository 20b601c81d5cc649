//! The loop: wake-ups in, passes out.
//!
//! ```text
//! events ─► Wakeups ─► look: list, inspect ─► containers ─► desired ┐
//! timers ─┘            (eight at a time)                            ├─► plan ─► apply ─► journal
//! Consul ───────────────────────────────────────────────► actual ──┘           catalog, keys
//! ```
//! Nothing waits for Docker here: inspections run beside the loop, and a pass works with those that
//! are done. What is not yet looked at stays as it is. Nor does anything wait for the keys, which take a majority of
//! Consul's servers and not only the agent: a task of their own writes them.

mod apply;
mod assembly;
mod clock;
mod derive;
mod doubts;
mod keys;
mod known;
mod learn;
mod leave;
mod look;
mod pass;
mod scope;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consul::Client;
use daemon::backoff::Delays;
use daemon::listener::Readiness;
use services::{Container, Node, OperatorTags, Options};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::{Derive, Keep};
use crate::docker::{self, Engine, Listed};
use crate::ending;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::mirror::{Doubt, Mirror};
use crate::model::Actual;
use crate::wakeups::{Pending, Wakeups};

use assembly::Assembly;
use clock::Clock;
use keys::Keys;
use known::Known;
use scope::Due;
use upkeep::JournalStep;

/// How long a pass may go on after we were told to stop.
const LAST_PASS: Duration = Duration::from_secs(3);
/// How long until Docker is asked again about a suspicious list.
const DOUBT: Duration = Duration::from_secs(2);
/// How long a pass waits for more, while more containers wait than are looked at at a time.
const COLLECT: Duration = Duration::from_millis(50);
/// How long changes of the journal are collected before it is written.
const JOURNAL_PAUSE: Duration = Duration::from_millis(100);
/// Added to a container's stop time-out: the engine needs a moment, too.
const STOP_MARGIN: Duration = Duration::from_secs(2);

/// What the controller works with.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) engine: watch::Receiver<Option<Engine>>,
    pub(crate) wakeups: Arc<Wakeups>,
    pub(crate) metrics: Metrics,
    pub(crate) node: Node,
    pub(crate) options: Options,
    pub(crate) derive: Derive,
    pub(crate) keep: Keep,
    pub(crate) mirror: Option<Mirror>,
    pub(crate) renewal: Duration,
    pub(crate) journal_key: Option<String>,
    pub(crate) ready: watch::Sender<Readiness>,
}

/// The state of the daemon.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is about something else, and any may be set"
)]
pub(crate) struct Controller {
    parts: Parts,
    tags: OperatorTags,
    /// The containers that run, and those whose instances outlive them, by full ID.
    containers: BTreeMap<String, Known>,
    /// What the agent has; `None` = must be asked.
    actual: Option<BTreeMap<String, Actual>>,
    /// What it must have.
    assembly: Assembly,
    /// Whether the next pass must be about everything: no container of ours leads to what was kept.
    unsettled: bool,
    /// Containers that an event led us to, and Docker itself says have ended (short IDs).
    ended: BTreeSet<String>,
    look: look::Look,
    journal: Journal,
    journal_loaded: bool,
    /// When the container of each instance started that the journal knows of, or that was registered before us; empty
    /// where it has ended. What is only registered again is no start.
    noted: BTreeMap<String, String>,
    writing: JoinSet<Result<JournalStep, consul::Error>>,
    keys: Option<Keys>,
    clock: Clock,
    delays: Delays,
    failing_since: Option<Instant>,
    /// The last error of each instance, so that it is told once.
    refused: BTreeMap<String, doubts::Refusal>,
    /// What we removed as no container that Docker knows is behind it, with the container that was said to be.
    removed: BTreeMap<String, String>,
    /// What somebody else registers as ours.
    strangers: BTreeSet<String>,
    /// Containers whose network is that of another one, which is still to be looked at.
    guests: BTreeSet<String>,
    /// What is to be compared.
    due: Due,
    /// Whether the next list is the second opinion about a suspicious one.
    doubting: bool,
    /// Whether this pass believes whatever Docker said.
    believe: bool,
    consul_away: Option<Instant>,
    /// Whether the agent has ever said what it has.
    has_answered: bool,
    /// What the agent said last when it did not do something.
    refusal: Option<String>,
    /// Whether the agent refuses checks that run commands.
    without_commands: bool,
    /// When TTL checks are repeated, and whose they are.
    beats: BTreeMap<String, (String, Instant)>,
}

impl Controller {
    /// Puts the controller together.
    pub(crate) fn new(mut parts: Parts) -> Self {
        let (renewal, metrics) = (parts.renewal, parts.metrics.clone());
        let keys = parts.mirror.take().map(|mirror| Keys::start(mirror, renewal, metrics));
        let tags = OperatorTags::parse(parts.derive.tags.as_deref().unwrap_or_default());
        Self {
            tags,
            containers: BTreeMap::new(),
            actual: None,
            assembly: Assembly::default(),
            unsettled: false,
            ended: BTreeSet::new(),
            look: look::Look::default(),
            journal: Journal::default(),
            noted: BTreeMap::new(),
            journal_loaded: parts.journal_key.is_none(),
            writing: JoinSet::new(),
            keys,
            clock: Clock::default(),
            delays: daemon::backoff::delays(),
            failing_since: None,
            refused: BTreeMap::new(),
            removed: BTreeMap::new(),
            strangers: BTreeSet::new(),
            guests: BTreeSet::new(),
            due: Due::default(),
            doubting: false,
            believe: false,
            consul_away: None,
            has_answered: false,
            refusal: None,
            without_commands: false,
            beats: BTreeMap::new(),
            parts,
        }
    }

    /// Works until `token` is cancelled, and leaves the instances as the flags say.
    pub(crate) async fn run(mut self, token: CancellationToken) {
        let wakeups = self.parts.wakeups.clone();
        self.set_resync();
        loop {
            let deadline = self.deadline();
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                pending = wakeups.next() => self.notice(pending),
                Some(done) = self.look.inspections.join_next() => {
                    self.inspected(done);
                    while let Some(done) = self.look.inspections.try_join_next() {
                        self.inspected(done);
                    }
                }
                Some(listed) = self.look.listing.join_next() => self.listed(listed),
                Some(done) = self.writing.join_next() => self.journal_done(done),
                () = tokio::time::sleep_until(deadline) => {}
            }
            tokio::select! {
                () = self.work() => {}
                () = async { token.cancelled().await; tokio::time::sleep(LAST_PASS).await } => {
                    // What was under way may have been carried out.
                    self.actual = None;
                    break;
                }
            }
        }
        self.leave().await;
    }

    /// Does what is due. Timers come first: wake-ups without end must not keep them waiting.
    async fn work(&mut self) {
        if self.deadline() <= Instant::now() {
            self.tick().await;
        }
        self.start_looking();
        let waits = self.is_collecting() || self.is_pausing();
        if self.due.is_any() && !waits {
            self.pass().await;
        }
    }

    /// While Consul is away, passes wait for the next retry.
    fn is_pausing(&self) -> bool {
        self.consul_away.is_some() && self.clock.retry.is_some_and(|retry| retry > Instant::now())
    }

    /// While many containers wait to be looked at, passes wait a moment for more of them.
    fn is_collecting(&mut self) -> bool {
        if !self.due.is_any() || !self.look.is_crowded() {
            self.clock.collect = None;
            return false;
        }
        let end = *self.clock.collect.get_or_insert_with(|| Instant::now() + COLLECT);
        let collecting = Instant::now() < end;
        if !collecting {
            self.clock.collect = None;
        }
        collecting
    }

    fn notice(&mut self, pending: Pending) {
        if pending.consul {
            self.doubt_consul(Doubt::All);
            self.forget_refusals();
            self.clock.retry = None;
            self.due.everything = true;
        }
        if pending.everywhere {
            self.look.everywhere = true;
        }
        if pending.look {
            self.tell_readiness();
        }
        for (id, hint) in pending.containers {
            // Also of one that is being inspected just now: that answer may be older than the event.
            let known = self.containers.contains_key(&id) || self.look.is_pending(&id);
            if hint.changed || (hint.network && known) {
                self.look.at(id.clone(), hint.time_nano);
            } else if hint.started {
                self.look.at_start(id.clone(), hint.time_nano);
            } else if hint.network {
                self.look.ahead(id.clone());
            }
            match &hint.killed {
                Some(signal) => self.drain(&id, signal),
                None if hint.changed || hint.started => drop(self.look.forget_signal(&id)),
                None => {}
            }
        }
        if pending.dump {
            self.dump();
        }
    }

    /// Puts a container's instances into maintenance if the signal is to end it. Those of one that is still being
    /// inspected follow when it has been.
    fn drain(&mut self, id: &str, signal: &str) {
        if let Some(known) = self.containers.get_mut(id)
            && let Some(container) = &known.container
        {
            if ending::is_ending(signal, &container.stop_signal) {
                let until = Instant::now() + patience(container);
                known.drain(ending::draining(signal, &container.started_at), until);
                self.due.containers.insert(id.to_owned());
            }
        } else {
            self.look.killed(id, signal);
        }
    }
}

/// Returns how long a container may take to end that was asked to.
fn patience(container: &Container) -> Duration {
    Duration::from_secs(container.stop_timeout) + STOP_MARGIN
}

/// A container, and the document about it if templates need it.
type Found = (Result<Container, services::Error>, serde_json::Value);
type Inspected = (String, Result<Option<Found>, docker::Error>);
type ListedAll = Result<Vec<Listed>, docker::Error>;
