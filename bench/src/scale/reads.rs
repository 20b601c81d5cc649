//! Who answers the watchers: the leader, any server (`?stale`), or the cache of an agent (`?cached`).
//!
//! Three servers and an agent on addresses of their own, with the usual ports; watchers are plain blocking queries, for
//! confd asks in one of these ways only.

use std::fs::{self, File};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use consul::{Client, Config};
use serde_json::json;
use tempfile::TempDir;
use testbed::process::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::world::{Usage, entry, load, ticks, write};
use super::{LATE, LENGTH, Shape};

/// Small services, so that the answers do not end the measurement.
const SHAPE: Shape = Shape {
    name: "1,000 services of 50",
    nodes: 1000,
    services: 1000,
    instances: 50,
    watchers: 100,
    list: false,
};
/// How many of the services are watched, by ten watchers each.
const WATCHED: usize = 10;
/// The last one is the agent.
const AGENTS: [&str; 4] = ["127.7.0.1", "127.7.0.2", "127.7.0.3", "127.7.0.4"];
const SERVERS: usize = 3;
/// Changes per second.
const CHURN: [u32; 3] = [5, 20, 50];
/// How long a cluster may take to elect a leader, and to answer everybody for the first time.
const READY: Duration = Duration::from_mins(1);

/// A way to ask.
struct Mode {
    name: &'static str,
    /// Whom the watchers ask, in turns.
    asked: &'static [&'static str],
    /// What is added to the question.
    how: &'static str,
}

const MODES: [Mode; 4] = [
    Mode { name: "three servers, the leader answers", asked: SPREAD, how: "" },
    Mode { name: "three servers, `?stale`", asked: SPREAD, how: "&stale" },
    Mode { name: "one agent, the leader answers", asked: ONE, how: "" },
    Mode { name: "one agent, `?cached`", asked: ONE, how: "&cached" },
];
const SPREAD: &[&str] = AGENTS.split_at(SERVERS).0;
const ONE: &[&str] = AGENTS.split_at(SERVERS).1;

/// Three servers and an agent; they end when this is dropped.
struct Cluster {
    processes: Vec<Process>,
    client: Client,
    changes: AtomicUsize,
    _folder: TempDir,
}

/// Measures every way to ask, and prints a table.
pub(crate) async fn table() -> Result<()> {
    let cluster = Arc::new(Cluster::start().await?);
    println!("\n## {} watchers on {WATCHED} of {}\n", SHAPE.watchers, SHAPE.name);
    println!(
        "| asked | changes/s wanted | seen | change → last watcher p50 | worst | late | leader CPU % | followers | agent |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for mode in &MODES {
        let (watchers, answers) = watchers(mode).await?;
        for churn in CHURN {
            let row = cluster.measure(churn, &answers).await?;
            println!("| {} | {churn} | {row} |", mode.name);
        }
        drop(watchers);
    }
    Ok(())
}

