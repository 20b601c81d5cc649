//! HAProxy's master socket: which processes there are, and reloads that are confirmed.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

/// How long one question may take; HAProxy 3.0 answers `reload` only when it has loaded.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a reload may take; one that cannot bind an address gives up after 2 s.
const RELOAD: Duration = Duration::from_secs(15);
/// How often to ask again while the master loads and its socket answers nobody.
const POLL: Duration = Duration::from_millis(20);

/// HAProxy's processes, as its master tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    /// Reloads since the master started.
    pub(crate) reloads: u32,
    /// Reloads that failed since the last one that did not.
    pub(crate) failed: u32,
    /// Process ids of the workers that accept connections.
    pub(crate) workers: Vec<u32>,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// A new worker serves the new configuration.
    Loaded,
    /// The old worker goes on with the old configuration.
    Failed,
}

/// Asks the master for its processes.
pub(crate) async fn processes(socket: &Path) -> io::Result<Processes> {
    let answer = ask(socket, "show proc").await?;
    parse(&answer).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("no list of processes: {answer:?}"))
    })
}

/// Makes the master load the configuration anew and waits for the outcome.
///
/// HAProxy 2.6 closes the connection and starts itself again, 3.0 answers when it has loaded;
/// both count their reloads, and that count is what is trusted.
pub(crate) async fn reload(socket: &Path) -> io::Result<Reload> {
    let deadline = Instant::now() + RELOAD;
    let before = patient(socket, deadline, |_| true).await?.reloads;
    match ask(socket, "reload").await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error),
        _ => {}
    }
    let after = patient(socket, deadline, |now| now.reloads > before).await?;
    Ok(if after.failed == 0 { Reload::Loaded } else { Reload::Failed })
}

/// Waits until the master answers and `enough` holds of its answer.
pub(crate) async fn patient(
    socket: &Path,
    deadline: Instant,
    enough: impl Fn(&Processes) -> bool,
) -> io::Result<Processes> {
    loop {
        let missing = match processes(socket).await {
            Ok(processes) if enough(&processes) => return Ok(processes),
            Ok(_) => io::Error::new(io::ErrorKind::TimedOut, "the master has not loaded yet"),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(missing);
        }
        sleep(POLL).await;
    }
}

/// Sends one command and returns everything that is answered.
async fn ask(socket: &Path, command: &str) -> io::Result<String> {
    let talk = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(ANSWER, talk)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer to {command}")))?
}

/// Reads the answer to `show proc`. Pure.
fn parse(answer: &str) -> Option<Processes> {
    let mut found = None;
    let mut workers = Vec::new();
    let mut section = "";
    for line in answer.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            section = name.trim();
            continue;
        }
        let mut words = line.split_whitespace();
        let (pid, kind) = (words.next(), words.next());
        match (kind, section) {
            (Some("master"), _) => {
                let reloads = words.next()?.parse().ok()?;
                let failed = words.nth(1)?.trim_end_matches(']').parse().ok()?;
                found = Some((reloads, failed));
            }
            (Some("worker"), "workers") => workers.push(pid?.parse().ok()?),
            _ => {}
        }
    }
    found.map(|(reloads, failed)| Processes { reloads, failed, workers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_list_tells_counts_and_current_workers() {
        let answer = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
            32602           master          3 [failed: 2]   0d00h00m06s     2.6.12-1+deb12u4\n\
            # workers\n\
            32643           worker          2               0d00h00m05s     2.6.12-1+deb12u4\n\
            # old workers\n\
            32001           worker          3               0d00h01m05s     2.6.12-1+deb12u4\n\
            # programs\n\n";
        assert_eq!(parse(answer), Some(Processes { reloads: 3, failed: 2, workers: vec![32643] }));
    }

    #[test]
    fn an_answer_without_a_master_is_none() {
        for answer in ["", "Unknown command\n", "# workers\n1 worker 0\n", "1 master x [failed: 0]"]
        {
            assert_eq!(parse(answer), None, "{answer}");
        }
    }
}
