//! `ambassador agent`: each client on this node that asks for upstreams has exactly one ambassador
//! in its network namespace, and nobody else has one.

mod come_up;
mod early;
mod metrics;
mod pass;
pub(crate) mod plan;
mod resources;
mod sweep;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use daemon::backoff::delays;
use daemon::listener;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::docker::{Endpoint, Engine, Error, Recipe};
use metrics::Metrics;
use pass::{Memory, Pass, carry_out};
use plan::Action;

/// How often to look without being told to.
const RESYNC: Duration = Duration::from_secs(30);
/// Events come in bursts: this much silence ends one.
const SILENCE: Duration = Duration::from_millis(20);
/// A burst without end is looked at after so many events.
const BURST: usize = 100;
/// How long an ambassador that somebody else is making may take.
const MOMENT: Duration = Duration::from_secs(1);
/// How often that is waited for.
const LOOKS: usize = 3;
/// A connection on which events came for so long did not end because of how the engine answers.
const STEADY: Duration = Duration::from_secs(10);
/// How long the last pass may take: `docker stop` waits for ten seconds.
const LAST: Duration = Duration::from_secs(5);

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
    let mut memory = Memory::default();
    while !token.is_cancelled() {
        let began = Instant::now();
        let connected = match Engine::new(&options.docker) {
            Ok(engine) => {
                let pass = options.pass(&engine, folder, metrics);
                pass.again_and_again(token, &mut memory).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = connected {
            // A look that succeeded says nothing about events, which may be refused.
            if began.elapsed() >= STEADY {
                delays.reset();
            }
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

/// Looks once, waits until the ambassadors can be configured, and fails if anything could not be done or a client asks for
/// what it cannot get.
pub(crate) async fn create(options: &Agent, folder: &Path) -> anyhow::Result<ExitCode> {
    let engine = Engine::new(&options.docker)?;
    let (metrics, _) = Metrics::new();
    let pass = options.pass(&engine, folder, &metrics);
    let mut memory = Memory::default();
    let mut done = pass.once(&mut memory).await?;
    for _ in 0..LOOKS {
        if done.failures + done.held == 0 {
            break;
        }
        // An agent beside us may be making the same ones: in a moment they are there.
        sleep(MOMENT).await;
        done = pass.once(&mut memory).await?;
    }
    let silent = come_up::silent(folder, &options.volume, &done.wanted).await;
    let all = done.failures + done.held + done.refused + silent == 0;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
    let failed = carry_out(&engine, None, &Metrics::new().0, &removals).await;
    if failed.is_empty() {
        for ambassador in ours {
            resources::forget(folder, &ambassador.identity.container)?;
        }
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
        memory: &mut Memory,
    ) -> Result<(), Error> {
        let mut retries = delays();
        let mut events = std::pin::pin!(self.engine.events());
        let (mut quiet, mut unseen) = (false, 0);
        loop {
            let done = self.once(memory).await?;
            if quiet {
                unseen = self.unseen(&done.wanted, unseen);
            }
            let wait = if done.failures == 0 {
                retries.reset();
                RESYNC
            } else {
                retries.next_delay()
            };
            let wait = memory.early.wait(Instant::now()).map_or(wait, |pause| pause.min(wait));
            quiet = tokio::select! {
                event = events.next() => {
                    event.ok_or(Error::Ended)??;
                    false
                }
                // Long enough for all ambassadors to have come up.
                () = sleep(wait) => wait == RESYNC,
                () = token.cancelled() => {
                    // Who has gone before it was asked to end takes its ambassador along.
                    let _ = timeout(LAST, self.once(memory)).await;
                    return Ok(());
                }
            };
            drain(&mut events).await?;
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
