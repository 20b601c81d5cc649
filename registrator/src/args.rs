//! What can be said on the command line; the flags of older registrators are understood too.
#![allow(
    clippy::doc_markdown,
    reason = "these comments are the program's help, which shows no Markdown"
)]

mod derive;
mod keep;
mod mirror;
#[cfg(test)]
mod tests;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::legacy;

pub use derive::Derive;
pub use keep::{Deregister, Keep, OnExit};
pub use mirror::{KvFormat, Mirror};

/// The flag whose environment variable means something when it is empty: no keys.
const MAY_BE_EMPTY: &str = "kv_prefix";
/// Where older registrators expected Docker's socket, and where their users mount it.
const OLD_SOCKET: &str = "/tmp/docker.sock";
/// What is printed below the flags of a command.
const ELSEWHERE: &str = "\
The flags of the daemon, such as --internal or --consul-addr, count here, too, before the command or
behind it, and so do their environment variables: see registrator --help.";
/// What is printed below the flags.
const EXAMPLES: &str = "\
Examples:
  registrator                                    published ports, Consul on 127.0.0.1:8500
  registrator --internal --network shop_backends --compose-names
  registrator --dry-run                          shows what would change, and changes nothing
  registrator list --internal                    shows what is wanted and what is registered
  registrator acl-policy --kv-prefix shop        the least that its token must be allowed

Containers say more about themselves with labels and environment variables such as
SERVICE_NAME, SERVICE_80_TAGS, SERVICE_CHECK_HTTP and SERVICE_IGNORE. Every flag can be set by an
environment variable, too, which commands run beside the daemon then share. Flags of older
registrators (-internal, -ip ADDR, -resync SECONDS, consul://host:8500 ...) work as they did.";

/// Registers this node's containers in Consul, in its catalog and as keys.
///
/// Run one per node, next to Docker's socket and the node's Consul agent. It never exits because
/// one of them is away: what is registered stays, and is put right when they are back.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100, subcommand_precedence_over_arg = true, args_override_self = true)]
pub struct Args {
    /// Something other than running as a daemon
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where Consul is, in the way of older registrators: consul://host:8500, consul-tls://,
    /// consul-unix:///path or consulkv://host:8500/prefix; counts instead of --consul-addr
    #[arg(value_name = "REGISTRY", env = "REGISTRATOR_REGISTRY", hide_env_values = true,
          value_parser = registry)]
    pub registry: Option<consul::Secret>,

    /// Where Docker is.
    #[command(flatten)]
    pub docker: engine::Endpoint,
    /// Where Consul is, and how to speak to it.
    #[command(flatten)]
    pub consul: consul::Args,
    /// How containers become instances.
    #[command(flatten)]
    pub derive: Derive,
    /// What stays registered, and what goes.
    #[command(flatten)]
    pub keep: Keep,
    /// The copy of the catalog as keys.
    #[command(flatten)]
    pub mirror: Mirror,
    /// What is logged, and how.
    #[command(flatten)]
    pub log: daemon::log::Args,
    /// Where metrics and health are served.
    #[command(flatten)]
    pub listen: daemon::listener::Args<9119>,
    /// Flags of old without a meaning today.
    #[command(flatten)]
    pub(crate) ignored: legacy::Ignored,
}

/// What to do instead of running as a daemon.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Shows what must be registered and what is, side by side
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints the smallest ACL policy that works with these flags
    AclPolicy,
    /// Asks the daemon at --listen whether it is alive: exit status 0, or 1
    Healthcheck,
}

impl Args {
    /// Parses the command line and the environment; prints help or what is wrong with it, and
    /// exits, where it must.
    #[must_use]
    pub fn parse_from_env() -> Self {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        Self::read(words).unwrap_or_else(|error| error.exit())
    }

    fn read(words: impl IntoIterator<Item = String>) -> Result<Self, clap::Error> {
        let mut command = grammar();
        let matches = command.try_get_matches_from_mut(legacy::rewrite(words))?;
        let mut args = Self::from_arg_matches(&matches)?;
        let mirror = args.mirror.checked();
        args.mirror =
            mirror.map_err(|why| command.error(clap::error::ErrorKind::ValueValidation, why))?;
        Ok(args)
    }

    /// Takes Docker's socket from where older registrators had it, if nothing else was said and it is there alone.
    pub fn find_docker(&mut self) {
        if self.docker.fall_back(OLD_SOCKET) {
            tracing::info!(socket = OLD_SOCKET, "takes docker's socket from where it was of old");
        }
    }

    /// Returns how to speak to Consul.
    pub fn consul_config(&self) -> Result<consul::Config, consul::Error> {
        match &self.registry {
            Some(uri) => self.consul.config_at(uri.reveal()),
            None => self.consul.config(),
        }
    }
}

/// Reads Consul's address in the way of older registrators.
fn registry(text: &str) -> Result<consul::Secret, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "false" | "yes" | "no" | "on" | "off" => {
            Err("not an address; a switch takes its value with '=', as in --cleanup=false".into())
        }
        // A mistyped command must not start a daemon.
        word if !word.is_empty() && !word.contains([':', '/', '.']) => {
            Err("neither a command (list, acl-policy, healthcheck) nor an address such as \
                 consul://host:8500"
                .into())
        }
        _ => Ok(consul::Secret::new(text)),
    }
}

/// Returns the command line's grammar. Our environment variables count as not set when they are
/// empty, as Compose files leave them. Flags may stand behind a command as well, whose help shows its own only.
pub(crate) fn grammar() -> clap::Command {
    let command = daemon::flags::without_empty(Args::command(), "REGISTRATOR_", MAY_BE_EMPTY);
    let command = command.mut_args(|arg| if arg.is_positional() { arg } else { arg.global(true) });
    let flags: Vec<_> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional())
        .map(|arg| arg.clone().hide(true))
        .collect();
    command.mut_subcommands(|command| command.args(&flags).after_help(ELSEWHERE))
}
