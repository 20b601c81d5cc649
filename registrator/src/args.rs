//! What can be said on the command line; the flags of older registrators are understood too.
#![allow(
    clippy::doc_markdown,
    reason = "these comments are the program's help, which shows no Markdown"
)]

mod derive;
mod keep;
mod mirror;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::legacy;

pub use derive::Derive;
pub use keep::{Deregister, Keep, OnExit};
pub use mirror::{KvFormat, Mirror};

/// The flag whose environment variable means something when it is empty: no keys.
const MAY_BE_EMPTY: &str = "kv_prefix";
/// What is printed below the flags.
const EXAMPLES: &str = "\
Examples:
  registrator                                    published ports, Consul on 127.0.0.1:8500
  registrator --internal --network shop_backends --compose-names
  registrator --dry-run                          shows what would change, and changes nothing
  registrator list                               shows what is wanted and what is registered
  registrator --kv-prefix shop acl-policy        the least that its token must be allowed

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
    /// Something other than running as a daemon; flags go before it
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where Consul is, in the way of older registrators: consul://host:8500, consul-tls://,
    /// consul-unix:///path or consulkv://host:8500/prefix; goes before --consul-addr
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
        let matches = command().get_matches_from(legacy::rewrite(words));
        let mut args = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        // It writes down whole containers, with all that is secret in their environment.
        args.log.log = args.log.log.with_target("bollard", tracing::Level::INFO);
        args
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
        _ => Ok(consul::Secret::new(text)),
    }
}

/// Returns the command line's grammar. Our environment variables count as not set when they are
/// empty, as Compose files leave them.
fn command() -> clap::Command {
    daemon::flags::without_empty(Args::command(), "REGISTRATOR_", MAY_BE_EMPTY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parse(words: &[&str]) -> Args {
        let words = ["registrator"].iter().chain(words).map(ToString::to_string);
        Args::try_parse_from(legacy::rewrite(words)).unwrap()
    }

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable_of_its_name() {
        let command = Args::command();
        let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let with_names: Vec<_> = flags.filter_map(|arg| Some((arg, arg.get_long()?))).collect();
        assert!(with_names.len() > 30, "{}", with_names.len());
        for (arg, flag) in with_names {
            let name = flag.to_ascii_uppercase().replace('-', "_");
            let ours = format!("REGISTRATOR_{name}");
            let env = arg.get_env().and_then(|env| env.to_str()).unwrap_or_default();
            // Docker's and Consul's own tools have names for theirs, and all our daemons share two.
            let shared =
                ["DOCKER_", "CONSUL_", "LOG", "LISTEN"].iter().any(|it| env.starts_with(it));
            assert!(env == ours || shared, "--{flag} is not {ours} but {env:?}");
        }
    }

    #[test]
    fn the_flags_of_older_registrators_mean_what_they_meant() {
        let args = parse(&[
            "-cleanup=true",
            "-deregister",
            "on-success",
            "-explicit",
            "-internal",
            "-ip",
            "10.0.0.1",
            "-resync",
            "30",
            "-retry-attempts=-1",
            "-retry-interval",
            "2000",
            "-tags",
            "a,b",
            "-ttl",
            "30",
            "-ttl-refresh",
            "10",
            "-useIpFromLabel",
            "ip",
            "consulkv://h:1/old/prefix",
        ]);
        assert!(args.derive.internal && args.derive.explicit && args.keep.cleanup);
        assert_eq!(args.derive.ip.as_deref(), Some("10.0.0.1"));
        assert_eq!(args.derive.tags.as_deref(), Some("a,b"));
        assert_eq!(args.derive.use_ip_from_label.as_deref(), Some("ip"));
        assert_eq!(args.keep.deregister, Deregister::OnSuccess);
        assert_eq!(args.keep.resync, Duration::from_secs(30));
        assert_eq!(args.mirror.ttl, Duration::from_secs(30));
        let config = args.consul_config().unwrap();
        let prefix = config.kv_prefix.as_deref();
        assert_eq!(args.mirror.prefix(prefix).as_deref(), Some("old/prefix"));
        assert_eq!(args.mirror.format(prefix), KvFormat::Addr);
    }

    #[test]
    fn a_boolean_flag_can_be_refused() {
        assert!(!parse(&["--cleanup=false"]).keep.cleanup);
        assert!(!parse(&["-internal=0"]).derive.internal);
        assert!(parse(&["--internal"]).derive.internal);
    }

    #[test]
    fn the_value_of_a_switch_is_not_mistaken_for_an_address() {
        let error = Args::try_parse_from(["registrator", "--cleanup", "false"]).unwrap_err();
        assert!(error.to_string().contains("--cleanup=false"), "{error}");
    }

    #[test]
    fn an_empty_prefix_means_no_keys() {
        assert_eq!(parse(&["--kv-prefix="]).mirror.prefix(None), None);
        assert_eq!(parse(&[]).mirror.prefix(None).as_deref(), Some("services"));
    }

    #[test]
    fn a_password_in_the_registrys_address_is_not_shown() {
        let args = parse(&["consul://user:sesame@h"]);
        assert!(!format!("{args:?}").contains("sesame"));
    }

    #[test]
    fn a_command_is_not_mistaken_for_an_address() {
        assert!(matches!(parse(&["list", "--json"]).command, Some(Command::List { json: true })));
        assert!(parse(&["consul://h"]).command.is_none());
    }
}
