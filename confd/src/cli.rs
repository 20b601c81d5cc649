//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

/// Exit code of a mistake in flags or files.
pub(crate) const USAGE: u8 = 2;

/// What is printed below the flags.
const EXAMPLES: &str = "\
Examples:
  confd                                      follows Consul on 127.0.0.1:8500, resources in /etc/confd
  confd --once                               does everything once, and exits
  confd --source docker --internal --network shop_backends
                                             without Consul: what runs on this node
  confd check                                tells whether resources and templates make sense
  confd render haproxy --diff                what would change, and how it would be brought to life
  confd status                               what each resource does, and what holds it up
  confd rollback 3 --pin                     back to generation 3, until `confd unpin`

Every flag but --once, --once-timeout and those of single commands can be set by an environment variable, too,
which commands run beside the daemon then share.";

/// Renders proxy configurations from Consul and brings them into running load balancers.
///
/// Without a command it is the daemon: it follows the source until it is told to stop.
#[derive(Clone, Debug, clap::Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Args {
    /// The folder that holds conf.d/*.toml, templates/ and files/
    #[arg(
        long,
        value_name = "DIR",
        env = "CONFD_DIR",
        default_value = "/etc/confd",
        global = true
    )]
    pub confdir: PathBuf,
    /// Where is kept what was accepted: generations, and what they were made from
    #[arg(
        long,
        value_name = "DIR",
        env = "CONFD_STATE_DIR",
        default_value = "/var/lib/confd",
        global = true
    )]
    pub state_dir: PathBuf,
    /// Do everything once, then exit: 0 if all is live, 1 if something failed
    #[arg(long)]
    pub once: bool,
    /// With --once or render: how long the source may take to answer, and a load balancer to be there
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub once_timeout: crate::units::Span,
    /// How containers become instances.
    #[command(flatten)]
    pub derive: crate::local::Derive,
    /// Where the data comes from.
    #[command(flatten)]
    pub consul: consul::Args,
    /// Where Docker is.
    #[command(flatten)]
    pub docker: engine::Endpoint,
    /// Where metrics are served.
    #[command(flatten)]
    pub listen: daemon::listener::Args<9120>,
    /// What is logged.
    #[command(flatten)]
    pub log: daemon::log::Args,
    /// What to do instead of following the source.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Args {
    /// Parses the command line and the environment; prints help or what is wrong with it, and exits, where it must.
    #[must_use]
    pub fn parse_from_env() -> Self {
        let command = daemon::flags::without_empty(Self::command(), "CONFD_", "");
        // Those of Consul may stand wherever the others may.
        let command = command.mut_args(|arg| {
            let is_consul = arg.get_long().is_some_and(|long| long.starts_with("consul-"));
            if is_consul { arg.global(true) } else { arg }
        });
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Connects to the source, without asking it anything yet.
    pub(crate) fn client(&self) -> Result<consul::Client, ExitCode> {
        let client = self.consul.config().and_then(|config| consul::Client::new(&config));
        client.map_err(|error| {
            eprintln!("confd: {:#}", anyhow::Error::from(error));
            ExitCode::from(USAGE)
        })
    }
}

/// What to do instead of following the source.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Read all resources and templates, and render them with made-up data
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Render a resource and print the text; nothing is written or applied
    Render {
        /// The resource: its file's name without .toml
        resource: String,
        /// Print what would change instead: the text's differences, and what HAProxy would be told
        #[arg(long)]
        diff: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the generations that were accepted, the newest first
    History {
        /// The resource, if there is more than one
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what changed from one generation to another
    Diff {
        /// The older generation
        old: u64,
        /// The newer generation
        new: u64,
        /// The resource, if there is more than one
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Go back to a generation, until what is rendered changes
    Rollback {
        /// The generation
        number: u64,
        /// Stay there, whatever changes
        #[arg(long)]
        pin: bool,
        /// The resource, if there is more than one
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Follow the source again after `rollback --pin`
    Unpin {
        /// The resource; default: all
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let go what the guard against mass removal holds
    Accept {
        /// The resource; default: all
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how the daemon's resources are doing
    Status {
        /// The resource; default: all
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask the running daemon whether it is healthy: exit 0 if it is
    Healthcheck,
}
