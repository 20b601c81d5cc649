//! How fast registrator is, and what it weighs: one engine and one agent of its own, nothing else of the stack.
//!
//! A start is measured from the engine's own time stamp of its event to the moment at which the agent has answered the
//! registration, as registrator's log tells; that it is in the catalog is checked afterwards. Beside it stands the least
//! that anybody can need on this machine: a loop that reads events, inspects, and registers, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use consul::{Client, Config, Registration};
use futures_util::StreamExt;
use registrator::docker::{Endpoint, Engine};
use serde_json::Value;
use testbed::consul::Consul;
use testbed::docker::Docker;
use testbed::process::Process;

use crate::table::{load, machine, ms, row};

/// Single starts that are measured.
const STARTS: usize = 30;
/// Containers that run for the second half.
const MANY: usize = 200;
/// How often it is started beside them.
const RESTARTS: usize = 10;
/// Containers that start, and stop, in a burst.
const BURST: usize = 50;
/// How many commands of docker run at a time in a burst.
const LANES: usize = 8;
/// What the IDs begin with that were registered by hand.
const HAND: &str = "hand:";
/// How long what was started may take to be registered.
const LIMIT: Duration = Duration::from_secs(20);
/// How long nothing happens while the processor's time is measured.
const IDLE: Duration = Duration::from_mins(1);

/// An engine, an agent and a registrator.
struct World<'a> {
    program: &'a Path,
    engine: Docker,
    agent: Consul,
    client: Client,
    registrator: Option<Process>,
    /// When the registrator that runs was started.
    started: SystemTime,
}

/// Measures, and prints a table.
pub(crate) async fn table(program: &Path) -> Result<()> {
    let mut world = World::new(program)?;
    println!("\n## registrator\n\n{}\n", machine()?);
    println!("| | n | p50 ms | p90 ms | p99 ms | worst ms |\n|---|---|---|---|---|---|");
    world.start()?;
    world.settle(0).await?;
    let empty = world.singles("one", 0).await?;
    row("event to catalog, engine otherwise empty", empty);
    world.stop()?;
    row("… by a loop that decides nothing", world.by_hand("hand").await?);
    world.start()?;
    world.lanes(&format!(
        "seq {} {MANY} | xargs -P {LANES} -I N {}",
        2 * STARTS + 1,
        run("manyN")
    ))?;
    world.settle(MANY).await?;

    let mut starts = Vec::new();
    for _ in 0..RESTARTS {
        starts.push(world.restart().await?);
    }
    row(&format!("{MANY} running containers: process start to the last one registered"), starts);
    let memory = world.memory("VmRSS")?;

    let filled = world.singles("two", MANY).await?;
    row(&format!("event to catalog, {MANY} others running"), filled);
    world.stop()?;
    row("… by a loop that decides nothing", world.by_hand("hands").await?);
    world.start()?;

    let before = MANY + 2 * STARTS;
    world.settle(before).await?;
    let burst = world.burst(before).await?;
    row(&format!("event to catalog in a burst, {LANES} at a time"), burst.latencies);
    println!("\n| | |\n|---|---|");
    println!("| starts of the burst that were missed | {} of {BURST} |", burst.missed);
    println!("| stops of the burst that were missed | {} of {BURST} |", burst.ghosts);
    println!("| resident memory with {MANY} containers | {memory} |");
    println!("| … with {before} containers | {} |", world.memory("VmRSS")?);
    println!("| … at its highest | {} |", world.memory("VmHWM")?);
    let cpu = world.processor_time()?;
    tokio::time::sleep(IDLE).await;
    let used = world.processor_time()?.saturating_sub(cpu);
    println!("| processor time in an idle minute, {before} containers running | {} ms |", ms(used));
    println!("\n{}", load()?);
    Ok(())
}

/// What became of a burst.
struct Burst {
    latencies: Vec<Duration>,
    missed: usize,
    ghosts: usize,
}

