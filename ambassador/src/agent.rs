//! `ambassador agent`: each client on this node that asks for upstreams has exactly one ambassador
//! in its network namespace, and nobody else has one.

mod metrics;
pub(crate) mod plan;
mod resources;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use daemon::backoff::delays;
use daemon::listener;
use futures_util::{Stream, StreamExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::docker::{Endpoint, Engine, Error, Found, Recipe};
use metrics::Metrics;
use plan::{Action, Client, desired, plan};
use sweep::sweep;

/// How often to look without being told to.
const RESYNC: Duration = Duration::from_secs(30);
/// Events come in bursts: this much silence ends one.
const SILENCE: Duration = Duration::from_millis(20);
/// A burst without end is looked at after so many events.
const BURST: usize = 100;
/// Creations at once; the engine does them one after the other in the end.
const AT_ONCE: usize = 8;

/// How ambassadors are made, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub(crate) struct Agent {
    /// The image of ambassadors
    #[arg(
        long,
        value_name = "IMAGE",
        env = "AMBASSADOR_IMAGE",
        default_value = "ambassador/ambassador"
    )]
    image: String,
    /// The volume in which each ambassador has a directory, named after its client
    #[arg(long, value_name = "VOLUME", env = "AMBASSADOR_VOLUME", default_value = "ambassadors")]
    volume: String,
    /// The template of their configurations [default: the one of the image]
    #[arg(long, value_name = "FILE", env = "AMBASSADOR_TEMPLATE")]
    template: Option<PathBuf>,
    /// Only care for the clients of this Compose project, and leave others and their ambassadors
    /// alone
    #[arg(long, value_name = "PROJECT", env = "COMPOSE_PROJECT_NAME")]
    pub(crate) project: Option<String>,
    #[command(flatten)]
    pub(crate) docker: Endpoint,
}

/// One engine's clients and ambassadors, and what has been said about them.
struct Pass<'a> {
    engine: &'a Engine,
    recipe: Recipe,
    project: Option<&'a str>,
    template: Option<&'a Path>,
    /// The volume, where the agent has it mounted.
    folder: &'a Path,
    metrics: &'a Metrics,
}

/// Warnings by client, so that each is given once.
type Warned = BTreeMap<String, String>;

/// Where the agent's numbers are served.
pub(crate) type Listen = listener::Args<9121>;

/// Cares for this node's clients until the token is cancelled.
pub(crate) async fn agent(
    options: &Agent,
    listen: &Listen,
    folder: &Path,
    token: &CancellationToken,
) -> ExitCode {
    let (metrics, registry) = Metrics::new();
    let serve = listener::serve(listen.address(), registry, metrics.readiness(), token.clone());
    tokio::join!(serve, care(options, folder, &metrics, token));
    ExitCode::SUCCESS
}

