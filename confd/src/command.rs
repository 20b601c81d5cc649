//! Runs the commands of a resource: by a shell, for a limited time, and never without an end.

use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How much of a command's output is kept: enough for every line that explains a failure.
const OUTPUT_LIMIT: u64 = 64 * 1024;
/// How long a command may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// How long its output is waited for when it has ended, and something else still holds it open.
const LEFT_BEHIND: Duration = Duration::from_millis(100);

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It could not be started, or not be waited for.
    #[error("cannot run `{command}`")]
    Start {
        /// The command.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It said so.
    #[error("`{command}` failed: {status}{}", said(output))]
    Failed {
        /// The command.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// What it wrote.
        output: String,
    },
    /// It did not end in time, and was killed with everything it had started.
    #[error("`{command}` was killed after {limit:?}")]
    Late {
        /// The command.
        command: String,
        /// The time it had.
        limit: Duration,
    },
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(", saying: {output}") }
}

/// Runs `command` in a shell, and returns what it wrote. After `limit` its whole process group is
/// asked to end, then killed; the same happens when the returned future is dropped. What it leaves behind when it ends by
/// itself goes on.
pub(crate) async fn run(command: &str, limit: Duration) -> Result<String, Error> {
    let failed = |source| Error::Start { command: command.to_owned(), source };
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that what it starts can be ended with it.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let mut group =
        child.id().and_then(|id| i32::try_from(id).ok()).map(|id| Group(Some(Pid::from_raw(id))));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ending = async {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = {
            let mut reading =
                pin!(async { tokio::join!(read(stdout, &mut out), read(stderr, &mut err)) });
            let mut all = false;
            let status = loop {
                tokio::select! {
                    _ = &mut reading, if !all => all = true,
                    status = child.wait() => break status,
                }
            };
            // What it started in the background and left there may hold its output open for ever.
            if !all {
                drop(tokio::time::timeout(LEFT_BEHIND, reading).await);
            }
            status
        };
        out.append(&mut err);
        status.map(|status| (status, String::from_utf8_lossy(&out).trim().to_owned()))
    };
    tokio::pin!(ending);
    let ended = if let Ok(ended) = tokio::time::timeout(limit, &mut ending).await {
        // It ended by itself: what it leaves behind, such as a daemon, is meant to stay.
        group.as_mut().map(Group::release);
        ended.map_err(failed)?
    } else {
        if let Some(group) = &group {
            group.signal(Signal::SIGTERM);
            // It may use the time to clean up; what it says then is too late.
            drop(tokio::time::timeout(GRACE, ending).await);
        }
        return Err(Error::Late { command: command.to_owned(), limit });
    };
    match ended {
        (status, output) if status.success() => Ok(output),
        (status, output) => Err(Error::Failed { command: command.to_owned(), status, output }),
    }
}

/// A process group that does not outlive this value, unless it was released.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = self.0.map(|group| killpg(group, signal));
    }

    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Reads as much as is kept into `text`, which has what came until then if this is given up.
async fn read(pipe: Option<impl AsyncRead + Unpin>, text: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut kept = (&mut pipe).take(OUTPUT_LIMIT);
    // What cannot be read is missing in a message, nothing more.
    while matches!(kept.read_buf(text).await, Ok(1..)) {}
    // Whoever writes more must not block on a full pipe.
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
}

/// Tells whether somebody else ended a command, as the kernel does where memory is short: it has said nothing then. A
/// crash is the command's own end. A shell tells of a signal to what it ran by a number.
pub(crate) fn is_killed(status: ExitStatus) -> bool {
    let signal = status.signal().or_else(|| status.code().map(|code| code - 128));
    [Signal::SIGKILL, Signal::SIGTERM].iter().any(|one| signal == Some(*one as i32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_command_that_works_gives_its_output() {
        assert_eq!(run("echo out; echo err >&2", SECOND * 20).await.unwrap(), "out\nerr");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_quoted_with_what_it_said() {
        let error = run("echo because >&2; exit 3", SECOND * 20).await.unwrap_err().to_string();
        assert!(error.contains("exit 3") && error.contains("because"), "{error}");
    }

    #[tokio::test]
    async fn what_a_command_leaves_in_the_background_goes_on_and_is_not_waited_for() {
        let started = Instant::now();
        let pid = run("sleep 30 & echo $!", SECOND * 20).await.unwrap();
        assert!(started.elapsed() < SECOND * 10, "it was waited for");
        let pid = Pid::from_raw(pid.parse().unwrap());
        nix::sys::signal::kill(pid, Signal::SIGKILL).expect("it goes on");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_its_children() {
        let marker = format!("{}.25", 300 + std::process::id());
        let started = Instant::now();
        let error = run(&format!("sleep {marker} & sleep {marker}"), SECOND / 5).await.unwrap_err();
        assert!(matches!(error, Error::Late { .. }), "{error}");
        assert!(started.elapsed() < SECOND * 20);
        let count = format!("ps -eo args | grep -c '^sleep {marker}' || true");
        assert_eq!(run(&count, SECOND * 20).await.unwrap(), "0");
    }

    #[tokio::test]
    async fn much_output_neither_blocks_nor_fills_the_memory() {
        let output = run("head -c 1000000 /dev/zero | tr '\\0' x", SECOND * 20).await.unwrap();
        assert_eq!(output.len() as u64, OUTPUT_LIMIT);
    }
}
