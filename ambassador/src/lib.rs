//! The load balancer next to its clients: HAProxy as PID 1 of its container.
//!
//! ```text
//!                    ┌───────────── directory (a volume) ─────────────┐
//!  confd ──────────► │ haproxy.cfg  master.sock  runtime.sock         │
//!  reconfigure ────► │ control.sock                                   │
//!                    └───▲──────────────▲─────────────────────────────┘
//!          ambassador run: configure    supervise ──► haproxy (master) ──► worker ◄── clients
//! ```

mod agent;
mod args;
mod base;
mod bind;
mod check;
mod commands;
mod configure;
mod control;
mod directory;
mod docker;
mod examples;
mod exposed;
mod generate;
mod grammar;
mod link;
mod log_lines;
mod master;
mod operate;
mod process;
mod push;
mod run;
mod settle;
mod upstreams;

use std::process::ExitCode;

pub use args::Args;
use args::Task;

/// Does what the command line asks for and returns the exit code of the process.
pub async fn execute(args: Args) -> anyhow::Result<ExitCode> {
    daemon::log::init(&args.log);
    let place = &args.place;
    match args.task {
        Task::Run { limits, config } => run::run(place, limits, config.as_deref()).await,
        Task::Reconfigure { config, limit } => commands::reconfigure(place, &config, limit).await,
        Task::Showconfig => commands::showconfig(place),
        Task::Debugconfig { config } => commands::debugconfig(place, config).await,
        Task::Agent(options, listen) => {
            let token = daemon::shutdown::token()?;
            Ok(agent::agent(&options, &listen, place.directory.path(), &token).await)
        }
        Task::Create(options) => agent::create(&options, place.directory.path()).await,
        Task::Configure(flags) => commands::configure(place, &flags),
        Task::Delete { docker, project } => {
            agent::delete(&docker, &project, place.directory.path()).await
        }
        Task::Link(options) => link::link(&options).await,
        Task::Push(options) => push::push(&options).await,
        Task::Operate(operation) => operate::operate(&operation).await,
        Task::Healthcheck(listen) => Ok(commands::healthcheck(place, listen.address()).await),
    }
}
