//! The ambassador as its sockets show it: which servers get traffic, how much, and how often it was reloaded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::compose;

/// A socket of HAProxy must answer within this time.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The folder that ambassador and confd share, on the host.
#[derive(Debug, Clone)]
pub struct Ambassador {
    folder: PathBuf,
}

/// One row of HAProxy's statistics.
#[derive(Debug, Clone)]
pub struct Server {
    /// The address and port it is reached at.
    pub address: String,
    /// `UP`, `DOWN`, `no check`, `MAINT`, `DRAIN` …
    pub status: String,
    /// Its weight.
    pub weight: u64,
    /// Sessions since it was added.
    pub sessions: u64,
    /// Connections in use.
    pub current: u64,
}

impl Server {
    /// Whether new connections go there.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.weight > 0 && (self.status.starts_with("UP") || self.status == "no check")
    }
}

impl Ambassador {
    /// Finds the stack's ambassador by the volume it shares with confd.
    pub async fn of_the_stack() -> anyhow::Result<Self> {
        let filter = "label=com.docker.compose.volume=ambassador";
        let volume = compose::docker(&["volume", "ls", "--quiet", "--filter", filter]).await?;
        let format = "{{.Mountpoint}}";
        let folder =
            compose::docker(&["volume", "inspect", "--format", format, volume.trim()]).await?;
        Ok(Self { folder: PathBuf::from(folder.trim()) })
    }

    /// Returns the one whose folder is the volume `name`, or `below` that.
    pub async fn of_volume(name: &str, below: &str) -> anyhow::Result<Self> {
        let format = "{{.Mountpoint}}";
        let folder = compose::docker(&["volume", "inspect", "--format", format, name]).await?;
        Ok(Self { folder: PathBuf::from(folder.trim()).join(below) })
    }

    /// Returns the configuration as it is on disk.
    pub fn configuration(&self) -> anyhow::Result<String> {
        let path = self.folder.join("haproxy.cfg");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    async fn ask(&self, socket: &str, command: &str) -> anyhow::Result<String> {
        let path = self.folder.join(socket);
        let exchange = async {
            let mut stream = UnixStream::connect(&path).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            // The master keeps the connection open for more until it is told that this was all.
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .with_context(|| format!("{} is silent", path.display()))?
            .with_context(|| format!("cannot ask {}", path.display()))
    }

    /// Returns the servers of every backend whose name contains `service`, by server name.
    pub async fn servers(&self, service: &str) -> anyhow::Result<BTreeMap<String, Server>> {
        let csv = self.ask("runtime.sock", "show stat -1 4 -1").await?;
        let mut lines = csv.lines();
        let header: Vec<&str> =
            lines.next().context("empty statistics")?.trim_start_matches("# ").split(',').collect();
        let column = |name: &str| {
            header.iter().position(|h| *h == name).with_context(|| format!("no column {name}"))
        };
        let (proxy, name, address) = (column("pxname")?, column("svname")?, column("addr")?);
        let (status, weight, sessions, current) =
            (column("status")?, column("weight")?, column("stot")?, column("scur")?);
        let number = |text: &str| text.parse().unwrap_or(0);
        Ok(lines
            .map(|line| line.split(',').collect::<Vec<_>>())
            .filter(|row| row.len() > address && row[proxy].contains(service))
            .map(|row| {
                let server = Server {
                    address: row[address].to_owned(),
                    status: row[status].to_owned(),
                    weight: number(row[weight]),
                    sessions: number(row[sessions]),
                    current: number(row[current]),
                };
                (row[name].to_owned(), server)
            })
            .collect())
    }

    /// Returns the addresses (`ip:port`, sorted) that new connections for `service` go to.
    pub async fn serving(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let servers = self.servers(service).await?;
        let mut addresses: Vec<String> =
            servers.into_values().filter(Server::serves).map(|server| server.address).collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Returns the names of all frontends and backends, one per line.
    pub async fn proxies(&self) -> anyhow::Result<String> {
        let csv = self.ask("runtime.sock", "show stat -1 3 -1").await?;
        let names: Vec<&str> = csv.lines().filter_map(|line| line.split(',').next()).collect();
        Ok(names.join("\n"))
    }

    /// Reloads HAProxy as an operator would, and returns what it answered.
    pub async fn reload(&self) -> anyhow::Result<String> {
        self.ask("master.sock", "reload").await
    }

    /// Returns how often this HAProxy was reloaded since its master process started.
    pub async fn reloads(&self) -> anyhow::Result<u64> {
        let processes = self.ask("master.sock", "show proc").await?;
        let master = processes
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some("master"))
            .context("no master process")?;
        master
            .split_whitespace()
            .nth(2)
            .and_then(|reloads| reloads.parse().ok())
            .with_context(|| format!("no reload count in: {master}"))
    }
}
