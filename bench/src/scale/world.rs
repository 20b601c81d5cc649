//! The catalog of a large cluster in one real Consul, and the confd that watch it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use consul::{Client, Config, TxnOp, TxnResult};
use serde_json::json;
use tempfile::TempDir;
use testbed::consul::Consul;
use testbed::process::Process;

use super::Shape;

/// Operations in one transaction; Consul takes 64.
const BATCH: usize = 64;
/// All watchers are on one address here, unlike on real nodes, where each asks its own agent.
const LIMITS: &str = r#"{"limits": {"http_max_conns_per_client": 15000}, "log_level": "warn"}"#;
/// How often a file is looked at; it bounds the error of what is measured.
const POLL: Duration = Duration::from_millis(5);
/// How long the first rendering of all may take.
const FIRST: Duration = Duration::from_mins(5);
/// Clock ticks a second in `/proc/PID/stat`, Linux' `USER_HZ`.
const TICKS: u64 = 100;

/// A loaded Consul and its watchers; all end when it is dropped.
#[derive(Debug)]
pub(crate) struct World {
    shape: Shape,
    /// How long loading took.
    pub(crate) loaded: Duration,
    client: Client,
    changes: AtomicUsize,
    confd: Vec<Process>,
    consul: Consul,
    folder: TempDir,
}

/// Processor time: ticks so far, or a share of one core over some time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    ticks: u64,
    /// Of one core.
    pub(crate) percent: u64,
}

/// Processor time of Consul and of all confd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Both(Usage, Usage);

/// A change in the catalog, and the files that will show it.
#[derive(Debug)]
pub(crate) struct Change {
    made: Instant,
    text: String,
    files: Vec<PathBuf>,
}

