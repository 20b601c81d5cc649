//! The command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::settings::{Options, Variant};

/// What is printed below the commands.
const EXAMPLES: &str = "\
Examples:
  multihost up --nodes 3                     three hosts, a Consul cluster, the whole system on them
  multihost status                           what they run and serve, and how fast it mines
  multihost exec node2 docker ps             looks into one
  multihost partition node3                  cuts its cable; `multihost heal node3` mends it
  multihost bundle alpha=10.0.0.11 beta=10.0.0.12 gamma=10.0.0.13 --out cluster
                                             writes the folders of hosts of your own
  multihost down                             leaves nothing";

/// Where everything is kept unless another folder is named.
pub(crate) const FOLDER: &str = "/var/lib/multihost";

/// Several Docker hosts on one Linux machine, and what you do to them.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Args {
    /// Where everything is kept
    #[arg(
        long,
        value_name = "FOLDER",
        env = "MULTIHOST_DIR",
        default_value = FOLDER,
        value_parser = folder,
        global = true
    )]
    pub folder: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Reads the command line; prints usage and ends the process if it cannot be understood.
    #[must_use]
    pub fn parse() -> Self {
        <Self as Parser>::parse()
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the nodes and starts everything on them
    Up(Up),
    /// Shows the nodes, what they run, and how fast they mine
    Status,
    /// Runs a command on a node
    Exec {
        /// The node, such as node1
        node: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Brings DockerCoins on every node to these numbers
    Scale {
        /// Workers on each node
        workers: u32,
        /// Random number generators on each node
        rng: u32,
    },
    /// Pulls a node's cable
    Partition {
        /// The node
        node: String,
    },
    /// Plugs it in again
    Heal {
        /// The node
        node: String,
    },
    /// Takes a node's power away
    Crash {
        /// The node
        node: String,
        /// Only its Docker Engine; its containers go on
        #[arg(long)]
        engine: bool,
    },
    /// Shuts a node down, if it is up, and boots it
    Restart {
        /// The node
        node: String,
        /// Only its Docker Engine
        #[arg(long)]
        engine: bool,
    },
    /// Adds a node to those that run
    Add,
    /// Removes a node for good
    Remove {
        /// The node
        node: String,
    },
    /// Plays an exercise: who reaches whom on overlay networks
    Exercise {
        /// Which one
        #[arg(value_parser = ["overlay"])]
        name: String,
    },
    /// Makes one swarm of the nodes (`exercise overlay` and `reach overlay` do that by themselves)
    Swarm,
    /// Has backends reached at ports of their hosts, or at their own addresses on an overlay network
    Reach {
        /// How
        #[arg(value_parser = ["published", "overlay"])]
        how: String,
    },
    /// Has each node's ambassador prefer the instances on its own node, or treat all alike
    Near {
        /// Whether
        #[arg(value_parser = ["on", "off"])]
        switch: String,
    },
    /// Removes the nodes and everything on them
    Down,
    /// Writes what real hosts need, one folder each
    Bundle {
        /// The hosts, as name=address; the first ones are Consul's servers
        #[arg(required = true, value_parser = member)]
        hosts: Vec<(String, Ipv4Addr)>,
        /// How many of the hosts, from the first on, are servers: 1, 3 or 5 [default: the same ones as the last time, 3 the first time]
        #[arg(long)]
        servers: Option<usize>,
        /// TLS between Consul's agents; once is enough
        #[arg(long)]
        tls: bool,
        /// Where to write
        #[arg(long, value_name = "FOLDER", default_value = "cluster")]
        out: PathBuf,
    },
    /// Gives a new cluster of real hosts its policies and tokens, once its servers run
    Bootstrap {
        /// The same hosts as for `bundle`
        #[arg(required = true, value_parser = member)]
        hosts: Vec<(String, Ipv4Addr)>,
        /// Where a server's API is [default: port 8500 of the first host]
        #[arg(long)]
        consul: Option<String>,
        /// What `bundle` wrote
        #[arg(long, value_name = "FOLDER", default_value = "cluster")]
        out: PathBuf,
    },
    /// Takes a real host that is gone for good off Consul's lists, and revokes its tokens
    Forget {
        /// Its name
        host: String,
        /// Where a server's API is, such as <http://10.0.0.11:8500>
        #[arg(long)]
        consul: String,
        /// What `bundle` wrote
        #[arg(long, value_name = "FOLDER", default_value = "cluster")]
        out: PathBuf,
    },
}

/// How many nodes, and what is on them.
#[derive(Debug, clap::Args)]
pub struct Up {
    /// How many nodes
    #[arg(long, default_value_t = 5)]
    nodes: u8,
    /// How many of them run a Consul server
    #[arg(long, default_value_t = 3)]
    servers: u8,
    /// The nodes' network, a /24
    #[arg(long, default_value = "10.99.0.0")]
    network: Ipv4Addr,
    /// TLS between Consul's agents
    #[arg(long)]
    tls: bool,
    /// Each node's ambassador prefers the instances on its own node
    #[arg(long)]
    near: bool,
    /// An ambassador for each worker and web interface, instead of one for each node
    #[arg(long)]
    own_ambassadors: bool,
    /// Workers on each node
    #[arg(long, default_value_t = 10)]
    workers: u32,
    /// Random number generators on each node
    #[arg(long, default_value_t = 3)]
    rng: u32,
}

impl From<Up> for Options {
    fn from(up: Up) -> Self {
        let Up { nodes, servers, network, tls, near, own_ambassadors, workers, rng } = up;
        let mut options = Self { nodes, servers, network, tls, workers, rng, ..Self::default() };
        options.set(Variant::Near, near);
        options.set(Variant::OwnAmbassadors, own_ambassadors);
        options
    }
}

/// Reads a folder, in the one form that is compared and found again: absolute, without links and trailing slashes.
fn folder(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    // What is not there yet has no real name: its nearest parent has.
    let real = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let (above, real) = real.ok_or("no folder above it exists")?;
    let rest = path.strip_prefix(above).map_err(|error| error.to_string())?;
    Ok(real.components().chain(rest.components()).collect())
}

/// Returns how this program was called, to be called so again.
pub(crate) fn program() -> String {
    std::env::args().next().unwrap_or("multihost".to_owned())
}

/// Reads `name=address`.
fn member(text: &str) -> Result<(String, Ipv4Addr), String> {
    let (name, address) = text.split_once('=').ok_or("a host is given as name=address")?;
    Ok((name.to_owned(), address.parse().map_err(|_| format!("{address} is not an IPv4 address"))?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_folder_has_one_form() {
        let inside = tempfile::tempdir_in("/var/tmp").unwrap();
        let (real, link) = (inside.path().join("real"), inside.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        for (given, meant) in [
            (format!("{}/", real.display()), real.clone()),
            (format!("{}//./", real.display()), real.clone()),
            (link.display().to_string(), real.clone()),
            (format!("{}/not/yet/", link.display()), real.join("not/yet")),
        ] {
            let args = Args::parse_from(["multihost", "down", "--folder", &given]);
            // As text: paths that differ by a slash are equal.
            assert_eq!(args.folder.display().to_string(), meant.display().to_string());
        }
    }

    #[test]
    fn a_command_on_a_node_keeps_its_flags() {
        let args = Args::parse_from(["multihost", "exec", "node1", "docker", "ps", "-q"]);
        let Command::Exec { node, command } = args.command else { panic!("another command") };
        assert_eq!((node.as_str(), command.join(" ").as_str()), ("node1", "docker ps -q"));
    }
}
