//! Flags: how containers become instances.
#![allow(
    clippy::doc_markdown,
    reason = "these comments are the program's help, which shows no Markdown"
)]

use daemon::flags::switch;

/// How containers become instances.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "From a container to services")]
pub struct Derive {
    /// The name of this host in IDs and as owner [default: the name of Consul's node]
    #[arg(long, env = "REGISTRATOR_HOSTNAME", value_name = "NAME")]
    pub hostname: Option<String>,
    /// Register the exposed ports on the container's own address, not the published ones
    #[arg(long, env = "REGISTRATOR_INTERNAL", value_name = "BOOL", default_value = "false", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub internal: bool,
    /// The address of published ports [default: the binding's own, or that of Consul's node]
    #[arg(long, env = "REGISTRATOR_IP", value_name = "ADDR")]
    pub ip: Option<String>,
    /// The label of a container that holds the address of its published ports
    #[arg(long, env = "REGISTRATOR_USE_IP_FROM_LABEL", value_name = "LABEL")]
    pub use_ip_from_label: Option<String>,
    /// The network whose address counts with --internal, where a container has several
    #[arg(long, env = "REGISTRATOR_NETWORK", value_name = "NETWORK")]
    pub network: Option<String>,
    /// The range in which that address must be, such as 10.0.0.0/8
    #[arg(long, env = "REGISTRATOR_NETWORK_CIDR", value_name = "CIDR")]
    pub network_cidr: Option<String>,
    /// Only register what has a SERVICE_NAME
    #[arg(long, env = "REGISTRATOR_EXPLICIT", value_name = "BOOL", default_value = "false", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub explicit: bool,
    /// Name services after Compose's or Swarm's service instead of the image
    #[arg(long, env = "REGISTRATOR_COMPOSE_NAMES", value_name = "BOOL", default_value = "false", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub compose_names: bool,
    /// Tags for every instance, separated by commas; may be templates over the inspected
    /// container, such as {{ Config.Hostname }}
    #[arg(long, env = "REGISTRATOR_TAGS", value_name = "TAGS")]
    pub tags: Option<String>,
    /// Only labels that start with this count, without it: with `reg.` it is `reg.SERVICE_NAME`
    #[arg(long, env = "REGISTRATOR_LABEL_PREFIX", value_name = "PREFIX")]
    pub label_prefix: Option<String>,
}
