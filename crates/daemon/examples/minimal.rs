//! The smallest daemon: it serves its health until it is stopped, or until a command it was
//! given ends, and then exits with the command's status.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use daemon::listener::Readiness;
use prometheus_client::registry::Registry;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    log: daemon::log::Args,
    #[command(flatten)]
    listen: daemon::listener::Args<9119>,
    /// Goes on when asked to stop
    #[arg(long)]
    stubborn: bool,
    /// A command to run
    #[arg(last = true)]
    command: Vec<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    if let Some(code) = daemon::pid1::supervise()? {
        return Ok(code);
    }
    let args = Args::parse();
    daemon::log::init(&args.log);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let token = daemon::shutdown::token()?;
    let (_ready, readiness) = tokio::sync::watch::channel(Readiness::Ready);
    let metrics = Arc::new(Registry::default());
    let serving = daemon::listener::serve(args.listen.address(), metrics, readiness, token);
    let running = run_command(&args.command);
    tracing::info!(args.stubborn, "started");
    tokio::select! {
        () = serving, if !args.stubborn => Ok(ExitCode::SUCCESS),
        code = running => code,
    }
}

/// Runs a command to its end; without one, never returns.
async fn run_command(command: &[String]) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else { std::future::pending().await };
    let status = tokio::process::Command::new(program).args(arguments).status().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
