//! A real Consul agent on free ports, with a leader by the time a test gets it.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::Process;

/// How long an agent may take to elect itself: two seconds are usual, a busy machine is not.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(20);
/// How long one answer may take meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How often other ports are tried when someone else took one of ours.
const ATTEMPTS: usize = 5;
/// Ports are taken from below the range that Linux uses for outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A Consul agent, stopped when dropped.
#[derive(Debug)]
pub struct Consul {
    options: Options,
    ports: Ports,
    folder: TempDir,
    process: Process,
}

/// How to start an agent; [`Options::start`] does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    node: Option<String>,
    config: Option<String>,
    token: Option<String>,
    persistent: bool,
}

/// The ports of one agent.
#[derive(Clone, Copy, Debug)]
struct Ports {
    http: u16,
    dns: u16,
    grpc: u16,
    server: u16,
    serf_lan: u16,
    serf_wan: u16,
}

impl Consul {
    /// Starts a development agent and waits until it has a leader and knows its own node.
    ///
    /// # Panics
    /// If consul is not installed.
    pub fn start() -> anyhow::Result<Self> {
        Self::options().start()
    }

    /// Returns the options of an agent that is not quite the usual one.
    #[must_use]
    pub fn options() -> Options {
        Options::default()
    }

    /// Returns the address of its HTTP API, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }

    /// Returns the port of its HTTP API.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// Returns the port of its DNS server.
    #[must_use]
    pub fn dns_port(&self) -> u16 {
        self.ports.dns
    }

    /// Returns the name of its node.
    #[must_use]
    pub fn node(&self) -> &str {
        self.options.node()
    }

    /// Returns its folder, which holds its data, its log and whatever a test puts there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the agent's process number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Stops the agent; its ports stay reserved for [`Consul::restart`].
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// Kills the agent, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Starts it again, on the same ports, after stopping it if it runs. A development agent
    /// has forgotten everything then, a persistent one has not.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.process = self.options.launch(self.folder.path())?;
        self.options.wait(self.ports, &self.process, self.folder.path())
    }

    /// Freezes the agent: connections are still accepted, nothing is answered.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen agent go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Runs a `consul` command against this agent, with its management token if it has one.
    pub fn command(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("consul");
        command.args(args).env("CONSUL_HTTP_ADDR", self.url());
        if let Some(token) = &self.options.token {
            command.env("CONSUL_HTTP_TOKEN", token);
        }
        succeed(&mut command)
    }
}

