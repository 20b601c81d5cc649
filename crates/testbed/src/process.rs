//! A server process that never outlives the test which started it.

use std::fs::{self, File};
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a process may take to end when asked, before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How often the end of a process is looked for.
const POLL: Duration = Duration::from_millis(5);

/// A running process, killed when dropped, and by the kernel should the test itself be killed.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    child: Arc<Mutex<Child>>,
    /// The thread that started the process, let go by dropping the sender.
    keeper: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Process {
    /// Starts a program, whose output goes to `log` (`None` = the test's own), through `setpriv`,
    /// which has the kernel kill it when its parent dies.
    ///
    /// The kernel takes the *thread* that started it for the parent, hence a thread that does
    /// nothing else and lives as long as this value.
    pub fn spawn(program: &Command, log: Option<&File>) -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program.get_program());
        command.args(program.get_args()).stdin(Stdio::null());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        if let Some(log) = log {
            command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        }
        Self::spawn_kept(command)
            .with_context(|| format!("cannot start {}", program.get_program().display()))
    }

    fn spawn_kept(mut command: Command) -> anyhow::Result<Self> {
        let (report, started) = mpsc::channel::<io::Result<Child>>();
        let (release, released) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // Nobody listens any more if the test was stopped in between: then so is the child.
            let _ = report.send(command.spawn());
            let _ = released.recv();
        });
        let child = started.recv().context("the starting thread ended")??;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        Ok(Self { pid, child: Arc::new(Mutex::new(child)), keeper: Some((release, thread)) })
    }

    /// Returns the process's number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends a signal; one that has ended already is left alone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if self.exited()?.is_none() {
            kill(self.pid, signal).with_context(|| format!("cannot send {signal}"))?;
        }
        Ok(())
    }

    /// Freezes the process; returns when its last thread stands still.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let end = Instant::now() + GRACE;
        while !self.stands_still()? {
            ensure!(Instant::now() < end, "process {} does not stand still", self.pid);
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Lets a frozen process go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn stands_still(&self) -> io::Result<bool> {
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // A thread may end in between; the next look will not find it.
            let stat = fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in brackets and may hold anything.
            if !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns how the process ended, `None` while it runs.
    pub fn exited(&self) -> io::Result<Option<ExitStatus>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()
    }

    /// Waits until the process ends; `None` if it does not within `limit`.
    pub fn wait(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let end = Instant::now() + limit;
        loop {
            match self.exited()? {
                None if Instant::now() < end => std::thread::sleep(POLL),
                exited => return Ok(exited),
            }
        }
    }

    /// Asks the process to end (SIGTERM), and kills it if it does not within ten seconds.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.signal(Signal::SIGCONT)?;
        if self.wait(GRACE)?.is_none() { self.kill() } else { Ok(()) }
    }

    /// Kills the process, as a crash would.
    pub fn kill(&self) -> anyhow::Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("process {} may be left over: {error:#}", self.pid);
        }
        if let Some((release, thread)) = self.keeper.take() {
            drop(release);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep() -> Process {
        Process::spawn(Command::new("sleep").arg("60"), None).unwrap()
    }

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it() {
        let process = std::thread::spawn(sleep).join().unwrap();
        assert_eq!(process.wait(Duration::from_millis(200)).unwrap(), None);
    }

    #[test]
    fn a_process_ends_with_its_value() {
        let process = sleep();
        let folder = format!("/proc/{}", process.pid());
        drop(process);
        assert!(!std::path::Path::new(&folder).exists());
    }

    #[test]
    fn a_frozen_process_can_be_stopped() {
        let process = sleep();
        process.pause().unwrap();
        process.stop().unwrap();
        assert!(process.exited().unwrap().is_some());
    }
}
