//! Starts, stops and freezes the engine inside its namespaces.

use std::fs::{self, File};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use super::{Docker, POLL, START_LIMIT, STOP_LIMIT};

/// Runs Podman as a server in the folder `$1` at the address `$2`. It wants to give its containers more files than a
/// machine may allow, so what this one allows is said; what it keeps in /run stays in its namespace.
const PODMAN: &str = r#"mount -t tmpfs tmpfs /run && cd "$1" && echo $$ >dockerd.pid
limit() { [ "$1" = unlimited ] && echo -1 || echo "$1"; }
files=$(limit "$(ulimit -Hn)") processes=$(limit "$(ulimit -Hu)")
echo "[engine]
lock_type = \"file\"
[containers]
default_ulimits = [\"nofile=$files:$files\", \"nproc=$processes:$processes\"]" >containers.conf
CONTAINERS_CONF=$PWD/containers.conf exec podman --root "$PWD/data" --runroot "$PWD/exec" --tmpdir "$PWD/tmp" \
  --network-config-dir "$PWD/net" --storage-driver vfs --cgroup-manager cgroupfs system service --time 0 "$2""#;

impl Docker {
    /// Asks the engine to end, which stops its containers unless it was started with
    /// `--live-restore`.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.end("-TERM")
    }

    /// Kills the engine, as a crash would; containers go on.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.killed.store(true, Ordering::Relaxed);
        self.end("-KILL")
    }

    /// Freezes the engine: connections are still accepted, nothing is answered.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal("-STOP").map(drop)
    }

    /// Lets a frozen engine go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal("-CONT").map(drop)
    }

    /// Starts it again, after stopping it if it runs.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Starts the engine, after [`Docker::stop`] or [`Docker::kill`].
    pub fn launch(&self) -> anyhow::Result<()> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let log = File::options().create(true).append(true).open(path("dockerd.log"))?;
        let _ = fs::remove_file(path("dockerd.pid"));
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = self.programs.iter().cloned().chain(std::env::split_paths(&paths));
        let paths = std::env::join_paths(paths)?;
        // Whoever entered the namespaces goes, or it would stop with a frozen engine and stay behind.
        let mut server = self.inside("setsid");
        server.arg("--fork");
        if self.podman {
            server.args(["bash", "-c", PODMAN, "podman", &path(""), &self.url()]);
        } else {
            server
                .args(["dockerd", "--data-root", &path("data"), "--exec-root", &path("exec")])
                .args(["--pidfile", &path("dockerd.pid"), "--host", &self.url()])
                .args(["--log-level=warn", "--cgroup-parent", &self.cgroup()])
                .args(&self.args);
        }
        server
            .env("PATH", paths)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .context("cannot start dockerd")?;
        let end = Instant::now() + START_LIMIT;
        while self.cli(&["version"]).is_err() {
            if Instant::now() > end {
                bail!("dockerd did not start:\n{}", fs::read_to_string(path("dockerd.log"))?);
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn end(&self, signal: &str) -> anyhow::Result<()> {
        let end = Instant::now() + STOP_LIMIT;
        let mut alive = self.signal(signal)?;
        while alive {
            ensure!(Instant::now() < end, "dockerd did not end");
            std::thread::sleep(POLL);
            alive = self.signal("-0")?;
        }
        Ok(())
    }

    /// Sends a signal; tells whether there was a process to get it.
    fn signal(&self, signal: &str) -> anyhow::Result<bool> {
        let Ok(pid) = fs::read_to_string(self.folder.path().join("dockerd.pid")) else {
            return Ok(false);
        };
        // A dead process that its parent has not asked about still takes signals.
        let script = "kill $1 $2 2>/dev/null && ! grep -q '^State:.Z' /proc/$2/status";
        let words = ["-c", script, "sh", signal, pid.trim()];
        Ok(self.inside("sh").args(words).stderr(Stdio::null()).status()?.success())
    }
}
