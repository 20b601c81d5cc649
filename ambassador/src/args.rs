//! The command line: parsed and judged before anything else happens.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use services::parse_duration;

use crate::agent::{Agent, Listen as AgentListen};
use crate::directory::Directory;
use crate::docker::Endpoint;
use crate::examples::with_examples;
use crate::generate::{Mode, Options, generate};
use crate::grammar::{self, Listen, frontends};
use crate::link::Link;
use crate::operate::Operation;
use crate::push::Push;

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
#[derive(Debug)]
pub(crate) enum Task {
    Run { limits: Limits, config: Option<String> },
    Reconfigure { config: String, limit: Duration },
    Showconfig,
    Debugconfig { config: Option<String> },
    Healthcheck(AgentListen),
    Link(Link),
    Push(Push),
    Agent(Agent, AgentListen),
    Create(Agent),
    Configure(Vec<OsString>),
    Delete { docker: Endpoint, project: String },
    Operate(Box<Operation>),
}

/// How long connections may take to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Limits {
    /// How long connections may go on when the ambassador is stopped
    #[arg(long, value_name = "TIME", env = "AMBASSADOR_STOP_AFTER", default_value = "5s", value_parser = parse_duration)]
    pub(crate) stop_after: Duration,
    /// How long connections may go on when a reload has replaced the process that serves them
    #[arg(long, value_name = "TIME", env = "AMBASSADOR_HARD_STOP_AFTER", default_value = "1h", value_parser = parse_duration)]
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

/// What the names of our environment variables begin with. That of the listener is none of them: empty means nowhere.
const VARIABLES: [&str; 7] = [
    "AMBASSADOR_",
    "COMPOSE_PROJECT_NAME",
    "DOCKER_",
    "HAPROXY",
    "LOG",
    "REGISTRATOR_FLAGS",
    "VERSION",
];

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
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
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
    /// Exit with 0 when HAProxy serves, or the agent answers; with 1 when not
    Healthcheck {
        #[command(flatten)]
        listen: AgentListen,
    },
    /// Convert a Compose file: links become ambassadors
    ///
    /// A service with links gets `extra_hosts`, which name 127.127.0.2 and so on instead, and a
    /// label that asks for the ambassador behind them. Linked services publish their ports on
    /// random ports of the host. Fixed ports and paths of the host are dropped.
    Link(Link),
    /// Build the images of a Compose file, push them to a registry, and write a Compose file that
    /// names them there
    ///
    /// Nothing is written unless every image was built and pushed.
    Push(Push),
    /// Give each client on this node that asks for upstreams an ambassador, until a signal ends it
    Agent {
        #[command(flatten)]
        agent: Agent,
        #[command(flatten)]
        listen: AgentListen,
    },
    /// Do what `agent` does once, for one Compose project
    Create {
        #[command(flatten)]
        agent: Agent,
    },
    /// Configure all ambassadors once, from what runs on this node: no Consul, no daemon
    ///
    /// This is `confd --once --source docker` over what `create` wrote down; confd's flags may follow, such as
    /// --internal and --network NETWORK, which say how containers become services. Services are called as in their
    /// Compose file; --compose-names=false calls them after their images, as registrator does by default.
    Configure {
        /// Flags for confd
        #[arg(value_name = "FLAG", trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<OsString>,
    },
    /// Remove the ambassadors of a Compose project, those of stopped clients too
    Delete {
        /// The Compose project
        #[arg(long, value_name = "PROJECT", env = "COMPOSE_PROJECT_NAME")]
        project: String,
        #[command(flatten)]
        docker: Endpoint,
    },
    #[command(flatten)]
    Operate(Box<Operation>),
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
        words: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let strict = Self::try_parse_exactly(&words);
        match &strict {
            // The bare form may begin with the flags of `run`.
            Err(error) if error.kind() == ErrorKind::UnknownArgument && !words.is_empty() => {
                let mut run = words.clone();
                run.insert(1, "run".into());
                Self::try_parse_exactly(&run).or(strict)
            }
            _ => strict,
        }
    }

    fn try_parse_exactly(words: &[OsString]) -> Result<Self, clap::Error> {
        let cli = Cli::read(words)?;
        Ok(Self {
            log: cli.log,
            place: Place { directory: Directory::new(&cli.dir), haproxy: cli.haproxy },
            task: task(cli.command)?,
        })
    }
}

impl Cli {
    fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = without_empty(with_examples(Self::command()));
        let matches = command.try_get_matches_from_mut(words)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Lets our environment variables count as not set where they are empty, as Compose files leave them.
fn without_empty(command: clap::Command) -> clap::Command {
    let command = VARIABLES
        .iter()
        .fold(command, |command, name| daemon::flags::without_empty(command, name, ""));
    command.mut_subcommands(without_empty)
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
        Command::Healthcheck { listen } => Task::Healthcheck(listen),
        Command::Link(options) => Task::Link(options),
        Command::Push(options) => Task::Push(options),
        Command::Agent { agent, listen } => Task::Agent(agent, listen),
        Command::Create { agent } if agent.project.is_some() => Task::Create(agent),
        Command::Create { .. } => {
            return Err(usage(ErrorKind::MissingRequiredArgument, &"create needs --project"));
        }
        Command::Configure { flags } => Task::Configure(flags),
        Command::Delete { docker, project } => Task::Delete { docker, project },
        Command::Operate(operation) => Task::Operate(operation),
        Command::Bare(words) => {
            let run = ["ambassador", "run"].into_iter().map(str::to_owned).chain(words);
            task(Cli::read(&run.map(Into::into).collect::<Vec<_>>())?.command)?
        }
    })
}

fn usage(kind: ErrorKind, error: &dyn std::fmt::Display) -> clap::Error {
    Cli::command().error(kind, error)
}

#[cfg(test)]
mod tests;
