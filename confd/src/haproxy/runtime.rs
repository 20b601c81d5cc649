//! Speaks with a running HAProxy over its runtime socket; no other file opens it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Error;
use super::diff::{Change, Op};
use super::state::{State, Unexpected};

/// How long HAProxy may take for one batch of commands; 200 new servers take it 0.1 s.
const LIMIT: Duration = Duration::from_secs(10);
/// What ends every answer in prompt mode.
const PROMPT: &[u8] = b"\n> ";
/// From how many backends on their state is asked for in one go, all others included.
const MANY: usize = 20;

/// One connection: all its commands reach the same worker, even while HAProxy reloads.
#[derive(Debug)]
pub(crate) struct Session {
    socket: PathBuf,
    stream: UnixStream,
    /// Whether HAProxy was told to keep it open; that goes with the first commands, which spares a round trip.
    kept_open: bool,
}

/// A worker: who starts later in its container may have its number, but not both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// When it began, in seconds since 1970.
    started: u64,
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done.
    Done,
    /// A deletion that has to wait for connections to end.
    Busy,
    /// It is refused, with HAProxy's answer.
    Refused(String),
}

impl Session {
    /// Opens the socket.
    pub(crate) async fn open(socket: &Path) -> Result<Self, Error> {
        let unreachable = |source| Error::Unreachable { socket: socket.to_owned(), source };
        let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
        Ok(Self { socket: socket.to_owned(), stream, kept_open: false })
    }

    /// Returns the worker on the other side.
    pub(crate) async fn worker(&mut self) -> Result<Process, Error> {
        let answers = self.ask(&["show info".to_owned()]).await?;
        let value = |name: &str| {
            answers[0].lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        let pid = value("Pid: ").and_then(|pid| pid.try_into().ok());
        let process = pid.zip(value("Start_time_sec: "));
        let process = process.map(|(pid, started)| Process { pid, started });
        process.ok_or_else(|| Unexpected(answers[0].clone()).into())
    }

    /// Returns the servers of some backends, all others perhaps included; `None` = of all.
    pub(crate) async fn state(
        &mut self,
        backends: Option<&BTreeSet<String>>,
    ) -> Result<State, Error> {
        let commands: Vec<String> = match backends {
            Some(backends) if backends.len() < MANY => {
                backends.iter().map(|backend| format!("show servers state {backend}")).collect()
            }
            _ => vec!["show servers state".to_owned()],
        };
        let mut state = State::default();
        for answer in self.ask(&commands).await? {
            // A backend that is not there has no servers; adding one is then refused.
            if answer.trim() != "Can't find backend." {
                state.read_servers(&answer)?;
            }
        }
        Ok(state)
    }

    /// Adds to a state how many sessions each server of the backends has.
    pub(crate) async fn sessions(
        &mut self,
        backends: &BTreeSet<&str>,
        state: &mut State,
    ) -> Result<(), Error> {
        // Type 4 are servers, -1 is all of them.
        let commands: Vec<String> =
            backends.iter().map(|backend| format!("show stat {backend} 4 -1")).collect();
        for answer in self.ask(&commands).await? {
            state.read_sessions(&answer)?;
        }
        Ok(())
    }

    /// Makes everybody leave servers, named by their backends and numbers, that stick tables sent them to.
    pub(crate) async fn unstick<'a>(
        &mut self,
        servers: impl Iterator<Item = (&'a str, u32)>,
    ) -> Result<(), Error> {
        let clear = |(backend, id)| format!("clear table {backend} data.server_id eq {id}");
        let commands: Vec<String> = servers.map(clear).collect();
        // Most backends have no such table, and say so.
        self.ask(&commands).await.map(drop)
    }

    /// Carries out changes in their order; a refused one does not keep the others back.
    pub(crate) async fn execute(&mut self, ops: &[Op]) -> Result<Vec<Verdict>, Error> {
        let commands: Vec<Vec<(String, Expect)>> = ops.iter().map(commands).collect();
        let lines: Vec<String> = commands.iter().flatten().map(|(line, _)| line.clone()).collect();
        let mut answers = self.ask(&lines).await?.into_iter();
        let judge = |commands: &Vec<(String, Expect)>| {
            let answers = answers.by_ref().take(commands.len());
            let verdicts =
                commands.iter().zip(answers).map(|((_, expect), answer)| expect.judge(&answer));
            verdicts
                .reduce(|first, next| if first == Verdict::Done { next } else { first })
                .unwrap_or(Verdict::Done)
        };
        Ok(commands.iter().map(judge).collect())
    }

    /// Sends all commands without waiting, and returns one answer for each.
    async fn ask(&mut self, commands: &[String]) -> Result<Vec<String>, Error> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let first = (!self.kept_open).then_some("prompt");
        let lines: Vec<&str> =
            first.into_iter().chain(commands.iter().map(String::as_str)).collect();
        let exchange = exchange(&mut self.stream, &lines);
        let answers = timeout(LIMIT, exchange).await.unwrap_or_else(|late| Err(late.into()));
        let mut answers =
            answers.map_err(|source| Error::Unreachable { socket: self.socket.clone(), source })?;
        if first.is_some() {
            answers.remove(0);
            self.kept_open = true;
        }
        Ok(answers)
    }
}

