//! The command line: parsed and judged before anything else happens.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::agent::Agent;
use crate::directory::Directory;
use crate::generate::{Mode, Options, generate};
use crate::grammar::{self, Listen, frontends};
use crate::link::Link;

/// What a command line asks for; see [`Args::parse`].
#[derive(Debug)]
pub struct Args {
    pub(crate) log: daemon::log::Args,
    pub(crate) place: Place,
    pub(crate) task: Task,
}

/// An ambassador's surroundings: its directory and the HAProxy program.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: Directory,
    pub(crate) haproxy: PathBuf,
}

/// What to do. A configuration is text already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Run { limits: Limits, config: Option<String> },
    Reconfigure { config: String, limit: Duration },
    Showconfig,
    Debugconfig { config: Option<String> },
    Healthcheck,
    Link(Link),
    Agent(Agent),
    Create(Agent),
    Delete { docker: String, project: String },
}

/// How long connections may take to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Limits {
    /// How long connections may go on when the ambassador is stopped
    #[arg(long, value_name = "SECONDS", env = "AMBASSADOR_STOP_AFTER", default_value = "5", value_parser = seconds)]
    pub(crate) stop_after: Duration,
    /// How long connections may go on when a reload has replaced the process that serves them
    #[arg(long, value_name = "SECONDS", env = "AMBASSADOR_HARD_STOP_AFTER", default_value = "3600", value_parser = seconds)]
    pub(crate) hard_stop_after: Duration,
}

/// The load balancer next to its clients.
#[derive(Debug, Parser)]
#[command(name = "ambassador", version, override_usage = USAGE)]
struct Cli {
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
    log: daemon::log::Args,
    #[command(subcommand)]
    command: Command,
}

const USAGE: &str = "ambassador [OPTIONS] <COMMAND>
       ambassador [OPTIONS] [ADDR:]PORT [BACKEND]...   (the same as `ambassador run …`)";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run HAProxy until a signal ends it; without a configuration it waits for one
    Run {
        #[command(flatten)]
        limits: Limits,
        #[command(flatten)]
        service: Service,
    },
    /// Hand a configuration to the ambassador that runs in the directory, and wait until it is
    /// applied or rejected
    Reconfigure {
        /// How long to wait for the answer
        #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
        timeout: Duration,
        #[command(flatten)]
        service: Service,
    },
    /// Print the configuration that is served
    Showconfig,
    /// Print a configuration in full and what HAProxy says about it, without applying it; the
    /// served one unless another is given
    Debugconfig {
        #[command(flatten)]
        service: Service,
    },
    /// Exit with 0 when HAProxy serves, with 1 when it does not
    Healthcheck,
    /// Convert a Compose file: links become ambassadors
    ///
    /// A service with links gets `extra_hosts`, which name 127.127.0.2 and so on instead, and a
    /// label that asks for the ambassador behind them. Linked services publish their ports on
    /// random ports of the host. Fixed ports and paths of the host are dropped.
    Link(Link),
    /// Give each client on this node that asks for upstreams an ambassador, until a signal ends it
    Agent(Agent),
    /// Do what `agent` does once, for one Compose project
    Create {
        #[command(flatten)]
        agent: Agent,
    },
    /// Remove the ambassadors of a Compose project, those of stopped clients too
    Delete {
        /// Docker's address
        #[arg(
            long,
            value_name = "URL",
            env = "DOCKER_HOST",
            default_value = "unix:///var/run/docker.sock"
        )]
        docker: String,
        /// The Compose project
        #[arg(long, value_name = "PROJECT", env = "COMPOSE_PROJECT_NAME")]
        project: String,
    },
    #[command(external_subcommand)]
    Bare(Vec<String>),
}

/// What to serve.
#[derive(Debug, clap::Args)]
struct Service {
    /// What to understand of the traffic
    #[arg(long, value_enum, env = "AMBASSADOR_MODE", default_value_t)]
    mode: Mode,
    /// Show statistics and, on /metrics, figures for Prometheus; on loopback unless ADDR is given
    #[arg(long, value_name = "[ADDR:]PORT", env = "AMBASSADOR_STATS", value_parser = grammar::listen)]
    stats: Option<Listen>,
    /// Where to listen and where to connect to: `[ADDR:]PORT BACKEND...`, where a backend is
    /// `HOST:PORT` or `HOST PORT`, IPv6 in brackets; `--` begins another `[ADDR:]PORT`
    #[arg(value_name = "[ADDR:]PORT [BACKEND]...", trailing_var_arg = true)]
    words: Vec<String>,
}

