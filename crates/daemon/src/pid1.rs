//! The duties of process 1 in a container, done by a parent that does nothing else.

use std::io;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Takes over where this process is number 1: runs the same program again as a child, passes
/// every signal on to it, collects the orphans that Linux hands to process 1, and returns the
/// child's exit code. Returns `None` at once in any other process, deaf to no signal.
///
/// Call it first in `main`, before a runtime or a thread exists. The work is split between two
/// processes because process 1 must wait for *any* child, which would steal the exit status of
/// the children that the daemon itself waits for.
pub fn supervise() -> io::Result<Option<ExitCode>> {
    let signals = SigSet::all();
    if std::process::id() != 1 {
        // A child inherits which signals are blocked: from below, for one.
        signals.thread_unblock()?;
        return Ok(None);
    }
    // Blocked, a signal waits for `wait` instead of being lost on a process without a handler.
    signals.thread_block()?;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "daemon".into());
    let mut program = Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut program, name);
    let child = program.args(arguments).spawn()?;
    let child = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = collect(child)? {
                    return Ok(Some(code));
                }
            }
            // It may have ended a moment ago: its SIGCHLD is next.
            signal => drop(kill(child, signal)),
        }
    }
}

/// Collects every ended process; returns the exit code when `child` was among them.
fn collect(child: Pid) -> io::Result<Option<ExitCode>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                return Ok(Some(u8::try_from(code).unwrap_or(u8::MAX).into()));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                // What a shell reports for a program ended by a signal.
                return Ok(Some(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX).into()));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
