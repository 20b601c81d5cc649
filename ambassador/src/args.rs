//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::directory::Directory;

/// The load balancer next to its clients.
#[derive(Debug, Parser)]
#[command(version, about)]
#[group(skip)]
pub struct Args {
    /// Where the ambassador's files and sockets are; shared with those who configure it
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "AMBASSADOR_DIR",
        default_value = "/run/ambassador"
    )]
    dir: PathBuf,
    /// The HAProxy program
    #[arg(long, global = true, value_name = "PROGRAM", env = "HAPROXY", default_value = "haproxy")]
    haproxy: PathBuf,
    #[command(flatten)]
    pub(crate) log: daemon::log::Args,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run HAProxy until a signal ends it
    Run(Run),
    /// Exit with 0 when HAProxy serves, with 1 when it does not
    Healthcheck,
}

/// The flags of `ambassador run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// How long running connections may take to end when the ambassador is stopped
    #[arg(long, value_name = "SECONDS", env = "STOP_AFTER", default_value = "5", value_parser = seconds)]
    pub(crate) stop_after: Duration,
    /// How long connections may outlive a reload that replaced the process that serves them
    #[arg(long, value_name = "SECONDS", env = "HARD_STOP_AFTER", default_value = "3600", value_parser = seconds)]
    pub(crate) hard_stop_after: Duration,
}

/// An ambassador's surroundings: its directory and the HAProxy program.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: Directory,
    pub(crate) haproxy: PathBuf,
}

impl Args {
    pub(crate) fn place(&self) -> Place {
        Place { directory: Directory::new(&self.dir), haproxy: self.haproxy.clone() }
    }
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