impl Cluster {
    async fn start() -> Result<Self> {
        let folder = TempDir::new()?;
        let mut processes = Vec::new();
        for (number, address) in AGENTS.iter().enumerate() {
            let server = number < SERVERS;
            let home = folder.path().join(address);
            fs::create_dir(&home)?;
            let mut config = json!({
                "node_name": format!("agent{number}"), "bind_addr": address, "client_addr": address,
                "data_dir": home.join("data"), "retry_join": &AGENTS[..SERVERS], "server": server,
                "log_level": "warn", "disable_update_check": true,
                "performance": {"raft_multiplier": 1}, "ports": {"dns": -1, "grpc": -1},
                "limits": {"http_max_conns_per_client": 15000},
            });
            if server {
                config["bootstrap_expect"] = json!(SERVERS);
            }
            fs::write(home.join("agent.json"), config.to_string())?;
            let mut command = Command::new("consul");
            command.arg("agent").arg("-config-file").arg(home.join("agent.json"));
            processes.push(Process::spawn(&command, Some(&File::create(home.join("log"))?))?);
        }
        let client = Client::new(&Config::from_uri(&format!("http://{}:8500", AGENTS[0]))?)?;
        let cluster = Self { processes, client, changes: AtomicUsize::new(0), _folder: folder };
        let started = Instant::now();
        while leader().await.is_err() {
            anyhow::ensure!(started.elapsed() < READY, "no leader within {READY:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        load(&cluster.client, SHAPE).await?;
        Ok(cluster)
    }

    /// Gives an instance of a watched service another port; returns the service and what its list says then.
    async fn change(&self) -> Result<(usize, String)> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        let service = number % WATCHED;
        let index = service + SHAPE.services * (number / WATCHED % SHAPE.instances);
        let port = u16::try_from(1000 + number % 60_000)?;
        write(&self.client, &[entry(SHAPE, index, port)]).await?;
        Ok((service, format!("\"Port\":{port},")))
    }

    /// Changes instances `churn` times a second, and notes when the last watcher of each knows.
    async fn measure(
        self: &Arc<Self>,
        churn: u32,
        answers: &[watch::Receiver<String>],
    ) -> Result<String> {
        let leader = leader().await?;
        let before = self.ticks()?;
        let started = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / churn);
        let mut seen = JoinSet::new();
        while started.elapsed() < LENGTH {
            pace.tick().await;
            let (cluster, answers) = (Arc::clone(self), answers.to_vec());
            seen.spawn(async move {
                let (service, text) = cluster.change().await.ok()?;
                let made = Instant::now();
                let known = async {
                    for mut watcher in answers.into_iter().skip(service).step_by(WATCHED) {
                        watcher.wait_for(|answer| answer.contains(&text)).await.ok()?;
                    }
                    Some(made.elapsed())
                };
                tokio::time::timeout(LATE, known).await.ok()?
            });
        }
        let took = started.elapsed();
        let after = self.ticks()?;
        let percent = |number: usize| Usage::share(after[number] - before[number], took);
        let followers: u64 = (0..SERVERS).filter(|number| *number != leader).map(percent).sum();
        let all = seen.join_all().await;
        let late = all.iter().filter(|time| time.is_none()).count();
        let mut times: Vec<Duration> = all.into_iter().flatten().collect();
        times.sort();
        let at = |index: usize| times.get(index).copied().unwrap_or(LATE).as_millis();
        Ok(format!(
            "{} | {} ms | {} ms | {late} | {} | {followers} | {}",
            times.len() as u64 / LENGTH.as_secs(),
            at(times.len() / 2),
            at(times.len().saturating_sub(1)),
            percent(leader),
            percent(SERVERS)
        ))
    }

    fn ticks(&self) -> Result<Vec<u64>> {
        self.processes.iter().map(|process| ticks(process.pid())).collect()
    }
}

/// Starts a watcher for each place in turn; returns when each has its first answer.
async fn watchers(mode: &Mode) -> Result<(JoinSet<()>, Vec<watch::Receiver<String>>)> {
    let (mut tasks, mut answers) = (JoinSet::new(), Vec::new());
    for number in 0..SHAPE.watchers {
        let (sender, receiver) = watch::channel(String::new());
        let address = mode.asked[number / WATCHED % mode.asked.len()];
        let path = format!("/v1/health/service/s{}?passing&wait=60s{}", number % WATCHED, mode.how);
        tasks.spawn(async move {
            let mut index = 0;
            while let Ok((next, text)) = get(address, &format!("{path}&index={index}")).await {
                index = next;
                // Nobody listens any more: this way was measured.
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        answers.push(receiver);
    }
    for answer in &mut answers {
        let first = answer.wait_for(|text| !text.is_empty());
        tokio::time::timeout(READY, first).await.context("a watcher got no answer")??;
    }
    Ok((tasks, answers))
}

/// Returns which of the servers leads.
async fn leader() -> Result<usize> {
    let (_, text) = get(AGENTS[0], "/v1/status/leader").await?;
    let found = AGENTS.iter().position(|address| text.contains(&format!("\"{address}:")));
    found.context("there is no leader")
}

/// Returns the index and the body of an answer: over a connection of its own, and as text, to cost little beside what is
/// measured.
async fn get(address: &str, path: &str) -> Result<(u64, String)> {
    let mut stream = TcpStream::connect((address, 8500)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    anyhow::ensure!(head.contains(" 200 "), "{path}: {head}");
    let index = head.lines().find_map(|line| line.strip_prefix("X-Consul-Index: "));
    Ok((index.and_then(|index| index.parse().ok()).unwrap_or(0), body.to_owned()))
}
