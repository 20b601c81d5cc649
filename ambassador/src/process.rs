//! HAProxy as a child: master and workers are one process group, started and ended together.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::args::Place;
use crate::log_lines::Journal;

/// How long HAProxy may take to end at once, before it is killed.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How often to look whether a process that is not our child has ended.
const POLL: Duration = Duration::from_millis(20);

/// A running HAProxy; killed when dropped.
pub(crate) struct Process {
    child: Child,
    group: Pid,
}

impl Process {
    /// Starts a master that loads the base configuration and `haproxy.cfg`.
    pub(crate) fn start(place: &Place, journal: &Journal) -> io::Result<Self> {
        let directory = &place.directory;
        let mut child = Command::new(&place.haproxy)
            .arg("-W")
            .arg("-S")
            .arg(format!("{},mode,660", directory.master().display()))
            .arg("-f")
            .arg(directory.base())
            .arg("-f")
            .arg(directory.config())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        if let Some(stderr) = child.stderr.take() {
            // Ends with the last process that holds the other end.
            tokio::spawn(journal.clone().follow(stderr));
        }
        let id = child.id().expect("a child that was not waited for has an id");
        let group = Pid::from_raw(i32::try_from(id).map_err(io::Error::other)?);
        Ok(Self { child, group })
    }

    /// The master's process id.
    pub(crate) fn id(&self) -> Pid {
        self.group
    }

    /// Waits until the master has ended, and ends the workers that are left.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        // None may be left: workers end with their master, unless they hang.
        let _ = killpg(self.group, Signal::SIGKILL);
        Ok(status)
    }

    /// Stops listening at once and lets connections end by themselves until `cut` is ready.
    pub(crate) async fn stop(mut self, cut: impl Future<Output = ()>) -> io::Result<()> {
        // An error means that the master has ended already.
        let _ = kill(self.group, Signal::SIGUSR1);
        tokio::pin!(cut);
        tokio::select! {
            status = self.ended() => return status.map(drop),
            () = cut => tracing::warn!("connections are cut: they did not end in time"),
        }
        self.ended_at_once().await
    }

    async fn ended_at_once(&mut self) -> io::Result<()> {
        let _ = kill(self.group, Signal::SIGTERM);
        if let Ok(status) = timeout(AT_ONCE, self.ended()).await {
            return status.map(drop);
        }
        let _ = killpg(self.group, Signal::SIGKILL);
        self.ended().await.map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once waited for, the id may belong to another process.
        if self.child.id().is_some() {
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

/// Ends a HAProxy that a killed predecessor left behind: it would go on accepting connections
/// next to the new one.
pub(crate) async fn end_leftover(place: &Place) {
    let socket = place.directory.master();
    let Ok(stream) = UnixStream::connect(&socket).await else { return };
    // The kernel names the process that listens; zero is one that cannot be seen from here.
    let id = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or(0);
    drop(stream);
    let group = Pid::from_raw(id);
    if id <= 1 || getpgid(Some(group)) != Ok(group) {
        tracing::warn!(socket = %socket.display(), "a foreign process answers here");
        return;
    }
    tracing::warn!(pid = id, "ending the HAProxy of an ambassador that was killed");
    let _ = killpg(group, Signal::SIGTERM);
    let gone = async {
        while UnixStream::connect(&socket).await.is_ok() {
            sleep(POLL).await;
        }
    };
    let _ = timeout(AT_ONCE, gone).await;
    let _ = killpg(group, Signal::SIGKILL);
}
