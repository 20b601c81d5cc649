//! One resource at work: woken by changes, timers and finished jobs, it makes one pass after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::arrivals::Arrivals;
use crate::board::{Board, Phase};
use crate::check::Check;
use crate::control::{Message, Workers};
use crate::dependency::Dependency;
use crate::disk::{self, Access};
use crate::guard::Guard;
use crate::haproxy::{Haproxy, Settings};
use crate::metrics::{Metrics, OfResource};
use crate::persist::{self, Destination};
use crate::resource::{Action, Resource};
use crate::snapshot::{Data, Snapshot};
use crate::state::State;
use crate::template::Templates;
use crate::wait::Collecting;
use crate::watch::Watches;

/// How often what runs is compared with what was accepted.
const DRIFT: Duration = Duration::from_mins(1);

/// How long a pass may take to end when the daemon is stopped; Docker kills after ten seconds.
const GRACE: Duration = Duration::from_secs(5);

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
    /// Where generations are kept.
    pub state_dir: std::path::PathBuf,
}

/// A text to bring to life, and where it comes from.
pub(crate) struct Wanted {
    pub(crate) text: Arc<str>,
    pub(crate) asked: BTreeSet<Dependency>,
    pub(crate) snapshot: Snapshot,
}

/// A service that is left out because the configuration is refused with it.
pub(crate) struct LeftOut {
    pub(crate) name: String,
    /// What was asked about it.
    pub(crate) asked: BTreeSet<Dependency>,
    /// What the source said of it then: another answer is another chance.
    pub(crate) known: Vec<Data>,
}

/// A generation that is wanted instead of what the template gives.
pub(crate) struct Fixed {
    pub(crate) number: u64,
    /// Whatever changes.
    pub(crate) pinned: bool,
    /// The text it replaces: another one ends it.
    pub(crate) instead_of: Option<Arc<str>>,
}

/// What a background job reports.
pub(crate) enum Finished {
    Written(Arc<str>, Result<(), persist::Error>),
    Remembered(Arc<str>, std::io::Result<u64>),
}

/// One resource at work.
pub struct Worker {
    pub(crate) resource: Resource,
    pub(crate) templates: watch::Receiver<Option<Arc<Templates>>>,
    pub(crate) snapshot: watch::Receiver<Snapshot>,
    pub(crate) shared: Shared,
    pub(crate) label: OfResource,
    pub(crate) state: State,
    pub(crate) destination: Destination,
    pub(crate) haproxy: Option<Haproxy>,
    /// What the actions other than HAProxy's have loaded.
    pub(crate) others: Vec<(Action, Option<Arc<str>>)>,
    pub(crate) wanted: Option<Arc<Wanted>>,
    pub(crate) arrivals: Arrivals,
    /// When the source's last news came.
    pub(crate) seen: SystemTime,
    pub(crate) fixed: Option<Fixed>,
    pub(crate) orders: mpsc::Receiver<Message>,
    pub(crate) guard: Guard,
    pub(crate) left_out: Option<LeftOut>,
    /// What the template asked when it was rendered last.
    pub(crate) asked: BTreeSet<Dependency>,
    pub(crate) on_disk: Option<Arc<str>>,
    pub(crate) refused: Option<Arc<str>>,
    /// A text whose difference the runtime socket would not take.
    pub(crate) not_at_runtime: Option<Arc<str>>,
    /// Why it would not.
    pub(crate) reload_reason: Option<String>,
    /// The text that the state folder knows as accepted.
    pub(crate) remembered: Option<Arc<str>>,
    /// HAProxy was asked whether it runs what it accepted.
    pub(crate) verified: bool,
    pub(crate) job: Option<JoinHandle<Finished>>,
    pub(crate) last_reload: Option<Instant>,
    pub(crate) jitter: f64,
    pub(crate) retry: Option<Instant>,
    pub(crate) delays: daemon::backoff::Delays,
    pub(crate) collecting: Collecting,
    pub(crate) last_problem: Option<String>,
    /// Servers that wait for their first check.
    pub(crate) joining: usize,
}