impl Service {
    /// Returns the configuration, or none where there are no words.
    fn config(&self) -> Result<Option<String>, clap::Error> {
        let frontends =
            frontends(&self.words).map_err(|error| usage(ErrorKind::ValueValidation, &error))?;
        let options = Options { mode: self.mode, stats: self.stats };
        Ok((!frontends.is_empty()).then(|| generate(&frontends, options)))
    }
}

impl Args {
    /// Reads the process's arguments; on wrong ones says so and ends the process with status 2.
    #[must_use]
    pub fn parse() -> Self {
        Self::try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn try_parse_from(
        words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let cli = Cli::try_parse_from(words)?;
        Ok(Self {
            log: cli.log,
            place: Place { directory: Directory::new(&cli.dir), haproxy: cli.haproxy },
            task: task(cli.command)?,
        })
    }
}

fn task(command: Command) -> Result<Task, clap::Error> {
    Ok(match command {
        Command::Run { limits, service } => Task::Run { limits, config: service.config()? },
        Command::Reconfigure { timeout, service } => Task::Reconfigure {
            config: service.config()?.ok_or_else(|| {
                usage(ErrorKind::MissingRequiredArgument, &"reconfigure needs [ADDR:]PORT")
            })?,
            limit: timeout,
        },
        Command::Showconfig => Task::Showconfig,
        Command::Debugconfig { service } => Task::Debugconfig { config: service.config()? },
        Command::Healthcheck => Task::Healthcheck,
        Command::Link(options) => Task::Link(options),
        Command::Agent(options) => Task::Agent(options),
        Command::Create { agent } if agent.project.is_some() => Task::Create(agent),
        Command::Create { .. } => {
            return Err(usage(ErrorKind::MissingRequiredArgument, &"create needs --project"));
        }
        Command::Delete { docker, project } => Task::Delete { docker, project },
        Command::Bare(words) => {
            let run = ["ambassador", "run"].into_iter().map(str::to_owned);
            task(Cli::try_parse_from(run.chain(words))?.command)?
        }
    })
}

fn usage(kind: ErrorKind, error: &dyn std::fmt::Display) -> clap::Error {
    Cli::command().error(kind, error)
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(["ambassador"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_bare_form_is_run() {
        for words in ["80 10.0.0.1 80 [::1]:81", "127.127.0.2:80", "80 a:1 -- 81 b:1"] {
            assert_eq!(parse(words).unwrap().task, parse(&format!("run {words}")).unwrap().task);
        }
        let args = parse("--dir /d 80 a:1").unwrap();
        assert_eq!(args.place.directory.path(), std::path::Path::new("/d"));
    }

    #[test]
    fn several_frontends_are_separated_by_two_dashes() {
        let Task::Run { config: Some(config), .. } = parse("run 80 a:1 -- 81 b 1").unwrap().task
        else {
            panic!("no configuration")
        };
        assert!(config.contains("listen in-80\n"), "{config}");
        assert!(config.contains("listen in-81\n"), "{config}");
    }

    #[test]
    fn run_and_debugconfig_need_no_words() {
        assert!(matches!(parse("run").unwrap().task, Task::Run { config: None, .. }));
        assert!(matches!(parse("debugconfig").unwrap().task, Task::Debugconfig { config: None }));
    }

    #[test]
    fn wrong_grammar_shows_the_usage_and_exits_with_2() {
        for line in [
            "reconfigure",
            "reconfigure 80 web",
            "run web",
            "nonsense",
            "80 81 82",
            "run 80 a:1 --",
            "showconfig 80",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains("Usage: ambassador"), "{line}: {error}");
        }
    }

    #[test]
    fn wrong_values_of_flags_exit_with_2() {
        for line in ["run --mode udp 80", "run --stats nowhere 80", "run --stop-after soon"] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