async fn exchange(stream: &mut UnixStream, commands: &[&str]) -> io::Result<Vec<String>> {
    let text: String = commands.iter().flat_map(|command| [command, "\n"]).collect();
    let (mut reader, mut writer) = stream.split();
    let write = async { writer.write_all(text.as_bytes()).await };
    let read = async {
        let mut answers = Vec::with_capacity(commands.len());
        let (mut buffer, mut seen) = (Vec::new(), 0);
        while answers.len() < commands.len() {
            if reader.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut start = 0;
            while let Some(end) = find(&buffer[seen..], PROMPT).map(|end| seen + end) {
                answers.push(String::from_utf8_lossy(&buffer[start..end]).into_owned());
                (start, seen) = (end + PROMPT.len(), end + PROMPT.len());
            }
            buffer.drain(..start);
            // A prompt may arrive in two halves.
            seen = buffer.len().saturating_sub(PROMPT.len() - 1);
        }
        Ok(answers)
    };
    // Both at once: HAProxy stops reading while nobody takes its answers.
    let ((), answers) = tokio::try_join!(write, read)?;
    Ok(answers)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The only answers that count as success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    Added,
    Moved,
    Deleted,
}

impl Expect {
    fn judge(self, answer: &str) -> Verdict {
        let answer = answer.trim();
        let done = match self {
            Self::Nothing => answer.is_empty(),
            Self::Added => answer == "New server registered.",
            Self::Moved => ["IP changed", "port changed", "no need to change"]
                .iter()
                .any(|start| answer.starts_with(start)),
            Self::Deleted => answer == "Server deleted.",
        };
        if done {
            Verdict::Done
        } else if self == Self::Deleted && answer.contains("still has connections attached") {
            Verdict::Busy
        } else {
            Verdict::Refused(answer.to_owned())
        }
    }
}

fn commands(op: &Op) -> Vec<(String, Expect)> {
    let name = format!("{}/{}", op.backend, op.server);
    match &op.change {
        Change::Add { address, options, weight, checked, ready } => {
            let mut commands = vec![(
                format!("add server {name} {address} weight {weight} {options}"),
                Expect::Added,
            )];
            if *checked {
                commands.push((format!("enable health {name}"), Expect::Nothing));
            }
            if *ready {
                commands.push((format!("enable server {name}"), Expect::Nothing));
            }
            commands
        }
        Change::Address { address, unproven } => {
            let to = format!("set server {name} addr {} port {}", address.ip(), address.port());
            let mut commands = vec![(to, Expect::Moved)];
            if *unproven {
                commands.push((format!("set server {name} health down"), Expect::Nothing));
            }
            commands
        }
        Change::Weight(weight) => {
            vec![(format!("set server {name} weight {weight}"), Expect::Nothing)]
        }
        Change::Ready => vec![(format!("set server {name} state ready"), Expect::Nothing)],
        Change::Maintenance => vec![(format!("set server {name} state maint"), Expect::Nothing)],
        Change::Drain => vec![(format!("set server {name} state drain"), Expect::Nothing)],
        Change::Kill => vec![(format!("shutdown sessions server {name}"), Expect::Nothing)],
        Change::Delete => vec![(format!("del server {name}"), Expect::Deleted)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_answers_count_as_done() {
        assert_eq!(Expect::Nothing.judge("\n"), Verdict::Done);
        assert_eq!(Expect::Added.judge("New server registered.\n"), Verdict::Done);
        assert_eq!(
            Expect::Moved.judge("no need to change the addr, port changed from '9' to '10'"),
            Verdict::Done
        );
        assert_eq!(
            Expect::Deleted.judge("Server still has connections attached to it, cannot remove it."),
            Verdict::Busy
        );
        for expect in [Expect::Nothing, Expect::Added, Expect::Moved, Expect::Deleted] {
            assert_eq!(
                expect.judge("Permission denied\n"),
                Verdict::Refused("Permission denied".to_owned())
            );
        }
    }

    #[tokio::test]
    async fn answers_are_told_apart_even_if_they_come_in_pieces() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let pieces = async {
            for piece in ["one\ntwo\n", "\n", ">", " \n> thr", "ee\n\n> "] {
                far.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let commands = ["a", "b", "c"];
        let (answers, ()) = tokio::join!(exchange(&mut near, &commands), pieces);
        assert_eq!(answers.unwrap(), ["one\ntwo\n", "", "three\n"]);
    }

    #[tokio::test]
    async fn a_socket_that_closes_early_is_an_error() {
        let (mut near, far) = UnixStream::pair().unwrap();
        drop(far);
        assert!(exchange(&mut near, &["a"]).await.is_err());
    }
}
