//! The load balancer next to its clients: HAProxy as PID 1 of its container.
//!
//! ```text
//!                    ┌───────────── directory (a volume) ─────────────┐
//!  confd ──────────► │ haproxy.cfg  master.sock  runtime.sock         │
//!  reconfigure ────► │ control.sock                                   │
//!                    └───▲──────────────▲─────────────────────────────┘
//!          ambassador run: configure    supervise ──► haproxy (master) ──► worker ◄── clients
//! ```

mod args;
mod base;
mod check;
mod configure;
mod directory;
mod healthcheck;
mod log_lines;
mod master;
mod process;
mod run;
mod settle;

use std::process::ExitCode;

pub use args::Args;

/// Does what the command line asks for and returns the exit code of the process.
pub async fn execute(args: Args) -> anyhow::Result<ExitCode> {
    daemon::log::init(&args.log);
    let place = args.place();
    match args.command {
        args::Command::Run(options) => run::run(place, &options).await,
        args::Command::Healthcheck => Ok(healthcheck::healthcheck(&place).await),
    }
}