impl<'a> World<'a> {
    fn new(program: &'a Path) -> Result<Self> {
        let (engine, agent) = (Docker::start()?, Consul::start()?);
        let client = Client::new(&Config::from_uri(&agent.url())?)?;
        Ok(Self { program, engine, agent, client, registrator: None, started: SystemTime::now() })
    }

    fn start(&mut self) -> Result<()> {
        let log = File::create(self.log())?;
        let mut command = Command::new(self.program);
        command.args(["--internal", "--log-format", "json"]).env("DOCKER_HOST", self.engine.url());
        command.env("CONSUL_HTTP_ADDR", self.agent.url()).env("LISTEN", "");
        self.started = SystemTime::now();
        self.registrator = Some(Process::spawn(&command, Some(&log))?);
        Ok(())
    }

    /// Starts it again beside an agent that knows nothing; returns how long it took to register all.
    async fn restart(&mut self) -> Result<Duration> {
        self.stop()?;
        for id in self.client.agent_services(None).await?.keys() {
            self.client.deregister(id).await?;
        }
        self.start()?;
        self.settle(MANY).await?;
        let all = self.registered()?;
        let last = all.values().max().context("nothing was registered")?;
        Ok(last.saturating_sub(self.started.duration_since(UNIX_EPOCH)?))
    }

    fn stop(&mut self) -> Result<()> {
        self.registrator.take().context("it runs")?.kill()
    }

    fn log(&self) -> std::path::PathBuf {
        self.engine.folder().join("registrator.log")
    }

