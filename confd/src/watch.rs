//! Keeps the snapshot up to date: one watch per question, however many templates ask it.

mod sentinel;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use consul::{Client, Consistency};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::dependency::Dependency;
use crate::metrics::Metrics;
use crate::snapshot::{Data, Doubt, Snapshot};
use crate::source::{self, Asking};
use sentinel::{Parked, Sentinel};

/// Questions that wait for news at once. Consul's agents refuse more than 200 connections of one
/// client; with the two constants below this makes a hundred.
const WAITING: usize = 88;
/// Questions that are answered at once, at the same time.
const QUICK: usize = 10;
/// A question that is not among the waiting ones is asked again at most this often.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an answer that nobody asks for any more is kept current: templates that are edited
/// or that ask now and then need not start anew.
const UNUSED: Duration = Duration::from_mins(1);
/// How often something is asked that Consul cannot wait for.
const POLL: Duration = Duration::from_secs(30);
/// An answer of at least this many things is a big one.
const BIG: usize = 500;
/// Big answers that may be fetched at once, and as many again every second.
const BIG_ANSWERS: usize = 10;

/// The watches of a process.
pub struct Watches {
    client: Client,
    metrics: Metrics,
    snapshot: watch::Sender<Snapshot>,
    /// Who asks for what.
    wanted: Mutex<BTreeMap<String, BTreeSet<Dependency>>>,
    changed: Notify,
    waiting: Semaphore,
    quick: Semaphore,
    big: Semaphore,
    /// How many questions do not wait by themselves.
    parked: watch::Sender<usize>,
    /// Counts up when anything in the catalog or in the checks has changed.
    news: watch::Sender<u64>,
}

