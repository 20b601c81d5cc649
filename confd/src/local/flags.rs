//! Flags: where the services come from, and how containers become instances.

use std::net::IpAddr;

/// Where the services come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// Consul's catalog
    Consul,
    /// This node's Docker Engine
    Docker,
}

/// How containers become instances, with --source docker: flags as registrator has them.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "With --source docker")]
pub struct Derive {
    /// Where the services come from: Consul's catalog, or this node's Docker Engine
    #[arg(
        long,
        env = "CONFD_SOURCE",
        value_enum,
        default_value = "consul",
        global = true,
        help_heading = "Options"
    )]
    pub source: Source,
    /// The name of this node
    #[arg(long, env = "CONFD_HOSTNAME", value_name = "NAME", global = true)]
    pub hostname: Option<String>,
    /// Use the exposed ports at the container's own address, not the published ones
    #[arg(long, env = "CONFD_INTERNAL", value_name = "BOOL", default_value = "false", value_parser = daemon::flags::switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    pub internal: bool,
    /// The address of published ports
    #[arg(long, env = "CONFD_IP", value_name = "ADDR", global = true)]
    pub ip: Option<IpAddr>,
    /// The label of a container that holds the address of its published ports
    #[arg(long, env = "CONFD_USE_IP_FROM_LABEL", value_name = "LABEL", global = true)]
    pub use_ip_from_label: Option<String>,
    /// The network whose address counts with --internal, where a container has several
    #[arg(long, env = "CONFD_NETWORK", value_name = "NETWORK", global = true)]
    pub network: Option<String>,
    /// The range in which that address must be, such as 10.0.0.0/8
    #[arg(long, env = "CONFD_NETWORK_CIDR", value_name = "CIDR", global = true)]
    pub network_cidr: Option<String>,
    /// Only what has a `SERVICE_NAME`
    #[arg(long, env = "CONFD_EXPLICIT", value_name = "BOOL", default_value = "false", value_parser = daemon::flags::switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    pub explicit: bool,
    /// Name services after Compose's or Swarm's service instead of the image
    #[arg(long, env = "CONFD_COMPOSE_NAMES", value_name = "BOOL", default_value = "false", value_parser = daemon::flags::switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    pub compose_names: bool,
    /// Tags for every instance, separated by commas; may be templates over the inspected container
    #[arg(long, env = "CONFD_TAGS", value_name = "TAGS", default_value = "", global = true)]
    pub tags: String,
    /// Only labels that start with this count, without it
    #[arg(
        long,
        env = "CONFD_LABEL_PREFIX",
        value_name = "PREFIX",
        default_value = "",
        global = true
    )]
    pub label_prefix: String,
}

impl Derive {
    /// Returns them as the derivation takes them; the tags are each container's.
    pub(super) fn options(&self) -> services::Options {
        services::Options {
            explicit: self.explicit,
            internal: self.internal,
            ip: self.ip,
            use_ip_from_label: self.use_ip_from_label.clone(),
            network: self.network.clone(),
            network_cidr: self.network_cidr.clone(),
            label_prefix: self.label_prefix.clone(),
            tags: Vec::new(),
            compose_names: self.compose_names,
        }
    }
}
