//! Keeps the snapshot up to date: one watch per question, however many templates ask it.

mod ask;
mod engine;
mod memory;
mod rules;
mod sentinel;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use consul::Client;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::dependency::Dependency;
use crate::docker::Endpoint;
use crate::local::{self, Derive, Source, World};
use crate::metrics::Metrics;
use crate::newest::Newest;
use crate::snapshot::{Data, Snapshot};
use crate::source;
use ask::{Next, State};
use memory::Memories;
use sentinel::{Parked, Sentinel};

/// Questions that wait for news at once. Consul's agents refuse more than 200 connections of one
/// client; with the three constants below, and two sentinels, this makes a hundred.
const WAITING: usize = 72;
/// Questions that wait at once besides these, about keys and other datacenters: for them no other question can wait.
const KEPT: usize = 16;
/// Questions that are answered at once, at the same time.
const QUICK: usize = 10;
/// A question that is not among the waiting ones is asked again at most this often.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an answer that nobody asks for any more is kept current: templates that are edited
/// or that ask now and then need not start anew.
const UNUSED: Duration = Duration::from_mins(1);
/// How often something is asked that should wait for news, while there is no place for it.
const SOON: Duration = Duration::from_secs(2);
/// How often something is asked that Consul cannot wait for.
const POLL: Duration = Duration::from_secs(30);
/// An answer of at least this many things is a big one.
const BIG: usize = 500;
/// The list of services costs Consul a walk over every instance there is, for each who asks and at each change of
/// anything. So it is asked for again only after this many times what one answer took, unnoticeable in a small
/// catalog: a hundred watchers of 50,000 instances kept two cores busy at one change a second.
const LIST_PAUSE: u32 = 20;
/// The longest such pause.
const LIST_PAUSE_MOST: Duration = Duration::from_secs(5);
/// Big answers that may be taken in within [`BIG_WINDOW`].
const BIG_ANSWERS: usize = 10;
/// How long each of them counts.
const BIG_WINDOW: Duration = Duration::from_secs(1);

/// The watches of a process.
pub struct Watches {
    client: Client,
    /// Where Docker is.
    docker: OnceLock<Endpoint>,
    /// What this node offers, where that is the source.
    local: OnceLock<(Derive, watch::Sender<Option<World>>)>,
    metrics: Metrics,
    snapshot: watch::Sender<Snapshot>,
    /// Who asks for what.
    wanted: Mutex<BTreeMap<String, BTreeSet<Dependency>>>,
    changed: Notify,
    waiting: Semaphore,
    kept: Semaphore,
    quick: Semaphore,
    big: Arc<Semaphore>,
    /// How many questions do not wait by themselves.
    parked: watch::Sender<usize>,
    /// Counts up when anything in the catalog or in the checks has changed.
    news: watch::Sender<u64>,
    memories: Memories,
}

