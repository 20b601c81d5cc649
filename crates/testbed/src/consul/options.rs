//! Starting an agent: its settings, its ports, and the moment it is ready.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::consul::{Consul, succeed};
use crate::port::free_port;
use crate::process::Process;

/// How long an agent may take to elect itself: two seconds are usual, a busy machine is not.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(20);
/// How long one answer may take meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How often other ports are tried when someone else took one of ours.
const ATTEMPTS: usize = 5;

/// How to start an agent; [`Options::start`] does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    node: Option<String>,
    config: Option<String>,
    pub(super) token: Option<String>,
    persistent: bool,
}

/// The ports of one agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) dns: u16,
    grpc: u16,
    server: u16,
    serf_lan: u16,
    serf_wan: u16,
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

    pub(super) fn node(&self) -> &str {
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

    pub(super) fn launch(&self, folder: &Path) -> anyhow::Result<Process> {
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
    pub(super) fn wait(
        &self,
        ports: Ports,
        process: &Process,
        folder: &Path,
    ) -> anyhow::Result<()> {
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
    pub(super) fn ask(&self, port: u16, path: &str, limit: Duration) -> std::io::Result<String> {
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

/// Returns the first two numbers of Consul's version.
fn version() -> anyhow::Result<(u32, u32)> {
    let text = succeed(Command::new("consul").arg("version"))?;
    let mut numbers = text.trim_start_matches("Consul v").split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("consul names no version: {text}"),
    }
}
