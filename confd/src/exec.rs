//! Runs a program beside confd: started when its file is there, told when that changes, never left behind.

use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::resource::{Exec, Line};

/// A program that ran this long was well: the pause before its next start is short again.
const WELL: Duration = Duration::from_secs(10);
/// How often it is looked whether all that a line runs has ended.
const POLL: Duration = Duration::from_millis(10);

/// A program that is kept running.
#[derive(Debug)]
pub(crate) struct Running {
    changes: watch::Sender<u64>,
    token: CancellationToken,
    task: JoinHandle<()>,
}

/// How a program ended that is not started again; `None` while it runs.
pub(crate) type Ended = watch::Receiver<Option<ExitStatus>>;

impl Running {
    /// Starts the program. One that ends is started again, unless it is to run `once`.
    pub(crate) fn start(
        resource: &str,
        settings: Exec,
        once: bool,
    ) -> std::io::Result<(Self, Ended)> {
        let program = Program::start(&settings)?;
        tracing::info!(resource, pid = program.pid.as_raw(), "started");
        let (changes, listening) = watch::channel(0);
        let (ended, ending) = watch::channel(None);
        let token = CancellationToken::new();
        let keeper = Keeper {
            resource: resource.to_owned(),
            settings,
            changed: listening,
            token: token.clone(),
            delays: daemon::backoff::delays(),
        };
        let task = tokio::spawn(keeper.keep(program, once, ended));
        Ok((Self { changes, token, task }, ending))
    }

    /// Says that the file has changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Ends the program, and returns when it has ended.
    pub(crate) async fn stop(self) {
        self.token.cancel();
        drop(self.task.await);
    }
}

/// What keeps one program running.
struct Keeper {
    resource: String,
    settings: Exec,
    changed: watch::Receiver<u64>,
    token: CancellationToken,
    delays: daemon::backoff::Delays,
}

/// Why a program is not running any more.
enum End {
    /// It was told to end, for good.
    Stopped,
    /// It was ended because of a change.
    Changed,
    /// It ended by itself.
    Died(ExitStatus),
}

impl Keeper {
    async fn keep(
        mut self,
        mut program: Program,
        once: bool,
        ended: watch::Sender<Option<ExitStatus>>,
    ) {
        loop {
            let started = Instant::now();
            match self.run(&mut program).await {
                End::Stopped => return,
                End::Changed => {}
                End::Died(status) if once => {
                    ended.send_replace(Some(status));
                    return;
                }
                End::Died(status) => {
                    if started.elapsed() >= WELL {
                        self.delays.reset();
                    }
                    let delay = self.delays.next_delay();
                    tracing::error!(resource = self.resource, %status, ?delay, "its program ended, and will be started again");
                    tokio::select! {
                        () = self.token.cancelled() => return,
                        () = sleep(delay) => {}
                    }
                }
            }
            program = loop {
                match Program::start(&self.settings) {
                    Ok(program) => break program,
                    Err(error) => {
                        let delay = self.delays.next_delay();
                        tracing::error!(resource = self.resource, %error, ?delay, "cannot start its program");
                        tokio::select! {
                            () = self.token.cancelled() => return,
                            () = sleep(delay) => {}
                        }
                    }
                }
            };
            // It reads the file as it is now.
            self.changed.mark_unchanged();
            tracing::info!(resource = self.resource, pid = program.pid.as_raw(), "started");
        }
    }

    /// Returns when the program does not run any more.
    async fn run(&mut self, program: &mut Program) -> End {
        loop {
            tokio::select! {
                biased;
                () = self.token.cancelled() => {
                    program.end(&self.settings).await;
                    return End::Stopped;
                }
                status = program.child.wait() => return program.died(status),
                changed = self.changed.changed() => if changed.is_err() {
                    program.end(&self.settings).await;
                    return End::Stopped;
                },
            }
            let splay = self.settings.splay.0.mul_f64(rand::random());
            tokio::select! {
                biased;
                () = self.token.cancelled() => continue,
                status = program.child.wait() => return program.died(status),
                () = sleep(splay) => {}
            }
            // All changes until now are one.
            self.changed.mark_unchanged();
            let Some(signal) = &self.settings.reload_signal else {
                program.end(&self.settings).await;
                return End::Changed;
            };
            tracing::debug!(resource = self.resource, signal = signal.0.as_str(), "told");
            // It may have ended a moment ago: then it is started again.
            program.tell(&self.settings, signal.0);
        }
    }
}

/// A program that runs, in a process group of its own that does not outlive this value.
struct Program {
    child: Child,
    pid: Pid,
    /// It has ended, and what it had started with it.
    over: bool,
}

impl Program {
    fn start(settings: &Exec) -> std::io::Result<Self> {
        let words = settings.command.words();
        let (name, arguments) = words.ok_or_else(|| std::io::Error::other("no command"))?;
        let child = Command::new(name).args(arguments).process_group(0).spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = Pid::from_raw(pid.ok_or_else(|| std::io::Error::other("it has no number"))?);
        Ok(Self { child, pid, over: false })
    }

    /// Tells the program that the file has changed, and not what it has started: a signal that means a reload to it may
    /// be the end of its workers. A shell passes nothing on, so those are told that it runs; itself only if it listens.
    fn tell(&self, settings: &Exec, signal: Signal) {
        let about = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default()
        };
        let words = settings.command.words().map(|(name, words)| [vec![name], words].concat());
        // Many a shell lets a single command take its place.
        let runs_others = is_shell(settings)
            && words.is_some_and(|words| about("cmdline").split_terminator('\0').eq(words));
        let children = about(&format!("task/{}/children", self.pid));
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        let mut told: Vec<Pid> = children.filter(|_| runs_others).map(Pid::from_raw).collect();
        if told.is_empty() || catches(&about("status"), signal) {
            told.push(self.pid);
        }
        for pid in told {
            // It may have ended a moment ago.
            let _ = kill(pid, signal);
        }
    }

    /// Asks the program to end; if that is a shell's line, all it runs: the shell itself passes nothing on. After its
    /// time, kills it.
    async fn end(&mut self, settings: &Exec) {
        let send = if is_shell(settings) { killpg } else { kill };
        let _ = send(self.pid, settings.kill_signal.0);
        let ending = async {
            drop(self.child.wait().await);
            // The shell does not wait for those that it runs.
            while is_shell(settings) && killpg(self.pid, None).is_ok() {
                sleep(POLL).await;
            }
        };
        drop(tokio::time::timeout(settings.kill_timeout.0, ending).await);
        self.finish();
        drop(self.child.wait().await);
    }

    fn died(&mut self, status: std::io::Result<ExitStatus>) -> End {
        self.finish();
        // Nobody else collects it, so there is a status; else it counts as failed.
        let failed = || std::os::unix::process::ExitStatusExt::from_raw(1 << 8);
        End::Died(status.unwrap_or_else(|_| failed()))
    }

    /// Kills whatever is left: itself, or what it had started.
    fn finish(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }
}

fn is_shell(settings: &Exec) -> bool {
    matches!(settings.command, Line::Shell(_))
}

/// Tells from a process's `status` whether it does something of its own at a signal.
fn catches(status: &str, signal: Signal) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}

impl Drop for Program {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_to_a_signal_is_told_from_who_does_not() {
        let status = "Name:\tsh\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000201\n";
        assert!(catches(status, Signal::SIGHUP) && catches(status, Signal::SIGUSR1));
        assert!(!catches(status, Signal::SIGTERM) && !catches("", Signal::SIGHUP));
    }
}