impl Watches {
    /// Prepares watching; [`Watches::run`] does it.
    #[must_use]
    pub fn new(client: Client, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            client,
            docker: OnceLock::new(),
            local: OnceLock::new(),
            metrics,
            snapshot: watch::Sender::default(),
            wanted: Mutex::default(),
            changed: Notify::new(),
            waiting: Semaphore::new(WAITING),
            kept: Semaphore::new(KEPT),
            quick: Semaphore::new(QUICK),
            big: Arc::new(Semaphore::new(BIG_ANSWERS)),
            parked: watch::Sender::default(),
            news: watch::Sender::default(),
            memories: Memories::default(),
        })
    }

    /// Says where Docker is, which knows this node's ambassadors; and, if it is the source, all services.
    pub fn follow_docker(&self, engine: &Endpoint, derive: &Derive) {
        self.docker.get_or_init(|| engine.clone());
        if derive.source == Source::Docker {
            self.local.get_or_init(|| (derive.clone(), watch::Sender::new(None)));
        }
    }

    /// Returns a line for each instance of this node's that gets no traffic, where this node is the source.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let world = self.local.get().map(|(_, world)| world.borrow());
        world.and_then(|world| world.as_ref().map(World::left_out)).unwrap_or_default()
    }

    /// Takes over what an earlier process knew when the source's index was `newest`: a first answer that lacks
    /// some of it, from a source that knows less than then, is doubted.
    pub fn remember(&self, inputs: &[(Dependency, Data)], newest: &Newest) {
        // This node's engine has no index, and what was answered already needs no memory.
        if self.local.get().is_some() {
            return;
        }
        let snapshot = self.snapshot.borrow();
        for (dependency, data) in inputs.iter().filter(|(one, _)| snapshot.get(one).is_none()) {
            self.memories.add(dependency, data, newest.of(dependency));
        }
    }

    /// Returns the newest index of the source.
    #[must_use]
    pub fn newest(&self) -> Newest {
        self.memories.newest()
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
        let mut standing: Vec<AbortHandle> = Vec::new();
        let mut watched = BTreeMap::<Arc<Dependency>, (AbortHandle, Option<Instant>)>::new();
        loop {
            if standing.iter().all(AbortHandle::is_finished) {
                standing = self.stand(&mut tasks);
            }
            let expiry = self.reconcile(&mut tasks, &mut watched);
            let ended = tokio::select! {
                () = token.cancelled() => return,
                () = self.changed.notified() => continue,
                () = sleep_until(expiry) => continue,
                Some(ended) = tasks.join_next() => ended,
            };
            let Err(error) = ended else { continue };
            if error.is_panic() {
                // A mistake of ours in one of them; the others go on, and it is tried again.
                tracing::error!(%error, "a watch broke");
                watched.retain(|_, (task, _)| !task.is_finished());
                if standing.iter().any(AbortHandle::is_finished) {
                    standing.iter().for_each(AbortHandle::abort);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Starts what runs whatever is asked: the sentinels, and this node's engine where that is the source.
    fn stand(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Vec<AbortHandle> {
        let sentinels = [Sentinel::Catalog, Sentinel::Checks];
        let mut standing: Vec<AbortHandle> =
            sentinels.map(|sentinel| tasks.spawn(Arc::clone(self).stand_sentinel(sentinel))).into();
        if let (Some((derive, world)), Some(engine)) = (self.local.get(), self.docker.get()) {
            let (derive, world, engine) = (derive.clone(), world.clone(), engine.clone());
            standing.push(
                tasks.spawn(async move { match local::follow(&engine, &derive, &world).await {} }),
            );
        }
        standing
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
        if *dependency == Dependency::Ambassadors {
            return self.follow_ambassadors(&dependency).await;
        }
        if let Some((_, world)) = self.local.get() {
            return self.follow_local(&dependency, world.subscribe()).await;
        }
        let mut delays = daemon::backoff::delays();
        let mut failing = false;
        let mut state = State::new();
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
                        Next::Ask if matches!(*dependency, Dependency::Services { .. }) => {
                            let pause = (state.took * LIST_PAUSE).min(LIST_PAUSE_MOST);
                            tokio::time::sleep(pause).await;
                            // An answer that was waited for does not tell what it costs.
                            if state.asked.elapsed() >= UNUSED {
                                state.rules.start_afresh();
                            }
                        }
                        Next::Ask => {}
                        Next::Poll => tokio::time::sleep(POLL).await,
                        Next::Soon => tokio::time::sleep(SOON).await,
                        Next::Park => self.park(&mut news).await,
                    }
                }
                Err(error) => {
                    self.metrics.query_errors.inc();
                    let delay = delays.next_delay();
                    state.rules.missed(matches!(error, consul::Error::Request { .. }));
                    let for_good = source::is_for_good(&error);
                    let error = format!("{:#}", anyhow::Error::from(error));
                    if failing {
                        tracing::debug!(%dependency, error, ?delay, "no answer");
                    } else {
                        tracing::warn!(%dependency, error, ?delay, "no answer, will retry");
                    }
                    if for_good {
                        self.refuse(&dependency, &error);
                    }
                    failing = true;
                    state.failed = true;
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
}