async fn care(options: &Agent, folder: &Path, metrics: &Metrics, token: &CancellationToken) {
    let mut delays = delays();
    let mut warned = Warned::new();
    while !token.is_cancelled() {
        let connected = match Engine::new(&options.docker) {
            Ok(engine) => {
                let pass = options.pass(&engine, folder, metrics);
                let mut succeeded = || delays.reset();
                pass.again_and_again(token, &mut warned, &mut succeeded).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = connected {
            let error = anyhow::Error::from(error);
            metrics.failed(&format!("{error:#}"));
            let delay = delays.next_delay();
            tracing::warn!(?delay, "{error:#}");
            tokio::select! {
                () = sleep(delay) => {}
                () = token.cancelled() => {}
            }
        }
    }
}

/// Looks once, and fails if anything could not be done.
pub(crate) async fn create(options: &Agent, folder: &Path) -> anyhow::Result<ExitCode> {
    let engine = Engine::new(&options.docker)?;
    let (metrics, _) = Metrics::new();
    let failures = options.pass(&engine, folder, &metrics).once(&mut Warned::new()).await?;
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Removes a project's ambassadors and what is in the volume for them, whatever has become of their clients.
pub(crate) async fn delete(
    docker: &Endpoint,
    project: &str,
    folder: &Path,
) -> anyhow::Result<ExitCode> {
    let engine = Engine::new(docker)?;
    let found = engine.list().await?;
    let ours: Vec<_> =
        found.ambassadors.iter().filter(|one| one.identity.project == project).collect();
    let removals: Vec<_> = ours.iter().copied().map(Action::Remove).collect();
    let failures = carry_out(&engine, None, &Metrics::new().0, &removals).await;
    if failures == 0 {
        for ambassador in ours {
            resources::forget(folder, &ambassador.identity.container)?;
        }
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Agent {
    fn pass<'a>(&'a self, engine: &'a Engine, folder: &'a Path, metrics: &'a Metrics) -> Pass<'a> {
        Pass {
            engine,
            recipe: Recipe { image: self.image.clone(), volume: self.volume.clone() },
            project: self.project.as_deref(),
            template: self.template.as_deref(),
            folder,
            metrics,
        }
    }
}

impl Pass<'_> {
    /// Looks whenever something happens, until events end or the token is cancelled.
    async fn again_and_again(
        &self,
        token: &CancellationToken,
        warned: &mut Warned,
        succeeded: &mut impl FnMut(),
    ) -> Result<(), Error> {
        let mut retries = delays();
        let mut events = std::pin::pin!(self.engine.events());
        loop {
            let wait = if self.once(warned).await? == 0 {
                retries.reset();
                RESYNC
            } else {
                retries.next_delay()
            };
            succeeded();
            tokio::select! {
                event = events.next() => event.ok_or(Error::Ended)??,
                () = sleep(wait) => {}
                () = token.cancelled() => return Ok(()),
            }
            drain(&mut events).await?;
        }
    }

    /// Makes one pass; returns how many actions failed.
    async fn once(&self, warned: &mut Warned) -> Result<usize, Error> {
        let found = self.engine.list().await?;
        self.sweep(&found);
        let Found { clients, ambassadors, unknown } = found;
        let ours = |project: &str| self.project.is_none_or(|only| only == project);
        // Those of other projects are left alone, and those of whom nothing is known now.
        let others = clients.iter().filter(|one| !ours(&one.project)).map(|one| one.id.clone());
        let others: BTreeSet<_> = others.chain(unknown.iter().cloned()).collect();
        let clients: Vec<_> = clients.into_iter().filter(|client| ours(&client.project)).collect();
        let ambassadors: Vec<_> = ambassadors
            .into_iter()
            .filter(|one| ours(&one.identity.project) && !others.contains(&one.identity.container))
            .collect();
        for id in &unknown {
            tracing::warn!(
                client = id,
                "docker does not answer for it, its ambassador stays as it is"
            );
        }
        self.metrics.looked(clients.len(), ambassadors.len());
        let settings = self.recipe.settings();
        let mut wanted = BTreeSet::new();
        for client in &clients {
            match desired(client, &settings) {
                Ok(identity) => drop(wanted.insert(identity)),
                Err(reason) => warn_once(warned, client, reason),
            }
        }
        warned.retain(|id, _| clients.iter().any(|client| client.id == *id));
        let others = others.iter().map(String::as_str).collect();
        if let Err(error) = resources::publish(self.folder, self.template, &wanted, &others) {
            tracing::warn!("confd is not told of ambassadors: {error:#}");
        }
        let actions = plan(&wanted, &ambassadors);
        let failures = carry_out(self.engine, Some(&self.recipe), self.metrics, &actions).await;
        Ok(failures + unknown.len())
    }

    /// Tidies the volume up; what is left over does no harm.
    fn sweep(&self, found: &Found) {
        let clients = found.clients.iter().map(|client| &client.id).chain(&found.unknown);
        let served = found.ambassadors.iter().map(|one| &one.identity.container);
        let wanted = clients.chain(served).map(String::as_str).collect();
        if let Err(error) = sweep(self.folder, &wanted, SystemTime::now()) {
            tracing::warn!(%error, "the directories of clients that have gone are left");
        }
    }
}

/// Takes what has come in meanwhile: one pass answers all of it.
async fn drain(events: &mut (impl Stream<Item = Result<(), Error>> + Unpin)) -> Result<(), Error> {
    for _ in 0..BURST {
        match timeout(SILENCE, events.next()).await {
            Ok(event) => event.ok_or(Error::Ended)??,
            Err(_) => break,
        }
    }
    Ok(())
}

/// Carries out removals and then creations; returns how many failed.
async fn carry_out(
    engine: &Engine,
    recipe: Option<&Recipe>,
    metrics: &Metrics,
    actions: &[Action<'_>],
) -> usize {
    let (removals, creations): (Vec<_>, Vec<_>) =
        actions.iter().partition(|action| matches!(action, Action::Remove(_)));
    let mut failures = 0;
    for actions in [removals, creations] {
        let done = futures_util::stream::iter(actions)
            .map(|action| carry_out_one(engine, recipe, metrics, action))
            .buffer_unordered(AT_ONCE);
        failures += done.filter(|done| std::future::ready(!done)).count().await;
    }
    failures
}

async fn carry_out_one(
    engine: &Engine,
    recipe: Option<&Recipe>,
    metrics: &Metrics,
    action: &Action<'_>,
) -> bool {
    let began = tokio::time::Instant::now();
    let (done, verb, container) = match (action, recipe) {
        (Action::Remove(ambassador), _) => {
            (engine.remove(&ambassador.id).await, "removed", &ambassador.identity.container)
        }
        (Action::Create(identity), Some(recipe)) => {
            (engine.create(recipe, identity).await, "created", &identity.container)
        }
        (Action::Create(_), None) => return false,
    };
    match done {
        Ok(()) => {
            tracing::info!(client = container, "ambassador {verb}");
            match action {
                Action::Create(_) => metrics.created(began.elapsed()),
                Action::Remove(_) => metrics.removed(),
            }
            true
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::warn!(client = container, "ambassador not {verb}: {error:#}");
            metrics.action_failed();
            false
        }
    }
}

fn warn_once(warned: &mut Warned, client: &Client, reason: String) {
    if warned.get(&client.id) != Some(&reason) {
        tracing::warn!(client = client.name, %reason, "no ambassador for this client");
        warned.insert(client.id.clone(), reason);
    }
}
