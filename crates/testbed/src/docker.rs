//! A real Docker Engine in namespaces of its own, which the kernel clears away with the test.
//!
//! ```text
//! test ── setpriv --pdeathsig ── unshare --net --uts --pid --mount ── bash (process 1, reaps)
//!                                                     nsenter ──► dockerd, containerd, containers
//! ```
//! Nothing is left when the test ends, however it ends: process 1 of the namespace dies with the
//! test, everything in the namespace dies with it, and mounts and network go with the last process.

mod life;
mod remains;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tempfile::TempDir;

use crate::process::Process;

/// The image that every engine has: busybox with all its commands, `sleep infinity` by default.
pub const IMAGE: &str = "busybox";
/// How long an engine may take to answer: 3–8 s are usual, a busy machine is not.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take to end when asked: it stops its containers first.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(50);
/// How the folders of engines are named; their test's process number follows.
const FOLDER: &str = "testbed-docker-";
/// How many engines this process has started.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// What runs as process 1: it collects the dead until it is killed.
const REAPER: &str = "ip link set lo up; hostname \"$1\"; while :; do sleep 3600 & wait $!; done";

/// A Docker Engine, gone when dropped.
#[derive(Debug)]
pub struct Docker {
    folder: TempDir,
    args: Vec<String>,
    /// The folder of its programs, if they are not the machine's own.
    programs: Option<PathBuf>,
    /// Whether it is Podman, which speaks Docker's API.
    podman: bool,
    reaper: Process,
    /// Process 1 of the namespaces, as seen from outside.
    init: i32,
    /// Whether it was killed once.
    killed: AtomicBool,
}

impl Docker {
    /// Starts an engine and loads [`IMAGE`] into it.
    ///
    /// # Panics
    /// If one of the programs needed is not installed.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// Starts an engine with further arguments of `dockerd`.
    ///
    /// # Panics
    /// If one of the programs needed is not installed.
    pub fn start_with(args: &[&str]) -> anyhow::Result<Self> {
        Self::start_from(None, false, args)
    }

    /// Starts Podman instead, as a server of Docker's API.
    ///
    /// # Panics
    /// If one of the programs needed is not installed.
    pub fn podman() -> anyhow::Result<Self> {
        Self::start_from(None, true, &[])
    }

    /// Starts the engine of a Debian suite, which is fetched into `target` if it is not there:
    /// `bookworm` has an old one (20.10), `sid` the newest.
    ///
    /// # Panics
    /// If one of the programs needed is not installed.
    pub fn start_of(suite: &str) -> anyhow::Result<Self> {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let fetched = Command::new(crate_folder.join("engine.sh")).arg(suite).output()?;
        let said = String::from_utf8_lossy(&fetched.stderr);
        ensure!(fetched.status.success(), "crates/testbed/engine.sh {suite}: {}", said.trim());
        let programs = crate_folder.join(format!("../../target/engine-{suite}/bin"));
        Self::start_from(Some(programs.canonicalize()?), false, &[])
    }

