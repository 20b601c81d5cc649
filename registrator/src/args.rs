//! What can be said on the command line; the flags of older registrators are understood too.
#![allow(
    clippy::doc_markdown,
    reason = "these comments are the program's help, which shows no Markdown"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::docker::Endpoint;
use crate::legacy;
use crate::units::{duration, percent, switch};

/// Where the engine is unless told otherwise.
const DOCKER: &str = "unix:///var/run/docker.sock";
/// What is printed below the flags.
const EXAMPLES: &str = "\
Examples:
  registrator                                    published ports, Consul on 127.0.0.1:8500
  registrator --internal --network shop_backends --compose-names
  registrator --dry-run                          shows what would change, and changes nothing
  registrator list                               shows what is wanted and what is registered
  registrator --kv-prefix shop acl-policy        the least that its token must be allowed

Containers say more about themselves with labels and environment variables such as
SERVICE_NAME, SERVICE_80_TAGS, SERVICE_CHECK_HTTP and SERVICE_IGNORE. Flags of older
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
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<consul::Secret>,

    /// Where Docker is.
    #[command(flatten)]
    pub docker: Docker,
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

/// Where Docker is.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Docker")]
pub struct Docker {
    /// Where the engine is: unix:///path, tcp://host:port (with TLS if --docker-tls-verify)
    #[arg(id = "docker_host", long = "docker-host", value_name = "URL", env = "DOCKER_HOST",
          default_value = DOCKER)]
    host: String,
    /// The folder with ca.pem, cert.pem and key.pem for TLS [default: ~/.docker]
    #[arg(
        id = "docker_cert_path",
        long = "docker-cert-path",
        value_name = "FOLDER",
        env = "DOCKER_CERT_PATH"
    )]
    cert_path: Option<PathBuf>,
    /// Speak TLS to a tcp:// address, and check the engine's certificate: any value but nothing
    #[arg(id = "docker_tls_verify", long = "docker-tls-verify", value_name = "BOOL",
          env = "DOCKER_TLS_VERIFY", num_args = 0..=1,
          require_equals = true, default_missing_value = "1")]
    tls_verify: Option<String>,
}

impl Docker {
    /// Returns where the engine is.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let host = if self.host.is_empty() { DOCKER } else { &self.host };
        let wanted = self.tls_verify.as_deref().is_some_and(|value| !value.is_empty());
        let folder = || {
            let given = self.cert_path.clone().filter(|path| !path.as_os_str().is_empty());
            given.unwrap_or_else(|| {
                PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".docker")
            })
        };
        let certificates = (wanted || host.starts_with("https://")).then(folder);
        Endpoint { host: host.to_owned(), certificates }
    }
}

/// How containers become instances.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "From a container to services")]
pub struct Derive {
    /// The name of this host in IDs and as owner [default: the name of Consul's node]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Register the exposed ports on the container's own address, not the published ones
    #[arg(long, value_name = "BOOL", default_value = "false", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub internal: bool,
    /// The address of published ports [default: the binding's own, or that of Consul's node]
    #[arg(long, value_name = "ADDR")]
    pub ip: Option<String>,
    /// The label of a container that holds the address of its published ports
    #[arg(long, value_name = "LABEL")]
    pub use_ip_from_label: Option<String>,
    /// The network whose address counts with --internal, where a container has several
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// The range in which that address must be, such as 10.0.0.0/8
    #[arg(long, value_name = "CIDR")]
    pub network_cidr: Option<String>,
    /// Only register what has a SERVICE_NAME
    #[arg(long, value_name = "BOOL", default_value = "false", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub explicit: bool,
    /// Name services after Compose's or Swarm's service instead of the image
    #[arg(long, value_name = "BOOL", default_value = "false", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub compose_names: bool,
    /// Tags for every instance, separated by commas; may be templates over the inspected
    /// container, such as {{ Config.Hostname }}
    #[arg(long, value_name = "TAGS")]
    pub tags: Option<String>,
    /// Only labels that start with this count, without it: with `reg.` it is `reg.SERVICE_NAME`
    #[arg(long, value_name = "PREFIX")]
    pub label_prefix: Option<String>,
}

/// What stays registered, and what goes.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "What stays and what goes")]
pub struct Keep {
    /// What to remove when a container stops
    #[arg(long, value_name = "WHEN", default_value = "always")]
    pub deregister: Deregister,
    /// Remove instances of ours that have no container any more
    #[arg(long, value_name = "BOOL", default_value = "true", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub cleanup: bool,
    /// Ask Docker a second time when more of our instances than this would go at once (and at
    /// least 5)
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = percent)]
    pub max_removal: u8,
    /// What to do with our instances on SIGTERM
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    pub on_exit: OnExit,
    /// How often to look at everything, whatever the events say; 0 = never
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub resync: Duration,
    /// Print what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// When the instances of a stopped container go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deregister {
    /// As soon as it stops
    Always,
    /// When it stops well; one that failed stays, critical, until it is started again or removed
    OnSuccess,
    /// When it is removed; until then its instances stay, critical
    Never,
}

/// What happens to our instances when we stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnExit {
    /// They stay
    Keep,
    /// They go
    Deregister,
    /// They are put into maintenance
    Maintenance,
}

/// The copy of the catalog in Consul's key-value store.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Keys")]
pub struct Mirror {
    /// Where every instance is a key, PREFIX/SERVICE/ID, and PREFIX-events/NODE the journal; empty
    /// = nowhere [default: services]
    #[arg(long, value_name = "PREFIX")]
    pub kv_prefix: Option<String>,
    /// What such a key holds: everything as JSON, or address:port [default: json]
    #[arg(long, value_name = "FORMAT")]
    pub kv_format: Option<KvFormat>,
    /// How long the keys outlive this node, 10s to 24h
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub ttl: Duration,
    /// How often to say that it lives [default: a third of --ttl]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub ttl_refresh: Option<Duration>,
}

/// What a key of the mirror holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvFormat {
    /// Everything about the instance, as JSON
    Json,
    /// `address:port`
    Addr,
}

impl Args {
    /// Parses the command line; prints help or what is wrong with it, and exits, where it must.
    #[must_use]
    pub fn parse_from_env() -> Self {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let mut args = Self::parse_from(legacy::rewrite(words));
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

impl Mirror {
    /// Returns the prefix of the keys, `None` where there are none. `from_uri` is the prefix that
    /// the registry's address had, if any.
    #[must_use]
    pub fn prefix(&self, from_uri: Option<&str>) -> Option<String> {
        let prefix = self.kv_prefix.as_deref().or(from_uri).unwrap_or("services").trim_matches('/');
        (!prefix.is_empty()).then(|| prefix.to_owned())
    }

    /// Returns what a key holds: with a `consulkv` address what it always held.
    #[must_use]
    pub fn format(&self, from_uri: Option<&str>) -> KvFormat {
        let usual = if from_uri.is_some() { KvFormat::Addr } else { KvFormat::Json };
        self.kv_format.unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &[&str]) -> Args {
        let words = ["registrator"].iter().chain(words).map(ToString::to_string);
        Args::try_parse_from(legacy::rewrite(words)).unwrap()
    }

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Args::command().debug_assert();
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
