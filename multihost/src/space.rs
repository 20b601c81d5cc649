//! Namespaces of one node, or of the hub: a process that holds them, known by its command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

/// The first process of the namespaces: it collects the dead until it is killed.
const INIT: &str = include_str!("space/init.sh");
/// Where a node's engine listens, as seen from the node.
pub(crate) const ENGINE: &str = "unix:///run/docker.sock";
/// How long a process may take to appear or to vanish.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a command may take; the longest, which starts everything on a node, takes seconds.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(20);

/// Namespaces, and everything that runs in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The first process, as seen from here.
    pub pid: i32,
}

/// Returns the word in a command line that says to which folder a process belongs.
fn mark(folder: &Path) -> String {
    format!("multihost={}", folder.display())
}

/// Returns the namespaces that belong to `folder`, by name.
pub fn find(folder: &Path) -> BTreeMap<String, Space> {
    let mark = mark(folder);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found = BTreeMap::new();
    for process in processes {
        let pid = process.file_name().to_string_lossy().parse::<i32>();
        let (Ok(pid), Ok(line)) = (pid, fs::read(process.path().join("cmdline"))) else { continue };
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        // bash -c SCRIPT multihost=FOLDER NAME …; its parent, `unshare`, has the same words after its own.
        if words.len() > 4 && words[0] == "bash" && words[3] == *mark {
            // A child that has not become another program yet has the same words, and a later number.
            let first: &mut Space = found.entry(words[4].to_string()).or_insert(Space { pid });
            first.pid = first.pid.min(pid);
        }
    }
    found
}

/// Makes namespaces named `name`, with `folder/name` as the place for their files.
///
/// # Errors
/// If the kernel or the user's rights do not allow it.
pub async fn make(folder: &Path, name: &str) -> anyhow::Result<Space> {
    let files = folder.join(name);
    fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
    let log = fs::File::options().create(true).append(true).open(files.join("init.log"))?;
    let mut child = Command::new("setsid")
        .args([
            "unshare",
            "--net",
            "--uts",
            "--pid",
            "--mount",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["bash", "-c", INIT, &mark(folder), name])
        .arg(&files)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run unshare (package util-linux)")?;
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(space) = find(folder).remove(name)
            && files.join("made").exists()
        {
            fs::remove_file(files.join("made"))?;
            return Ok(space);
        }
        let failed = child.try_wait()?.is_some() || Instant::now() > end;
        ensure!(
            !failed,
            "no namespaces for {name}: {}",
            fs::read_to_string(files.join("init.log"))?.trim()
        );
        tokio::time::sleep(POLL).await;
    }
}

impl Space {
    /// Returns a command that runs `program` in these namespaces.
    #[must_use]
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net", "--uts", "--pid", "--mount"]);
        command.args(["--wd=/", "--", program]);
        // Said, not left to Docker's default: that is what the user's own configuration names, which is here as well.
        command.env("DOCKER_HOST", ENGINE);
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_TLS_VERIFY");
        command
    }

    /// Runs `ip` in the network namespace.
    ///
    /// # Errors
    /// With what `ip` says.
    pub async fn ip(&self, args: &str) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net", "--", "ip"]);
        run(command.args(args.split_whitespace())).await.map(drop)
    }

    /// Kills everything in these namespaces at once, as a power failure would, and waits for the end.
    ///
    /// # Errors
    /// If it does not end within half a minute.
    pub async fn kill(&self) -> anyhow::Result<()> {
        // Gone already is as good.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        let end = Instant::now() + LIMIT;
        while alive(self.pid) {
            ensure!(Instant::now() < end, "process {} does not end", self.pid);
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

/// Whether the process is there and not only waits for its parent to notice its end.
fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

/// Runs a command and returns what it prints, trimmed.
///
/// # Errors
/// With what it writes to standard error, when it fails; and when it does not end.
pub async fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.as_std().get_program().display().to_string();
    let words: Vec<_> =
        command.as_std().get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    let output = output
        .with_context(|| format!("{name} {} did not end within {PATIENCE:?}", words.join(" ")))?;
    let Output { status, stdout, stderr } = output.with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{name} {}: {}", words.join(" "), last_lines(said.trim()));
    Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
}

/// Returns the last few lines: enough to see what went wrong.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves nothing behind when the test fails.
    struct Killed(Space);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = kill(Pid::from_raw(self.0.pid), Signal::SIGKILL);
        }
    }

    #[tokio::test]
    async fn namespaces_are_found_by_their_folder_and_end_as_one() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let space = make(folder.path(), "one").await.unwrap();
        let _guard = Killed(space.clone());
        assert_eq!(find(folder.path()).get("one"), Some(&space));
        assert_eq!(run(&mut space.inside("hostname")).await.unwrap(), "one");
        let sleeper = space.inside("setsid").args(["sleep", "1000"]).spawn().unwrap().id().unwrap();
        space.ip("link add eth9 type bridge").await.unwrap();
        space.kill().await.unwrap();
        assert!(find(folder.path()).is_empty());
        let end = Instant::now() + LIMIT;
        while alive(i32::try_from(sleeper).unwrap()) {
            assert!(Instant::now() < end, "what ran inside goes on");
            tokio::time::sleep(POLL).await;
        }
    }
}