impl Options {
    /// Names the agent's node; otherwise it is `node1`.
    #[must_use]
    pub fn named(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Adds settings, in JSON, which go before the usual ones.
    #[must_use]
    pub fn config(mut self, json: &str) -> Self {
        self.config = Some(json.to_owned());
        self
    }

    /// Denies everything to everyone but the bearer of `token`, a UUID.
    #[must_use]
    pub fn deny_all_but(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Keeps the data in the agent's folder, across restarts.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Starts the agent and waits until it has a leader and knows its own node.
    ///
    /// # Panics
    /// If consul is not installed.
    pub fn start(self) -> anyhow::Result<Consul> {
        let folder = tempfile::Builder::new().prefix("consul-").tempdir()?;
        let mut trouble = None;
        for _ in 0..ATTEMPTS {
            let ports = Ports::free()?;
            self.write(ports, folder.path())?;
            let process = self.launch(folder.path())?;
            match self.wait(ports, &process, folder.path()) {
                Ok(()) => return Ok(Consul { options: self, ports, folder, process }),
                Err(error) if error.to_string().contains("address already in use") => {
                    trouble = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(trouble.context("no attempt was made")?.context("no free ports were found"))
    }

    fn node(&self) -> &str {
        self.node.as_deref().unwrap_or("node1")
    }

    /// Writes the settings; later files go before earlier ones.
    fn write(&self, ports: Ports, folder: &Path) -> anyhow::Result<()> {
        let Ports { http, dns, grpc, server, serf_lan, serf_wan } = ports;
        let modern = version()? >= (1, 14);
        let grpc_tls = if modern { r#", "grpc_tls": -1"# } else { "" };
        let usual = format!(
            r#"{{"node_name": "{node}", "bind_addr": "127.0.0.1", "log_level": "warn",
                "disable_update_check": true,
                "ports": {{"http": {http}, "dns": {dns}, "grpc": {grpc}, "server": {server},
                           "serf_lan": {serf_lan}, "serf_wan": {serf_wan}{grpc_tls}}}}}"#,
            node = self.node(),
        );
        fs::write(folder.join("1.json"), usual)?;
        if self.persistent {
            let data = folder.join("data");
            let persistent = format!(
                r#"{{"server": true, "bootstrap_expect": 1, "data_dir": "{}",
                    "performance": {{"raft_multiplier": 1}}}}"#,
                data.display()
            );
            fs::write(folder.join("2.json"), persistent)?;
        }
        if let Some(token) = &self.token {
            let name = if modern { "initial_management" } else { "master" };
            let acl = format!(
                r#"{{"acl": {{"enabled": true, "default_policy": "deny",
                    "tokens": {{"{name}": "{token}", "agent": "{token}"}}}}}}"#
            );
            fs::write(folder.join("3.json"), acl)?;
        }
        if let Some(config) = &self.config {
            fs::write(folder.join("4.json"), config)?;
        }
        Ok(())
    }

    fn launch(&self, folder: &Path) -> anyhow::Result<Process> {
        let mut agent = Command::new("consul");
        agent.arg("agent");
        if !self.persistent {
            agent.arg("-dev");
        }
        for file in ["1.json", "2.json", "3.json", "4.json"].map(|name| folder.join(name)) {
            if file.exists() {
                agent.arg("-config-file").arg(file);
            }
        }
        let log = File::options().create(true).append(true).open(folder.join("consul.log"))?;
        Process::spawn(&agent, Some(&log))
    }

    /// Waits until the agent has a leader, and its own node is in the catalog: sessions and
    /// registrations fail before that.
    fn wait(&self, ports: Ports, process: &Process, folder: &Path) -> anyhow::Result<()> {
        let end = Instant::now() + START_LIMIT;
        let mut path = "/v1/status/leader".to_owned();
        let mut sign = ":";
        loop {
            let answer = self.ask(ports.http, &path, ANSWER_LIMIT).unwrap_or_default();
            if answer.starts_with("HTTP/1.0 200")
                && answer.rsplit("\r\n").next().is_some_and(|body| body.contains(sign))
            {
                if sign == "serfHealth" {
                    return Ok(());
                }
                (path, sign) = (format!("/v1/health/node/{}", self.node()), "serfHealth");
                continue;
            }
            let exited = process.exited()?;
            if exited.is_some() || Instant::now() > end {
                let log = fs::read_to_string(folder.join("consul.log")).unwrap_or_default();
                bail!("consul did not get ready ({exited:?}):\n{}", log.trim());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks the plainest way there is, so that this crate needs no HTTP client.
    fn ask(&self, port: u16, path: &str, limit: Duration) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(limit))?;
        let token = self.token.as_deref().map(|token| format!("X-Consul-Token: {token}\r\n"));
        let token = token.unwrap_or_default();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n{token}\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Ports {
    fn free() -> anyhow::Result<Self> {
        Ok(Self {
            http: free_port()?,
            dns: free_port()?,
            grpc: free_port()?,
            server: free_port()?,
            serf_lan: free_port()?,
            serf_wan: free_port()?,
        })
    }
}

/// Returns a port on 127.0.0.1 that is free for TCP and UDP, and is returned only once.
pub fn free_port() -> anyhow::Result<u16> {
    static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let random = RandomState::new();
    for attempt in 0_u32..1_000 {
        let span = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random.hash_one(attempt) % span)?;
        let address = (Ipv4Addr::LOCALHOST, port);
        let free = TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
        if free && !taken.contains(&port) {
            taken.push(port);
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// Returns the first two numbers of Consul's version.
fn version() -> anyhow::Result<(u32, u32)> {
    let text = succeed(Command::new("consul").arg("version"))?;
    let mut numbers = text.trim_start_matches("Consul v").split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("consul names no version: {text}"),
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            panic!("consul is not installed: apt-get install consul")
        }
        output => output.with_context(|| format!("cannot run {command:?}"))?,
    };
    ensure!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr).trim());
    Ok(String::from_utf8(stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persistent_agent_keeps_its_data_across_restarts() {
        let mut consul = Consul::options().persistent().start().unwrap();
        let pid = consul.pid();
        consul.command(&["kv", "put", "a", "1"]).unwrap();
        consul.restart().unwrap();
        assert_ne!(consul.pid(), pid);
        assert_eq!(consul.command(&["kv", "get", "a"]).unwrap().trim(), "1");
    }

    #[test]
    fn an_agent_is_gone_when_dropped_and_two_run_side_by_side() {
        let one = Consul::start().unwrap();
        let two = Consul::options().named("other").start().unwrap();
        assert!(two.command(&["members"]).unwrap().contains("other"));
        let proc = format!("/proc/{}", one.pid());
        assert!(Path::new(&proc).exists());
        drop(one);
        assert!(!Path::new(&proc).exists());
    }

    #[test]
    fn a_paused_agent_answers_again_when_resumed() {
        let consul = Consul::start().unwrap();
        consul.pause().unwrap();
        assert!(consul.options.ask(consul.http_port(), "/", Duration::from_millis(300)).is_err());
        consul.resume().unwrap();
        consul.command(&["members"]).unwrap();
    }

    #[test]
    fn only_the_bearer_of_the_token_is_served() {
        let token = "11111111-2222-3333-4444-555555555555";
        let consul = Consul::options().deny_all_but(token).start().unwrap();
        consul.command(&["kv", "put", "a", "1"]).unwrap();
        let denied = Command::new("consul")
            .args(["kv", "get", "a"])
            .env("CONSUL_HTTP_ADDR", consul.url())
            .env_remove("CONSUL_HTTP_TOKEN")
            .output()
            .unwrap();
        assert!(!denied.status.success());
    }
}
