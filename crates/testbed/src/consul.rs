//! A real Consul agent on free ports, with a leader by the time a test gets it.

mod options;

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::process::Process;

pub use crate::port::free_port;
pub use options::Options;

use options::Ports;

/// A Consul agent, stopped when dropped.
#[derive(Debug)]
pub struct Consul {
    options: Options,
    ports: Ports,
    folder: TempDir,
    process: Process,
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
        self.process.pause()
    }

    /// Lets a frozen agent go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.resume()
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
    use std::time::Duration;

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
