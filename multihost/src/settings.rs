//! What was asked for: how many nodes, which addresses, where. Kept in the state folder for the later commands.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// The file in the state folder that says what was asked for: what makes the folder one of ours.
pub(crate) const FILE: &str = "multihost.json";

/// What that file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The folder of the project's files.
    repository: PathBuf,
    options: Options,
}

/// A way in which the nodes may differ from the plain form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Backends are reached on an overlay network, not at ports of their hosts.
    Overlay,
    /// Each node's ambassador prefers the instances on its own node.
    Near,
    /// Each worker and web interface has an ambassador of its own.
    OwnAmbassadors,
}

/// What `up` can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How many nodes.
    pub nodes: u8,
    /// How many of them, the first ones, run a Consul server.
    pub servers: u8,
    /// The first address of a /24: node N gets its Nth, this machine the 254th.
    pub network: Ipv4Addr,
    /// TLS between Consul's agents.
    pub tls: bool,
    /// Workers on each node.
    pub workers: u32,
    /// Random number generators on each node.
    pub rng: u32,
    /// In which ways the nodes differ from the plain form.
    #[serde(default)]
    pub variants: BTreeSet<Variant>,
    /// Nodes that were removed for good, by number.
    pub removed: BTreeSet<u8>,
}

impl Options {
    /// Has the nodes differ in this way, or not.
    pub(crate) fn set(&mut self, variant: Variant, on: bool) {
        if on {
            self.variants.insert(variant);
        } else {
            self.variants.remove(&variant);
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        let network = Ipv4Addr::new(10, 99, 0, 0);
        Self {
            nodes: 5,
            servers: 3,
            network,
            tls: false,
            workers: 10,
            rng: 3,
            variants: BTreeSet::new(),
            removed: BTreeSet::new(),
        }
    }
}

/// Nodes that were made, or are being made.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What was asked for.
    pub options: Options,
    folder: PathBuf,
    repository: PathBuf,
}

impl Cluster {
    /// Returns a cluster to be made in `folder`, with the files of `repository`. Nothing is written yet.
    ///
    /// # Errors
    /// If there is one already, or the folder or the numbers cannot be.
    pub fn new(folder: &Path, repository: &Path, options: Options) -> anyhow::Result<Self> {
        ensure!(folder.is_absolute(), "{} is not an absolute path", folder.display());
        ensure!(
            !folder.starts_with("/run"),
            "nodes have a /run of their own: use another folder than {}",
            folder.display()
        );
        ensure!((1..=50).contains(&options.nodes), "1 to 50 nodes are possible");
        ensure!(
            options.servers % 2 == 1 && options.servers <= options.nodes,
            "the number of servers must be odd, and at most that of nodes"
        );
        ensure!(
            !folder.join(FILE).exists(),
            "there are nodes already, in {}; take them down first: multihost down",
            folder.display()
        );
        ensure!(
            crate::down::is_empty(folder),
            "{} holds something else, and `down` would remove it: give another folder by --folder",
            folder.display()
        );
        let left = crate::down::running(folder);
        ensure!(
            left.is_empty(),
            "there is something left of other nodes; take it down first: multihost down ({})",
            left.join(", ")
        );
        Ok(Self { options, folder: folder.to_owned(), repository: repository.to_owned() })
    }

    /// Returns the cluster that was made in `folder`.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(folder.join(FILE)).with_context(|| {
            format!("no nodes in {}: make some by multihost up", folder.display())
        })?;
        let Record { repository, options } = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged", folder.join(FILE).display()))?;
        Ok(Self { options, folder: folder.to_owned(), repository })
    }

    /// Writes down what is asked for, and makes the folder if there is none.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let (folder, file) = (&self.folder, self.folder.join(FILE));
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let new = folder.join(".new");
        let record = Record { repository: self.repository.clone(), options: self.options.clone() };
        fs::write(&new, serde_json::to_vec_pretty(&record)?)?;
        fs::rename(new, &file).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Returns the folder that holds everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the folder of the project's files.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// Returns the nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = crate::node::Node> + use<> {
        let (folder, options) = (self.folder.clone(), self.options.clone());
        (1..=options.nodes)
            .filter(|number| !self.options.removed.contains(number))
            .collect::<Vec<_>>()
            .into_iter()
            .map(move |number| crate::node::Node::new(&folder, &options, number))
    }

    /// Returns the node of that name, `node3` or just `3`.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, name: &str) -> anyhow::Result<crate::node::Node> {
        let number = name.strip_prefix("node").unwrap_or(name);
        let found = self.nodes().find(|node| node.number().to_string() == number);
        found.with_context(|| {
            format!("there is no node {name}: node1 to node{}", self.options.nodes)
        })
    }

    /// Returns the address of the `number`th host in the network.
    pub(crate) fn address(&self, number: u8) -> Ipv4Addr {
        address(self.options.network, number)
    }
}

/// Returns the `number`th address of the /24 that begins with `network`.
pub(crate) fn address(network: Ipv4Addr, number: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_found_again_and_made_only_once() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let options = Options { nodes: 3, servers: 1, ..Options::default() };
        let made = Cluster::new(folder.path(), Path::new("/"), options.clone()).unwrap();
        made.save().unwrap();
        assert_eq!(
            made.nodes().map(|n| n.name().to_owned()).collect::<Vec<_>>(),
            ["node1", "node2", "node3"]
        );
        let found = Cluster::open(folder.path()).unwrap();
        assert_eq!((&found.options, found.repository()), (&options, Path::new("/")));
        let error = Cluster::new(folder.path(), Path::new("/"), options).unwrap_err();
        assert!(error.to_string().contains("there are nodes already"), "{error}");
        assert_eq!(made.node("2").unwrap().address().to_string(), "10.99.0.2");
        assert!(made.node("4").is_err());
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_refused() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::write(folder.path().join("letters"), "").unwrap();
        let error = Cluster::new(folder.path(), Path::new("/"), Options::default()).unwrap_err();
        assert!(error.to_string().contains("holds something else"), "{error}");
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        for (nodes, servers) in [(0, 1), (3, 2), (1, 3), (51, 3)] {
            let options = Options { nodes, servers, ..Options::default() };
            assert!(
                Cluster::new(folder.path(), Path::new("/"), options).is_err(),
                "{nodes} {servers}"
            );
        }
    }
}