impl Watches {
    /// Prepares watching; [`Watches::run`] does it.
    #[must_use]
    pub fn new(client: Client, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            client,
            metrics,
            snapshot: watch::Sender::default(),
            wanted: Mutex::default(),
            changed: Notify::new(),
            waiting: Semaphore::new(WAITING),
            quick: Semaphore::new(QUICK),
            big: Semaphore::new(BIG_ANSWERS),
            parked: watch::Sender::default(),
            news: watch::Sender::default(),
        })
    }

    /// Returns the snapshot as it changes.
    #[must_use]
    pub fn snapshot(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.subscribe()
    }

    /// Notes what `who` asks for now, instead of what it asked for before.
    pub fn want(&self, who: &str, dependencies: BTreeSet<Dependency>) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.get(who) == Some(&dependencies) {
            return;
        }
        wanted.insert(who.to_owned(), dependencies);
        drop(wanted);
        self.changed.notify_one();
    }

    /// Forgets `who`, who asks for nothing any more.
    pub fn forget(&self, who: &str) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
        self.changed.notify_one();
    }

    /// Watches what is wanted until `token` is cancelled.
    pub async fn run(self: Arc<Self>, token: CancellationToken) {
        let mut tasks = JoinSet::new();
        for sentinel in [Sentinel::Catalog, Sentinel::Checks] {
            tasks.spawn(Arc::clone(&self).stand_sentinel(sentinel));
        }
        let mut watched = BTreeMap::<Arc<Dependency>, (AbortHandle, Option<Instant>)>::new();
        let mut refill = tokio::time::interval(Duration::from_secs(1));
        refill.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let expiry = self.reconcile(&mut tasks, &mut watched);
            tokio::select! {
                () = token.cancelled() => return,
                () = self.changed.notified() => {}
                () = sleep_until(expiry) => {}
                Some(_) = tasks.join_next() => {}
                _ = refill.tick(), if self.big.available_permits() < BIG_ANSWERS => {
                    self.big.add_permits(BIG_ANSWERS - self.big.available_permits());
                }
            }
        }
    }

    /// Starts what is missing and ends what was unused for long; returns when to look again.
    fn reconcile(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        watched: &mut BTreeMap<Arc<Dependency>, (AbortHandle, Option<Instant>)>,
    ) -> Instant {
        let wanted: BTreeSet<Dependency> = {
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.values().flatten().cloned().collect()
        };
        let now = Instant::now();
        let mut next = now + UNUSED;
        watched.retain(|dependency, (task, unused)| {
            if wanted.contains(&**dependency) {
                *unused = None;
                return true;
            }
            let until = *unused.get_or_insert(now) + UNUSED;
            next = next.min(until);
            if until > now {
                return true;
            }
            task.abort();
            self.snapshot.send_modify(|snapshot| snapshot.remove(dependency));
            tracing::debug!(%dependency, "no longer watched");
            false
        });
        for dependency in wanted {
            if !watched.contains_key(&dependency) {
                let dependency = Arc::new(dependency);
                let task = tasks.spawn(Arc::clone(self).watch(Arc::clone(&dependency)));
                watched.insert(dependency, (task, None));
            }
        }
        self.metrics.watches.set(i64::try_from(watched.len()).unwrap_or(i64::MAX));
        next
    }

    /// Watches one question for ever.
    async fn watch(self: Arc<Self>, dependency: Arc<Dependency>) {
        tracing::debug!(%dependency, "watched");
        let mut delays = daemon::backoff::delays();
        let mut failing = false;
        let mut state = State::default();
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            match self.ask(&dependency, &mut state).await {
                Ok(next) => {
                    if failing {
                        tracing::info!(%dependency, "answered again");
                    }
                    failing = false;
                    delays.reset();
                    match next {
                        Next::Ask => {}
                        Next::Poll => tokio::time::sleep(POLL).await,
                        Next::Park => self.park(&mut news).await,
                    }
                }
                Err(error) => {
                    self.metrics.query_errors.inc();
                    let delay = delays.next_delay();
                    let error = format!("{:#}", anyhow::Error::from(error));
                    if failing {
                        tracing::debug!(%dependency, error, ?delay, "no answer");
                    } else {
                        tracing::warn!(%dependency, error, ?delay, "no answer, will retry");
                    }
                    failing = true;
                    // A Consul that comes back may have forgotten what it knew: do not wait for
                    // it to get past the old index.
                    state.index = None;
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// Waits for news of any kind, then a while: whoever is parked does not hurry.
    async fn park(&self, news: &mut watch::Receiver<u64>) {
        let _parked = Parked::new(&self.parked);
        // The sender is part of `self`.
        drop(tokio::time::timeout(source::WAIT, news.changed()).await);
        tokio::time::sleep(PAUSE.mul_f64(rand::random())).await;
    }

    /// Asks once, takes in the answer, and tells what to do next.
    async fn ask(
        &self,
        dependency: &Arc<Dependency>,
        state: &mut State,
    ) -> Result<Next, consul::Error> {
        let may_wait =
            source::blocks(dependency).then(|| self.waiting.try_acquire().ok()).flatten();
        let index = state.index.filter(|_| may_wait.is_some());
        let quick = match index {
            Some(_) => None,
            None => Some(self.quick.acquire().await.expect("never closed")),
        };
        let asking = Asking { index, consistency: Consistency::Stale };
        let mut answer = source::ask(&self.client, dependency, asking).await?;
        drop(quick);
        let went_back = answer.index < state.index;
        state.index = consul::index::next(state.index, answer.index);
        if answer.value.len() >= BIG {
            // Spent for good: `run` refills.
            self.big.acquire().await.expect("never closed").forget();
        }
        let before = self.snapshot.borrow().get(dependency).cloned();
        let unchanged = before.as_ref().is_some_and(|entry| entry.data == answer.value);
        let mut doubt = before.as_ref().and_then(|entry| entry.doubt.clone());
        if let Some(before) = &before {
            if answer.value.shrank(&before.data) {
                let asking = Asking { index: None, consistency: Consistency::Consistent };
                let _quick = self.quick.acquire().await.expect("never closed");
                answer = source::ask(&self.client, dependency, asking).await?;
                if answer.value.shrank(&before.data) {
                    doubt = self.doubt(&before.data, &answer, state.newest).await?;
                }
            } else if !unchanged {
                doubt = None;
            }
        }
        state.newest = answer.index.or(state.newest);
        self.metrics.answered();
        self.snapshot.send_if_modified(|snapshot| {
            snapshot.update(dependency, answer.value, doubt, SystemTime::now())
        });
        Ok(match may_wait {
            _ if !source::blocks(dependency) => Next::Poll,
            None => Next::Park,
            // It waited for nothing: others may have more luck with its place.
            Some(_) if index.is_some() && unchanged && *self.parked.borrow() > 0 => Next::Park,
            Some(_) if state.index.is_none() && !went_back => Next::Poll,
            Some(_) => Next::Ask,
        })
    }

    /// Looks for a reason to doubt that what is missing from a consistent answer is really gone.
    async fn doubt(
        &self,
        before: &Data,
        answer: &consul::Answer<Data>,
        newest: Option<u64>,
    ) -> Result<Option<Doubt>, consul::Error> {
        if answer.index < newest {
            return Ok(Some(Doubt::Restarted));
        }
        let (Data::Instances(before), Data::Instances(now)) = (before, &answer.value) else {
            return Ok(None);
        };
        let here: BTreeSet<_> = now.iter().map(|i| (&i.node, &i.id)).collect();
        let nodes: BTreeSet<String> = before
            .iter()
            .filter(|i| !here.contains(&(&i.node, &i.id)))
            .map(|i| i.node.clone())
            .collect();
        let suspects = source::suspect_nodes(&self.client, &nodes).await?;
        Ok((!suspects.is_empty()).then_some(Doubt::Nodes(suspects)))
    }
}

/// What a watch remembers from one answer to the next.
#[derive(Debug, Default)]
struct State {
    /// The index to wait with.
    index: Option<u64>,
    /// The newest index that an answer which counted had.
    newest: Option<u64>,
}

/// What a watch does after an answer.
#[derive(Debug)]
enum Next {
    /// Ask again, waiting for news.
    Ask,
    /// Ask again after a while.
    Poll,
    /// Ask again when a sentinel has seen something.
    Park,
}
