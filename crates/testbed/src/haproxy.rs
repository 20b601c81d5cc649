//! A real HAProxy, master and worker, laid out as an ambassador's directory is.

mod load;
mod program;
mod web;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::process::Process;

pub use load::{Load, Tally, get};
pub use program::{Program, programs};
pub use web::Web;

/// How long HAProxy may take to start.
const START: Duration = Duration::from_secs(10);
/// How often a start, or an end, is looked for.
const POLL: Duration = Duration::from_millis(2);

/// An HAProxy with `base.cfg`, `haproxy.cfg`, `runtime.sock` and `master.sock` in a folder of its own, stopped when dropped.
#[derive(Debug)]
pub struct Haproxy {
    process: Process,
    program: PathBuf,
    folder: TempDir,
}

impl Haproxy {
    /// Starts a program with the text as its `haproxy.cfg`, and waits until it answers on its runtime socket.
    pub fn start(program: &Program, text: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("runtime.sock");
        let base = format!(
            "global\n    stats socket {} mode 660 level admin expose-fd listeners\n    hard-stop-after 10s\n",
            socket.display()
        );
        fs::write(folder.path().join("base.cfg"), base)?;
        fs::write(folder.path().join("haproxy.cfg"), text)?;
        let process = launch(&program.path, folder.path())?;
        let haproxy = Self { process, program: program.path.clone(), folder };
        haproxy.wait()?;
        Ok(haproxy)
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the program that runs.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the runtime socket.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.folder().join("runtime.sock")
    }

    /// Returns the master socket.
    #[must_use]
    pub fn master(&self) -> PathBuf {
        self.folder().join("master.sock")
    }

    /// Replaces `haproxy.cfg`, which HAProxy reads at its next reload or start.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        let staged = self.folder().join("haproxy.cfg.new");
        fs::write(&staged, text)?;
        Ok(fs::rename(staged, self.folder().join("haproxy.cfg"))?)
    }

    /// Returns the answer to a command on the runtime socket.
    pub fn command(&self, command: &str) -> anyhow::Result<String> {
        ask(&self.runtime(), command)
    }

    /// Returns all that HAProxy has printed.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.folder().join("log"))?)
    }

    /// Returns the process number of the worker that answers on the runtime socket.
    pub fn worker(&self) -> anyhow::Result<i32> {
        let info = self.command("show info")?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "));
        Ok(pid.with_context(|| format!("no process number in {info:?}"))?.trim().parse()?)
    }

    /// Kills the worker, as the kernel does when memory runs out; the master then ends too.
    pub fn kill_worker(&self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.worker()?), Signal::SIGKILL)?;
        ensure!(self.process.wait(START)?.is_some(), "the master outlived its worker");
        Ok(())
    }

    /// Starts it again, from the files as they are now.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process.stop()?;
        self.process = launch(&self.program, self.folder.path())?;
        self.wait()
    }

    fn wait(&self) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        loop {
            let Err(error) = self.worker().and_then(|_| ask(&self.master(), "show proc")) else {
                return Ok(());
            };
            let exited = self.process.exited()?;
            if exited.is_some() || Instant::now() > end {
                bail!("haproxy does not run ({exited:?}, {error:#}):\n{}", self.log()?);
            }
            std::thread::sleep(POLL);
        }
    }
}

fn launch(program: &Path, folder: &Path) -> anyhow::Result<Process> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let mut command = Command::new(program);
    command.arg("-W").arg("-S").arg(format!("{},mode,660", folder.join("master.sock").display()));
    command.arg("-f").arg(folder.join("base.cfg")).arg("-f").arg(folder.join("haproxy.cfg"));
    Process::spawn(&command, Some(&log))
}

fn ask(socket: &Path, command: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(START))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    // The master keeps a connection open as long as more commands may come.
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxy_serves_restarts_and_leaves_nothing_behind() {
        for program in programs() {
            let web = Web::start("one").unwrap();
            let port = crate::port::free_port().unwrap();
            let text = format!(
                "defaults\n mode http\n timeout connect 1s\n timeout client 9s\n timeout server 9s\n\
                 listen l\n bind 127.0.0.1:{port}\n server one {}\n",
                web.address()
            );
            let mut haproxy = Haproxy::start(program, &text).unwrap();
            let front = ([127, 0, 0, 1], port).into();
            assert_eq!(get(front, "/").unwrap(), "one");
            haproxy.kill_worker().unwrap();
            assert!(get(front, "/").is_err());
            haproxy.restart().unwrap();
            assert_eq!(get(front, "/").unwrap(), "one");
            let worker = PathBuf::from(format!("/proc/{}", haproxy.worker().unwrap()));
            drop(haproxy);
            let end = Instant::now() + START;
            while worker.exists() && Instant::now() < end {
                std::thread::sleep(POLL);
            }
            assert!(!worker.exists(), "the worker outlived its master");
        }
    }
}
