//! Reloads HAProxy through its master socket, and confirms what became of it; no other file opens that socket.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::Error;
use super::check::lines;
use super::state::Unexpected;

/// How long a reload may take: a file of 50,000 servers is read in a few seconds.
const LIMIT: Duration = Duration::from_mins(1);
/// How often the master is asked whether the reload is over, and a lock is tried.
const POLL: Duration = Duration::from_millis(5);

/// How a connection ends whose other side starts itself again.
const CUT: [io::ErrorKind; 3] =
    [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::NotConnected];

/// The processes of an HAProxy, as `show proc` tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Processes {
    /// How often the master was told to reload.
    reloads: u64,
    /// How many of the last of these failed.
    failed: u64,
    /// The process id of the worker in charge.
    worker: Option<u32>,
}

/// How a reload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// The worker with this process id runs the new configuration.
    Accepted(u32),
    /// The old one goes on; HAProxy 3.0 says why, 2.6 does not.
    Rejected(Vec<String>),
}

/// Reloads, waiting for any other reload of the same HAProxy to end first.
pub(crate) async fn reload(socket: &Path) -> Result<Reloaded, Error> {
    let end = Instant::now() + LIMIT;
    let unreachable = |source| Error::Unreachable { socket: socket.to_owned(), source };
    let _lock = lock(socket.with_file_name("reload.lock"), end).await.map_err(unreachable)?;
    let before = processes(&ask(socket, "show proc", end).await.map_err(unreachable)?)?;
    // 2.6 closes the connection without a word, at times before all of it was read.
    let answer = match ask(socket, "reload", end).await {
        Err(error) if CUT.contains(&error.kind()) => String::new(),
        answer => answer.map_err(unreachable)?,
    };
    if answer.starts_with("Success=0") {
        return Ok(Reloaded::Rejected(lines(&answer)));
    }
    loop {
        if Instant::now() >= end {
            return Err(unreachable(io::ErrorKind::TimedOut.into()));
        }
        // While the master starts itself again, nobody answers.
        let Ok(answer) = ask(socket, "show proc", end).await else {
            sleep(POLL).await;
            continue;
        };
        match processes(&answer)? {
            now if now.reloads == before.reloads => {}
            now if now.failed > 0 => return Ok(Reloaded::Rejected(Vec::new())),
            Processes { worker: Some(worker), .. } if before.worker != Some(worker) => {
                return Ok(Reloaded::Accepted(worker));
            }
            _ => {}
        }
        sleep(POLL).await;
    }
}

/// Takes the lock that whoever reloads this HAProxy holds meanwhile.
async fn lock(path: PathBuf, end: Instant) -> io::Result<Flock<File>> {
    let mut file = File::options().create(true).append(true).open(path)?;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < end => file,
            Err((_, Errno::EWOULDBLOCK)) => return Err(io::ErrorKind::TimedOut.into()),
            Err((_, error)) => return Err(error.into()),
        };
        sleep(POLL).await;
    }
}

async fn ask(socket: &Path, command: &str, end: Instant) -> io::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        // The master keeps a connection open as long as more commands may come.
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout_at(end, exchange).await.unwrap_or_else(|late| Err(late.into()))
}

fn processes(answer: &str) -> Result<Processes, Unexpected> {
    let unexpected = || Unexpected(answer.chars().take(500).collect());
    let mut found = None;
    let mut is_current = false;
    for line in answer.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            ["#", "workers"] => is_current = true,
            ["#", ..] => is_current = false,
            [_, "master", reloads, "[failed:", failed, ..] => {
                let failed = failed.trim_end_matches(']').parse().map_err(|_| unexpected())?;
                let reloads = reloads.parse().map_err(|_| unexpected())?;
                found = Some(Processes { reloads, failed, worker: None });
            }
            [pid, "worker", ..] if is_current => {
                if let Some(found) = &mut found {
                    found.worker = Some(pid.parse().map_err(|_| unexpected())?);
                }
            }
            _ => {}
        }
    }
    found.ok_or_else(unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_in_charge_is_told_from_older_ones() {
        let answer = "#<PID>          <type>          <reloads>       <uptime>        <version>\n\
            8111            master          2 [failed: 1]   0d00h04m35s     2.6.12-1+deb12u4\n# workers\n\
            11504           worker          1               0d00h00m01s     2.6.12-1+deb12u4\n# old workers\n\
            11400           worker          3               0d00h00m09s     2.6.12-1+deb12u4\n# programs\n";
        let expected = Processes { reloads: 2, failed: 1, worker: Some(11504) };
        assert_eq!(processes(answer), Ok(expected));
        assert!(processes("Permission denied\n").is_err());
    }

    #[tokio::test]
    async fn a_second_reload_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reload.lock");
        let first = lock(path.clone(), Instant::now()).await.unwrap();
        let late = lock(path.clone(), Instant::now() + POLL * 3).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(first);
        lock(path, Instant::now()).await.unwrap();
    }
}