impl Worker {
    /// Prepares the work on `resource`: looks at the disk, and at what was accepted before.
    pub fn new(
        resource: Resource,
        templates: watch::Receiver<Option<Arc<Templates>>>,
        shared: Shared,
    ) -> anyhow::Result<Self> {
        use anyhow::Context;
        let state = State::open(&shared.state_dir, &resource.name)
            .with_context(|| format!("cannot use {}", shared.state_dir.display()))?;
        let remembered: Option<Arc<str>> = state.accepted()?.map(Into::into);
        let on_disk: Option<Arc<str>> = disk::read(&resource.dest)
            .with_context(|| format!("cannot read {}", resource.dest.display()))?
            .map(Into::into);
        let actions = resource.actions();
        let accepted = remembered.as_deref().map(ToOwned::to_owned);
        let haproxy = match &resource.haproxy {
            Some(haproxy) if actions.contains(&Action::HaProxy) => {
                let mut settings = Settings::new(haproxy.runtime.clone(), haproxy.master.clone());
                settings.drain_timeout = haproxy.drain_timeout.0;
                Some(Haproxy::new(settings, accepted))
            }
            _ => None,
        };
        let others = actions
            .into_iter()
            .filter(|action| *action != Action::HaProxy)
            .map(|action| (action, remembered.clone()))
            .collect();
        let destination = Destination {
            path: resource.dest.clone(),
            access: Access::of(&resource)?,
            check: Check::of(&resource),
            limit: resource.timeout.0,
        };
        let guard = match state.numbers()?.last() {
            Some(newest) => state.generation(*newest)?.map(|generation| generation.inputs),
            None => None,
        };
        let guard = Guard::remembering(guard.unwrap_or_default());
        let asked = guard.guarded();
        // Until the source has answered, what was accepted last is what is wanted.
        let wanted = remembered.clone().map(|text| {
            Arc::new(Wanted { text, asked: BTreeSet::new(), snapshot: Snapshot::default() })
        });
        let pinned = state.pinned()?;
        let mut worker = Self {
            orders: shared.workers.join(&resource.name),
            arrivals: Arrivals::default(),
            seen: SystemTime::now(),
            fixed: None,
            snapshot: shared.watches.snapshot(),
            label: OfResource { resource: resource.name.clone() },
            collecting: Collecting::default(),
            delays: daemon::backoff::delays(),
            jitter: rand::random(),
            job: None,
            joining: 0,
            last_problem: None,
            last_reload: None,
            not_at_runtime: None,
            reload_reason: None,
            refused: None,
            retry: None,
            verified: false,
            resource,
            templates,
            shared,
            state,
            destination,
            haproxy,
            others,
            wanted,
            guard,
            left_out: None,
            asked,
            on_disk,
            remembered,
        };
        if let Some(generation) = pinned {
            worker.fix(generation, true, None);
        }
        Ok(worker)
    }

    /// Works until `token` is cancelled. A pass that is under way then has a moment to end: what
    /// it leaves undone is found and done after the next start.
    pub async fn run(mut self, token: CancellationToken) {
        let name = self.resource.name.clone();
        tokio::select! {
            () = self.work(&token) => {}
            () = async { token.cancelled().await; sleep(GRACE).await } => {
                tracing::warn!(resource = name, "stopped in the middle of a pass");
            }
        }
        tracing::debug!(resource = name, "stopped");
    }

    async fn work(&mut self, token: &CancellationToken) {
        let mut drift = tokio::time::interval_at(Instant::now() + DRIFT, DRIFT);
        self.compare();
        self.render();
        self.pass().await;
        while !token.is_cancelled() {
            let (due, hold_ends) = (self.collecting.due(&self.resource.wait), self.hold_ends());
            tokio::select! {
                () = token.cancelled() => break,
                changed = self.snapshot.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.collecting.changed(Instant::now());
                    self.seen = SystemTime::now();
                }
                changed = self.templates.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    // What was refused may have been the old template's fault.
                    self.refused = None;
                    self.not_at_runtime = None;
                    self.left_out = None;
                    self.render();
                    self.pass().await;
                }
                () = at(due) => {
                    self.render();
                    self.pass().await;
                }
                () = at(hold_ends) => {
                    self.render();
                    self.pass().await;
                }
                () = at(self.retry) => {
                    self.retry = None;
                    self.pass().await;
                }
                finished = running(&mut self.job) => {
                    self.finished(finished).await;
                    self.pass().await;
                }
                Some(message) = self.orders.recv() => self.obey(message).await,
                events = work(&mut self.haproxy) => self.progressed(events),
                _ = drift.tick() => {
                    self.compare();
                    self.pass().await;
                }
            }
        }
        if let Some(job) = self.job.take() {
            drop(job.await);
        }
    }

    /// Returns when the next hold of the guard ends by itself.
    fn hold_ends(&self) -> Option<Instant> {
        let end = self.guard.next_end(&self.resource.guard)?;
        Some(Instant::now() + end.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Notes how the resource is doing, and says so where that is news.
    pub(crate) fn report(&mut self, phase: Phase) {
        match &phase {
            Phase::Live(_) => self.last_problem = None,
            Phase::Waiting(why) => {
                if self.last_problem.as_ref() != Some(why) {
                    tracing::info!(resource = self.resource.name, why, "waiting");
                }
                self.last_problem = Some(why.clone());
            }
            Phase::Failing(why) => {
                if self.last_problem.as_ref() != Some(why) {
                    tracing::error!(resource = self.resource.name, "{why}");
                }
                self.last_problem = Some(why.clone());
            }
        }
        self.shared.board.report(&self.resource.name, phase);
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn running(job: &mut Option<JoinHandle<Finished>>) -> Option<Finished> {
    let Some(handle) = job else { return std::future::pending().await };
    let finished = handle.await.ok();
    *job = None;
    finished
}

async fn work(
    haproxy: &mut Option<Haproxy>,
) -> Result<Vec<crate::haproxy::Event>, crate::haproxy::Error> {
    match haproxy {
        Some(haproxy) => haproxy.work().await,
        None => std::future::pending().await,
    }
}