    /// Waits until so many instances are registered.
    async fn settle(&self, count: usize) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let said = fs::read_to_string(self.log())?;
            let ready = said.contains("\"started\"") || count > 0;
            let found = self.instances().await?.len();
            if ready && found == count {
                break;
            }
            ensure!(Instant::now() < end, "{found} of {count} are registered:\n{said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // The journal is written a moment later.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    /// Returns our instances and the times of the events that led to them.
    async fn instances(&self) -> Result<BTreeMap<String, Option<Duration>>> {
        let services = self.client.agent_services(None).await?;
        let time = |text: &String| text.parse().ok().map(Duration::from_nanos);
        let ours = services.into_iter().filter(|(_, one)| one.meta.contains_key("managed-by"));
        Ok(ours.map(|(id, one)| (id, one.meta.get("event-time").and_then(time))).collect())
    }

    /// Returns when each instance was registered first, since 1970, as the log says.
    fn registered(&self) -> Result<BTreeMap<String, Duration>> {
        let mut all = BTreeMap::new();
        for line in fs::read_to_string(self.log())?.lines() {
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            if text("message") == Some("registered")
                && let (Some(id), Some(time)) = (text("id"), text("timestamp").and_then(since_1970))
            {
                all.entry(id.to_owned()).or_insert(time);
            }
        }
        Ok(all)
    }

    /// Returns how long it took to register the instances of these containers, and who is missing.
    async fn latencies(&self, names: &BTreeSet<String>) -> Result<Vec<Duration>> {
        let (registered, instances) = (self.registered()?, self.instances().await?);
        let latency = |name: &String| {
            let id = format!("{}:{name}:80", self.agent.node());
            Some(registered.get(&id)?.saturating_sub((*instances.get(&id)?)?))
        };
        Ok(names.iter().filter_map(latency).collect())
    }

    async fn singles(&self, prefix: &str, before: usize) -> Result<Vec<Duration>> {
        let names: BTreeSet<String> =
            (0..STARTS).map(|number| format!("{prefix}{number}")).collect();
        for name in &names {
            self.engine.run(name, &["--expose", "80"])?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.settle(before + STARTS).await?;
        let latencies = self.latencies(&names).await?;
        ensure!(latencies.len() == STARTS, "only {} were measured", latencies.len());
        Ok(latencies)
    }

    /// Measures starts as `singles` does, with nothing between an event, an inspection and a registration.
    async fn by_hand(&self, prefix: &str) -> Result<Vec<Duration>> {
        let (host, consul) = (self.engine.url(), self.agent.url());
        let (ready, waits) = std::sync::mpsc::channel();
        let loop_ = std::thread::spawn(move || {
            // As registrator runs: in one thread.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(register_by_hand(host, &consul, &ready))
        });
        waits.recv().context("the loop did not come up")?;
        for number in 0..STARTS {
            self.engine.run(&format!("{prefix}{number}"), &["--expose", "80"])?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let latencies = loop_.join().map_err(|_| anyhow::anyhow!("the loop panicked"))??;
        for id in self.client.agent_services(None).await?.keys().filter(|id| id.starts_with(HAND)) {
            self.client.deregister(id).await?;
        }
        Ok(latencies)
    }

    async fn burst(&self, before: usize) -> Result<Burst> {
        self.lanes(&format!("seq {BURST} | xargs -P {LANES} -I N {}", run("burstN")))?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let names: BTreeSet<String> = (1..=BURST).map(|number| format!("burst{number}")).collect();
        let latencies = self.latencies(&names).await?;
        let missed = BURST - (self.instances().await?.len().saturating_sub(before)).min(BURST);
        self.lanes(&format!("seq {BURST} | xargs -P {LANES} -I N docker kill burstN"))?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let ghosts = self.instances().await?.len().saturating_sub(before);
        Ok(Burst { latencies, missed, ghosts })
    }

    /// Runs a line of shell.
    fn lanes(&self, line: &str) -> Result<()> {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("DOCKER_HOST", self.engine.url()).stdout(Stdio::null());
        ensure!(shell.status()?.success(), "{line} failed");
        Ok(())
    }

    fn pid(&self) -> Result<i32> {
        Ok(self.registrator.as_ref().context("it runs")?.pid())
    }

    fn memory(&self, field: &str) -> Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
        let kibibytes = line.split_whitespace().nth(1).context("no number")?.parse::<u64>()?;
        Ok(format!("{}.{} MiB", kibibytes / 1024, kibibytes % 1024 * 10 / 1024))
    }

    /// Returns how long it has had a processor so far.
    fn processor_time(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.pid()?))?;
        let nanoseconds = text.split_whitespace().next().context("no number")?.parse()?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// Registers whatever starts, so many times; returns how long after its event each was.
async fn register_by_hand(
    host: String,
    consul: &str,
    ready: &std::sync::mpsc::Sender<()>,
) -> Result<Vec<Duration>> {
    let client = Client::new(&Config::from_uri(consul)?)?;
    let engine = Engine::connect(&Endpoint::at(host)).await?;
    client.agent_services(None).await?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut events = std::pin::pin!(engine.events());
    ready.send(())?;
    let mut latencies = Vec::new();
    while latencies.len() < STARTS {
        let event = events.next().await.context("the events ended")??;
        let happened = Duration::from_nanos(u64::try_from(event.time_nano)?);
        if event.what.name() != "start" || happened < began {
            continue;
        }
        let document = engine.inspect(&event.container).await?.context("it is gone already")?;
        let name = document["Name"].as_str().unwrap_or_default();
        let address = document["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str();
        let registration = Registration {
            id: format!("{HAND}{name}"),
            name: "hand".into(),
            address: address.unwrap_or_default().into(),
            port: 80,
            ..Registration::default()
        };
        client.register(&registration).await?;
        latencies.push(SystemTime::now().duration_since(UNIX_EPOCH)?.saturating_sub(happened));
    }
    Ok(latencies)
}

fn run(name: &str) -> String {
    format!("docker run -d --init --expose 80 --name {name} busybox sleep infinity")
}

/// Reads `2026-01-02T03:04:05.678901Z`; only the time of day is read, and today's date is put before it.
fn since_1970(text: &str) -> Option<Duration> {
    let day = 24 * 60 * 60;
    let today = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() / day * day;
    let (clock, fraction) = text.split_once('T')?.1.trim_end_matches('Z').split_once('.')?;
    let mut seconds = 0;
    for part in clock.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    let nanoseconds = format!("{fraction:0<9}").parse::<u32>().ok()?;
    Some(Duration::new(today + seconds, nanoseconds))
}
