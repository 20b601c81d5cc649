//! One node: its folder, its namespaces, its Docker Engine.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::process::Command;

use crate::network;
use crate::settings::{Cluster, Options, Variant, address};
use crate::space::{self, Space, run};

/// How long an engine may take to answer, or to end: it stops its containers first.
const LIMIT: Duration = Duration::from_secs(90);
/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// A node, which may be up or down.
#[derive(Debug, Clone)]
pub struct Node {
    number: u8,
    name: String,
    folder: PathBuf,
    address: Ipv4Addr,
    server: bool,
    variants: BTreeSet<Variant>,
}

impl Node {
    pub(crate) fn new(folder: &Path, options: &Options, number: u8) -> Self {
        Self {
            number,
            name: format!("node{number}"),
            folder: folder.to_owned(),
            address: address(options.network, number),
            server: number <= options.servers,
            variants: options.variants.clone(),
        }
    }

    /// Returns an engine without a network, which only prepares images.
    pub(crate) fn template(folder: &Path) -> Self {
        let address = Ipv4Addr::LOCALHOST;
        Self {
            number: 0,
            name: "template".to_owned(),
            folder: folder.to_owned(),
            address,
            server: false,
            variants: BTreeSet::new(),
        }
    }

    /// Returns its number, from 1.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Returns its name, such as `node1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its address in the nodes' network, which can be reached from here.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Whether it runs a Consul server.
    #[must_use]
    pub fn is_server(&self) -> bool {
        self.server
    }

    /// Whether it differs from the plain form in this way.
    #[must_use]
    pub fn has(&self, variant: Variant) -> bool {
        self.variants.contains(&variant)
    }

    /// Returns the folder with all that it keeps.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Returns the folder with its configuration and its Compose files, as a real host has it.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        self.folder.join("cluster").join(&self.name)
    }

    /// Returns the folder of its engine's data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.files().join("docker")
    }

    /// Returns the name of its link in the hub.
    pub(crate) fn cable(&self) -> String {
        format!("v{}", self.number)
    }

    /// Returns its engine's address, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn engine(&self) -> String {
        format!("unix://{}", self.files().join("docker.sock").display())
    }

    /// Returns its namespaces, or nothing if it is down.
    #[must_use]
    pub fn space(&self) -> Option<Space> {
        space::find(&self.folder).remove(&self.name)
    }

    /// Returns a command that runs on the node.
    ///
    /// # Errors
    /// If the node is down.
    pub fn inside(&self, program: &str) -> anyhow::Result<Command> {
        Ok(self.space().with_context(|| format!("{} is down", self.name))?.inside(program))
    }

    /// Returns a Docker command, run here, for the node's engine.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.engine()]).args(args);
        command
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY");
        command
    }

    /// Runs a Docker command on the node's engine and returns what it prints.
    ///
    /// # Errors
    /// With what it writes to standard error, when it fails.
    pub async fn docker_run(&self, args: &[&str]) -> anyhow::Result<String> {
        run(&mut self.docker(args)).await.with_context(|| format!("on {}", self.name))
    }

    /// Turns the node on: namespaces, cable, engine. Containers that ran when it went off come back.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn boot(&self, cluster: &Cluster) -> anyhow::Result<()> {
        self.write_files(cluster)?;
        let own = space::make(&self.folder, &self.name).await?;
        network::plug(&network::hub(&self.folder)?, self, &own).await?;
        self.start_engine().await
    }

    /// Writes what the node reads when it boots.
    pub(crate) fn write_files(&self, cluster: &Cluster) -> anyhow::Result<()> {
        fs::create_dir_all(self.files())?;
        fs::write(self.files().join("hostname"), format!("{}\n", self.name))?;
        let others = cluster.nodes().map(|node| format!("{} {}\n", node.address, node.name));
        let hosts: String =
            std::iter::once("127.0.0.1 localhost\n".to_owned()).chain(others).collect();
        // In place: it is mounted in the nodes that run.
        fs::write(self.files().join("hosts"), hosts)?;
        self.write_engine_settings(cluster)
    }

    /// Writes the engine's settings.
    pub(crate) fn write_engine_settings(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let settings = json!({
            "hosts": [space::ENGINE, format!("unix://{}/docker.sock", crate::stack::SOCKETS), self.engine()],
            "data-root": self.data(),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": format!("/{}/{}", crate::cgroup::name(&self.folder), self.name),
            "log-level": "warn",
            // Nobody answers there, and says so at once: names that do not exist are known not to.
            "dns": [cluster.address(254)],
        });
        fs::create_dir_all(self.data())?;
        Ok(fs::write(self.files().join("daemon.json"), serde_json::to_vec_pretty(&settings)?)?)
    }

    /// Starts the node's engine and waits until it answers.
    ///
    /// # Errors
    /// With the end of its log, if it does not.
    pub async fn start_engine(&self) -> anyhow::Result<()> {
        let log = self.files().join("dockerd.log");
        let file = fs::File::options().create(true).append(true).open(&log)?;
        let config = self.files().join("daemon.json").display().to_string();
        let mut engine = self
            .inside("setsid")?
            .args(["dockerd", "--config-file", &config])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot run nsenter (package util-linux)")?;
        let end = Instant::now() + LIMIT;
        while !self.answers().await {
            let failed = Instant::now() > end || engine.try_wait()?.is_some();
            ensure!(
                !failed,
                "the engine of {} does not start: {}",
                self.name,
                space::last_lines(&fs::read_to_string(&log)?)
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether the engine answers.
    pub async fn answers(&self) -> bool {
        let asked = self
            .docker(&["version", "--format", "{{.Server.Version}}"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        matches!(tokio::time::timeout(Duration::from_secs(5), asked).await, Ok(Ok(status)) if status.success())
    }

    /// Ends the node's engine, which stops its containers; or kills it, which leaves them running until it is started again.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn stop_engine(&self, signal: &str) -> anyhow::Result<()> {
        let script = "p=$(cat /run/docker.pid 2>/dev/null) || exit 0; kill -$0 $p; while [ -e /proc/$p ] && ! grep -q '^State:.Z' /proc/$p/status; do sleep .05; done; \
            if [ $0 = KILL ]; then c=$(cat /run/docker/containerd/containerd.pid 2>/dev/null) && kill -KILL $c; fi; rm -f /run/docker.pid";
        let mut command = self.inside("bash")?;
        let ended = tokio::time::timeout(LIMIT, run(command.args(["-c", script, signal])));
        ended.await.with_context(|| format!("the engine of {} does not end", self.name))?.map(drop)
    }

    /// Takes its power away: everything that runs there is gone at once; what is on disk stays.
    ///
    /// # Errors
    /// If something survives.
    pub async fn crash(&self) -> anyhow::Result<()> {
        let Some(space) = self.space() else { return Ok(()) };
        // The cable first: dying processes would say goodbye to those they talk to. It may be gone already.
        if let Ok(hub) = network::hub(&self.folder) {
            let _ = hub.ip(&format!("link set {} down", self.cable())).await;
        }
        space.kill().await
    }

    /// Shuts it down in order.
    ///
    /// # Errors
    /// If something survives.
    pub async fn shut_down(&self) -> anyhow::Result<()> {
        if self.space().is_some() {
            self.stop_engine("TERM").await?;
        }
        self.crash().await
    }
}
