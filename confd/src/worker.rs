//! One resource at work: woken by changes, timers and finished jobs, it makes one pass after the other.

mod begin;
mod shared;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::arrivals::Arrivals;
use crate::board::Phase;
use crate::control::Message;
use crate::damp::Damper;
use crate::dependency::Dependency;
use crate::exec;
use crate::guard::Guard;
use crate::haproxy::Haproxy;
use crate::metrics::OfResource;
use crate::persist::{self, Destination};
use crate::publish::{Names, Report};
use crate::resource::{Action, Resource};
use crate::snapshot::{Data, Snapshot};
use crate::state::State;
use crate::template::Templates;
use crate::wait::Collecting;
use crate::wanted::{Fixed, LeftOut, Wanted};

pub use shared::{Programs, Shared};

/// How often what runs is compared with what was accepted.
const DRIFT: Duration = Duration::from_mins(1);

/// How long a pass may take to end when the daemon is stopped; Docker kills after ten seconds.
const GRACE: Duration = Duration::from_secs(5);

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
    /// The program that runs because of this resource.
    pub(crate) program: Option<exec::Running>,
    pub(crate) wanted: Option<Arc<Wanted>>,
    /// What the template gave last, since the start.
    pub(crate) rendered: Option<Arc<str>>,
    /// Why it gave nothing the last time: what is live stays, and this is said of it.
    pub(crate) unrendered: Option<Phase>,
    /// What was accepted last: whoever is as then is not to blame for a refusal now.
    pub(crate) proven: Option<Arc<Wanted>>,
    pub(crate) arrivals: Arrivals,
    /// When the source's last news came.
    pub(crate) seen: SystemTime,
    pub(crate) fixed: Option<Fixed>,
    pub(crate) orders: mpsc::Receiver<Message>,
    pub(crate) guard: Guard,
    pub(crate) damper: Damper,
    pub(crate) left_out: Vec<LeftOut>,
    /// The templates that gave the last text that was accepted.
    pub(crate) good: Option<Arc<Templates>>,
    /// The digest of newer templates whose text is refused, and why.
    pub(crate) distrusted: Option<(String, String)>,
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
    /// The text that the job puts into the destination, if that is what it does.
    pub(crate) writing: Option<Arc<str>>,
    pub(crate) last_reload: Option<Instant>,
    pub(crate) jitter: f64,
    pub(crate) retry: Option<Instant>,
    /// Until then an ambassador may not be ready, which is no failure.
    pub(crate) beginning: Option<Instant>,
    pub(crate) delays: daemon::backoff::Delays,
    pub(crate) collecting: Collecting,
    pub(crate) last_problem: Option<String>,
    /// Whether what is live could not be written to the state folder the last time.
    pub(crate) is_forgetful: bool,
    /// Servers that wait for their first check.
    pub(crate) joining: usize,
    /// The number of the generation that was accepted last, and when that was.
    pub(crate) generation: (u64, Option<SystemTime>),
    /// How long the last instance took from its container's event to serving.
    pub(crate) latency: Option<Duration>,
}

impl Worker {
    /// Works until `token` is cancelled. A pass that is under way then has a moment to end: what
    /// it leaves undone is found and done after the next start.
    /// Returns what it holds, for the one that goes on.
    pub async fn run(mut self, token: CancellationToken) -> Guard {
        let name = self.resource.name.clone();
        let grace =
            GRACE + self.resource.exec.as_ref().map_or(Duration::ZERO, |e| e.kill_timeout.0);
        tokio::select! {
            () = self.work(&token) => {}
            () = async { token.cancelled().await; sleep(grace).await } => {
                tracing::warn!(resource = name, "stopped in the middle of a pass");
            }
        }
        tracing::debug!(resource = name, "stopped");
        self.guard
    }

    async fn work(&mut self, token: &CancellationToken) {
        let mut drift = tokio::time::interval_at(Instant::now() + DRIFT, DRIFT);
        self.compare().await;
        self.render();
        self.pass().await;
        while !token.is_cancelled() {
            self.shared.reports.set(self.served());
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
                    // What was refused may have been the old template's fault. Whoever has it read again by
                    // hand may want more to be put right than the template, and at once.
                    self.compare().await;
                    self.left_out.clear();
                    self.distrusted = None;
                    self.retry = None;
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
                    self.compare().await;
                    if self.forgive() {
                        self.render();
                    }
                    self.pass().await;
                }
            }
        }
        if let Some(program) = self.program.take() {
            program.stop().await;
        }
        if let Some(job) = self.job.take() {
            drop(job.await);
        }
    }

    /// Returns when the next hold of the guard, or of an instance that flaps, ends by itself.
    fn hold_ends(&self) -> Option<Instant> {
        let guard = self.guard.next_end(&self.resource.guard);
        let end = guard.into_iter().chain(self.damper.next_end(&self.resource.flap)).min()?;
        Some(Instant::now() + end.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Returns what is served, and what is not and why.
    fn served(&self) -> Report {
        let resource = &self.resource;
        let runtime = resource.haproxy.as_ref().filter(|_| self.haproxy.is_some());
        let holds = self.guard.holds();
        let held =
            holds.values().flat_map(|hold| hold.held.iter().map(|one| one.key().into_owned()));
        let left_out = self.left_out.iter().map(|left_out| {
            (left_out.name.clone(), left_out.known.iter().flat_map(Data::keys).collect())
        });
        Report {
            resource: resource.name.clone(),
            ambassador: resource.ambassador.clone(),
            runtime: runtime.map(|haproxy| haproxy.runtime.clone()),
            accepted: self.proven.clone(),
            runs: self.haproxy.as_ref().and_then(Haproxy::parsed),
            generation: self.generation.0,
            applied_at: self.generation.1,
            held: held.collect(),
            left_out: left_out.collect(),
            error: self.last_problem.clone(),
            event_to_serving: self.latency,
        }
    }

    /// Returns the document that others read, as it is now.
    pub(crate) async fn document(&self) -> serde_json::Value {
        let report = self.served();
        let mut names = Names::default();
        names.learn(&report);
        report.document(report.servers().await, &names)
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

/// Waits until then; for ever without a time.
pub(crate) async fn at(instant: Option<Instant>) {
    match instant {
        // A timer rounds up to the next millisecond, also what is due already.
        Some(instant) if instant <= Instant::now() => {}
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
