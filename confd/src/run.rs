//! What the commands do.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use daemon::listener::{self, Readiness};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::{self, Board, FILES, Phase};
use crate::cli::{Args, Command, USAGE};
use crate::control::{self, Order, Workers};
use crate::local::Source;
use crate::metrics::Metrics;
use crate::publish::{Reports, publish};
use crate::reload::Reasons;
use crate::supervisor::Supervisor;
use crate::watch::Watches;
use crate::worker::{Programs, Shared};
use crate::{claim, dry, inspect, resource};

/// How long a load balancer that is just coming may take until it can be reached, before that counts as a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does what `args` say, until it is done or `token` is cancelled.
pub async fn run(args: Args, token: CancellationToken) -> anyhow::Result<ExitCode> {
    match &args.command {
        None => Box::pin(follow(&args, token)).await,
        Some(Command::Check { json }) => Ok(dry::check(&args, *json)),
        Some(Command::Render { resource, diff, json }) => {
            dry::render(&args, resource, dry::Show { diff: *diff, json: *json }, token).await
        }
        Some(Command::History { resource, json }) => {
            inspect::history(&args, resource.as_deref(), *json)
        }
        Some(Command::Diff { old, new, resource, json }) => {
            inspect::diff(&args, resource.as_deref(), (*old, *new), *json)
        }
        Some(Command::Rollback { number, pin, resource, json }) => {
            let order = Order::Rollback { number: *number, pin: *pin };
            inspect::order(&args, resource.as_deref(), order, *json).await
        }
        Some(Command::Unpin { resource, json }) => {
            inspect::order(&args, resource.as_deref(), Order::Unpin, *json).await
        }
        Some(Command::Accept { resource, json }) => {
            inspect::order(&args, resource.as_deref(), Order::Accept, *json).await
        }
        Some(Command::Status { resource, json }) => {
            inspect::order(&args, resource.as_deref(), Order::Status, *json).await
        }
        Some(Command::Healthcheck) => Ok(healthcheck(&args).await),
    }
}

async fn follow(args: &Args, token: CancellationToken) -> anyhow::Result<ExitCode> {
    let client = match args.client() {
        Ok(client) => client,
        Err(code) => return Ok(code),
    };
    if !args.confdir.join("conf.d").is_dir() {
        eprintln!("confd: there is no folder {}", args.confdir.join("conf.d").display());
        return Ok(ExitCode::from(USAGE));
    }
    // What cannot be remembered can be served all the same.
    if let Err(error) = std::fs::create_dir_all(&args.state_dir) {
        tracing::error!(folder = %args.state_dir.display(), %error, "cannot be created: nothing will be remembered");
    }
    // A single run may be made beside the daemon, which goes on.
    let claimed = if args.once { Ok(None) } else { claim::claim(&args.state_dir, &token).await };
    let _lock = match claimed {
        Ok(lock) => lock,
        Err(why) => {
            eprintln!("confd: {why}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let watches = Watches::new(client.clone(), metrics.clone());
    watches.follow_docker(&args.docker, &args.derive);
    let (board, workers) = (Board::default(), Workers::default());
    let programs = args.once.then(Programs::default);
    let reports = Reports::default();
    // A single run leaves nobody who could say what is served later, and without Consul nobody is told.
    let publishing = (!args.once && args.derive.source == Source::Consul).then(|| {
        let age = metrics.clone();
        publish(
            (reports.clone(), board.clone()),
            client.clone(),
            move || age.data_age(),
            args.state_dir.clone(),
            token.child_token(),
        )
    });
    let shared = Shared {
        watches: Arc::clone(&watches),
        metrics,
        board: board.clone(),
        workers: workers.clone(),
        reports: reports.clone(),
        state_dir: args.state_dir.clone(),
        docker: args.docker.clone(),
        programs: programs.clone(),
        // A single run has no second chance: it waits as long as it may.
        patience: if args.once { args.once_timeout.0 } else { PATIENCE },
    };
    let stop = token.child_token();
    let supervisor = Supervisor::new(args.confdir.clone(), shared, stop.clone());
    let (ready, readiness) = watch::channel(Readiness::NotReady("starting".into()));
    let mut outcome = ExitCode::SUCCESS;
    let working = async {
        tokio::join!(
            supervisor.run(Reasons::new(&args.confdir)?),
            Arc::clone(&watches).run(stop.clone()),
            async {
                if let Some(publishing) = publishing {
                    publishing.await;
                }
            },
            async {
                // Nobody asks a single run, and the daemon beside it is the one to be heard.
                if !args.once {
                    control::serve(&args.state_dir, (&workers, &board), stop.clone()).await;
                }
            },
            follow_readiness(&board, ready, stop.clone()),
            async {
                // A single run serves nobody's probes.
                let address = args.listen.address().filter(|_| !args.once);
                listener::serve(address, Arc::new(registry), readiness, stop.clone()).await;
            },
            async {
                if let Some(programs) = programs {
                    outcome = once(args, &board, &programs, &stop).await;
                    for line in watches.left_out() {
                        eprintln!("confd: {line}");
                    }
                    stop.cancel();
                }
            }
        );
        anyhow::Ok(())
    };
    Box::pin(working).await?;
    Ok(outcome)
}

async fn follow_readiness(
    board: &Board,
    ready: watch::Sender<Readiness>,
    token: CancellationToken,
) {
    let mut changes = board.watch();
    loop {
        ready.send_replace(board::readiness(&changes.borrow_and_update()));
        tokio::select! {
            () = token.cancelled() => return,
            _ = changes.changed() => {}
        }
    }
}

/// Waits until every resource is live or has failed, then for the programs that run because of them.
async fn once(
    args: &Args,
    board: &Board,
    programs: &Programs,
    token: &CancellationToken,
) -> ExitCode {
    let mut changes = board.watch();
    let (resources, errors) = resource::load(&args.confdir);
    let settled = changes.wait_for(|board| {
        board.len() >= resources.len()
            && board.values().all(|p| matches!(p, Phase::Live(0) | Phase::Failing(_)))
    });
    tokio::select! {
        () = token.cancelled() => return ExitCode::FAILURE,
        _ = tokio::time::timeout(args.once_timeout.0, settled) => {}
    }
    let board = board.watch().borrow().clone();
    for (name, phase) in &board {
        match phase {
            Phase::Live(0) => {}
            Phase::Live(n) => eprintln!("confd: {name}: {n} servers have not passed a check yet"),
            Phase::Waiting(why) | Phase::Failing(why) => eprintln!("confd: {name}: {why}"),
        }
    }
    let mistaken = !errors.is_empty() || board.keys().any(|name| name.ends_with(FILES));
    if mistaken {
        ExitCode::from(USAGE)
    } else if board.len() >= resources.len() && board.values().all(|p| *p == Phase::Live(0)) {
        tokio::select! {
            () = token.cancelled() => ExitCode::FAILURE,
            code = programs.ended() => code.into(),
        }
    } else {
        ExitCode::FAILURE
    }
}

async fn healthcheck(args: &Args) -> ExitCode {
    let Some(address) = args.listen.address() else {
        eprintln!("confd: the daemon has no --listen address to be asked at");
        return ExitCode::FAILURE;
    };
    if listener::probe(address).await {
        return ExitCode::SUCCESS;
    }
    eprintln!("confd: no healthy answer from {address}");
    ExitCode::FAILURE
}