impl World {
    /// Loads the catalog and starts the watchers; returns when each has rendered its service.
    pub(crate) async fn start(shape: Shape, confd: &Path) -> Result<Self> {
        let consul = Consul::options().config(LIMITS).start()?;
        let client = Client::new(&Config::from_uri(&consul.url())?)?;
        let mut world = Self {
            shape,
            loaded: Duration::ZERO,
            client,
            changes: AtomicUsize::new(0),
            confd: Vec::new(),
            consul,
            folder: TempDir::new()?,
        };
        let started = Instant::now();
        load(&world.client, shape).await?;
        world.loaded = started.elapsed();
        for watcher in 0..shape.watchers {
            let process = world.watcher(watcher, confd)?;
            world.confd.push(process);
        }
        let started = Instant::now();
        for watcher in 0..shape.watchers {
            while fs::read_to_string(world.file(watcher)).map_or(0, |text| text.lines().count())
                < shape.instances
            {
                anyhow::ensure!(
                    started.elapsed() < FIRST,
                    "confd {watcher} rendered nothing within {FIRST:?}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(world)
    }

    fn watcher(&self, number: usize, confd: &Path) -> Result<Process> {
        let folder = self.folder.path().join(number.to_string());
        fs::create_dir_all(folder.join("conf.d"))?;
        fs::create_dir_all(folder.join("templates"))?;
        let dest = self.file(number);
        fs::write(
            folder.join("conf.d/list.toml"),
            format!("[template]\nsrc = \"list.tera\"\ndest = \"{}\"\n", dest.display()),
        )?;
        let list = if self.shape.list { "{% for service in services() %}{% endfor %}" } else { "" };
        let service = number % self.shape.services;
        let text = format!(
            "{list}{{% for one in service(name=\"s{service}\") %}}{{{{ one.id }}}} {{{{ one.address }}}}:{{{{ one.port }}}}\n{{% endfor %}}"
        );
        fs::write(folder.join("templates/list.tera"), text)?;
        let mut command = Command::new(confd);
        command.arg("--confdir").arg(&folder).arg("--state-dir").arg(folder.join("state"));
        command.args(["--listen", "", "--log", "warn"]).env("CONSUL_HTTP_ADDR", self.consul.url());
        let log = File::create(folder.join("log"))?;
        Process::spawn(&command, Some(&log))
    }

    fn file(&self, watcher: usize) -> PathBuf {
        self.folder.path().join(watcher.to_string()).join("list")
    }

    /// Gives an instance another port; spread over all services, so over all watchers.
    pub(crate) async fn change(&self) -> Result<Change> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        let index = number.wrapping_mul(7919) % (self.shape.services * self.shape.instances);
        let port = u16::try_from(1000 + number % 60_000)?;
        write(&self.client, &[entry(self.shape, index, port)]).await?;
        let service = index % self.shape.services;
        let watchers =
            (0..self.shape.watchers).filter(|watcher| watcher % self.shape.services == service);
        let text = format!("i{index} {}:{port}\n", address(index % self.shape.nodes));
        Ok(Change {
            made: Instant::now(),
            text,
            files: watchers.map(|watcher| self.file(watcher)).collect(),
        })
    }

    /// Returns Consul's resident memory in MiB.
    pub(crate) fn consul_memory(&self) -> Result<u64> {
        memory(self.consul.pid())
    }

    /// Returns the resident memory of the largest confd in MiB.
    pub(crate) fn confd_memory(&self) -> Result<u64> {
        let all: Result<Vec<u64>> =
            self.confd.iter().map(|process| memory(process.pid())).collect();
        Ok(all?.into_iter().max().unwrap_or_default())
    }

    /// Returns the processor time used so far.
    pub(crate) fn usage(&self) -> Result<Both> {
        let confd: Result<u64> = self.confd.iter().map(|process| ticks(process.pid())).sum();
        let of = |ticks| Usage { ticks, percent: 0 };
        Ok(Both(of(ticks(self.consul.pid())?), of(confd?)))
    }
}

impl Usage {
    /// Returns which share of one core so many ticks are, in percent.
    pub(crate) fn share(ticks: u64, took: Duration) -> u64 {
        ticks * 100 / TICKS / took.as_secs().max(1)
    }
}

impl Both {
    /// Returns the shares of a core that were used since `before`, `took` ago: Consul's and that of all confd.
    pub(crate) fn since(self, before: Self, took: Duration) -> (Usage, Usage) {
        let share = |now: Usage, before: Usage| {
            let ticks = now.ticks - before.ticks;
            Usage { ticks, percent: Usage::share(ticks, took) }
        };
        (share(self.0, before.0), share(self.1, before.1))
    }
}

impl Change {
    /// Returns how long it took until every file showed it, or nothing if that takes longer than `limit`.
    pub(crate) async fn rendered(self, limit: Duration) -> Option<Duration> {
        for file in &self.files {
            let mut seen = None;
            loop {
                // A rendering is another file of the same name: only that is worth reading.
                let inode = fs::metadata(file).map(|found| found.ino()).ok();
                if inode != seen {
                    seen = inode;
                    if fs::read_to_string(file).is_ok_and(|text| text.contains(&self.text)) {
                        break;
                    }
                }
                if self.made.elapsed() > limit {
                    return None;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Some(self.made.elapsed())
    }
}

/// Writes a catalog of this shape.
pub(crate) async fn load(client: &Client, shape: Shape) -> Result<()> {
    let nodes = (0..shape.nodes).map(|node| {
        TxnOp::Other(json!({"Node": {"Verb": "set", "Node": {"Node": format!("sim{node}"), "Address": address(node)}}}))
    });
    let instances = (0..shape.services * shape.instances).map(|index| entry(shape, index, 80));
    let operations: Vec<TxnOp> = nodes.chain(instances).collect();
    for batch in operations.chunks(BATCH) {
        write(client, batch).await?;
    }
    Ok(())
}

pub(crate) async fn write(client: &Client, operations: &[TxnOp]) -> Result<()> {
    match client.txn(operations).await? {
        TxnResult::Done(_) => Ok(()),
        TxnResult::Refused(why) => anyhow::bail!("Consul refused the entries: {why:?}"),
    }
}

/// Returns the writing of an instance: the service and the node follow from its number.
pub(crate) fn entry(shape: Shape, index: usize, port: u16) -> TxnOp {
    let node = index % shape.nodes;
    TxnOp::Other(json!({"Service": {"Verb": "set", "Node": format!("sim{node}"), "Service": {
        "ID": format!("i{index}"), "Service": format!("s{}", index % shape.services),
        "Address": address(node), "Port": port, "Tags": ["http"],
        "Meta": {"managed-by": "registrator", "container": format!("{index:012x}")},
    }}}))
}

fn address(node: usize) -> String {
    format!("10.{}.{}.{}", 64 + node / 65_536, node / 256 % 256, node % 256)
}

fn memory(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("no number")?.parse::<u64>()? / 1024)
}

/// Returns the user and system time of a process, fields 14 and 15 of `/proc/PID/stat`.
pub(crate) fn ticks(pid: i32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().context("no fields")?;
    fields.split_whitespace().skip(11).take(2).map(|field| Ok(field.parse::<u64>()?)).sum()
}