    fn start_from(programs: Option<PathBuf>, podman: bool, args: &[&str]) -> anyhow::Result<Self> {
        for (program, package) in [
            if podman { ("podman", "podman") } else { ("dockerd", "docker.io") },
            ("docker", "docker-cli"),
            ("busybox", "busybox-static"),
            ("unshare", "util-linux"),
            ("ip", "iproute2"),
        ] {
            assert!(installed(program), "{program} is not installed: apt-get install {package}");
        }
        remains::sweep(FOLDER);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new()
            .prefix(&format!("{FOLDER}{}-{number}-", std::process::id()))
            .tempdir()?;
        let log = File::create(folder.path().join("namespaces.log"))?;
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--net", "--uts", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", REAPER, "reaper", &format!("engine{number}")]);
        let reaper = Process::spawn(&unshare, Some(&log))?;
        let init = first_child(reaper.pid())?;
        let args = args.iter().map(ToString::to_string).collect();
        let engine =
            Self { folder, args, programs, podman, reaper, init, killed: AtomicBool::new(false) };
        engine.launch()?;
        engine.import()?;
        Ok(engine)
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Returns its address, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Returns its version, such as `26.1.5`.
    pub fn version(&self) -> anyhow::Result<String> {
        self.cli(&["version", "--format", "{{.Server.Version}}"])
    }

    /// Returns its folder, which holds its data, its log and whatever a test puts there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a docker command, and returns what it printed, trimmed.
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<String> {
        let Output { status, stdout, stderr } = self.command(args).output()?;
        ensure!(status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&stderr).trim());
        Ok(String::from_utf8(stdout)?.trim().to_owned())
    }

    /// Returns a docker command to be run.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(self.url()).args(args).env_remove("DOCKER_HOST");
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_TLS_VERIFY").stdin(Stdio::null());
        command
    }

    /// Starts a container of [`IMAGE`] that sleeps, and returns its ID: `docker run -d NAME` with
    /// these further arguments of `run`.
    pub fn run(&self, name: &str, args: &[&str]) -> anyhow::Result<String> {
        let cgroup = self.cgroup();
        let mut words = vec!["run", "-d", "--init", "--name", name];
        if self.podman {
            words.extend(["--cgroup-parent", &cgroup]);
        }
        words.extend_from_slice(args);
        words.extend_from_slice(&[IMAGE, "sleep", "infinity"]);
        self.cli(&words)
    }

    /// Returns a command that runs in the engine's namespaces, where its containers can be reached.
    #[must_use]
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--net", "--uts", "--pid", "--mount"]);
        command.arg("--").arg(program);
        command
    }

    /// Removes all containers and all networks but the engine's own.
    pub fn clear(&self) -> anyhow::Result<()> {
        let containers = self.cli(&["ps", "-aq", "--no-trunc"])?;
        if !containers.is_empty() {
            let mut words = vec!["rm", "-f", "-v"];
            words.extend(containers.lines());
            self.cli(&words)?;
        }
        self.cli(&["network", "prune", "-f"]).map(drop)
    }

    fn import(&self) -> anyhow::Result<()> {
        let image = self.folder.path().join("image");
        fs::create_dir_all(image.join("bin"))?;
        for folder in ["tmp", "etc", "www"] {
            fs::create_dir(image.join(folder))?;
        }
        let applets = Command::new("busybox").arg("--list").output()?;
        let which = Command::new("sh").args(["-c", "command -v busybox"]).output()?;
        fs::copy(String::from_utf8(which.stdout)?.trim(), image.join("bin/busybox"))?;
        for applet in String::from_utf8(applets.stdout)?.lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", image.join("bin").join(applet))?;
        }
        let tar = self.folder.path().join("image.tar").display().to_string();
        let image = image.display().to_string();
        let packed = Command::new("tar").args(["-C", &image, "-cf", &tar, "."]).status()?;
        ensure!(packed.success(), "tar failed");
        let command = "CMD [\"sleep\", \"infinity\"]";
        self.cli(&["import", "--change", command, &tar, IMAGE]).map(drop)
    }

    fn cgroup(&self) -> String {
        let name = self.folder.path().file_name().unwrap_or_default();
        format!("/{}", name.to_string_lossy())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Err(error) = self.reaper.kill() {
            eprintln!("engine {} may be left over: {error:#}", self.folder.path().display());
        }
        // The kernel kills what is in the namespace, and takes a moment for it.
        let end = Instant::now() + STOP_LIMIT;
        while Path::new("/proc").join(self.init.to_string()).exists() && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        remains::forget(self.folder.path());
    }
}

/// Returns the one engine that all tests of a file share, without containers, for this test
/// alone until the guard is dropped.
///
/// # Panics
/// If the engine does not start.
pub fn shared() -> MutexGuard<'static, Docker> {
    static ENGINE: OnceLock<Mutex<Docker>> = OnceLock::new();
    let engine =
        ENGINE.get_or_init(|| Mutex::new(Docker::start().expect("the shared engine starts")));
    let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    // A container that was being made or removed when its engine was killed may live on unknown to it, with an address that
    // another one gets.
    if engine.killed.load(Ordering::Relaxed) {
        *engine = Docker::start().expect("another engine starts");
    }
    engine.clear().expect("the shared engine can be cleared");
    engine
}

fn installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// Waits for the process that `parent` starts.
fn first_child(parent: i32) -> anyhow::Result<i32> {
    let end = Instant::now() + START_LIMIT;
    loop {
        // It has become `unshare` only once it has children.
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        if let Some(child) = children.split_whitespace().next() {
            return Ok(child.parse()?);
        }
        ensure!(Instant::now() < end, "unshare started nothing");
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests;
