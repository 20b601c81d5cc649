//! How a configuration is handed to a running ambassador: a socket in its directory, so that the
//! sender may be in another container.
//!
//! The sender writes the length of the text on a line of its own and then the text. The answer is
//! `applied`, or `rejected` with a reason on the lines that follow.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};

/// A sender has its text at hand; one that stalls must not keep others waiting.
const RECEIVE: Duration = Duration::from_secs(5);
/// Far more than HAProxy would load in time.
const LARGEST: u64 = 64 << 20;
/// How often to look for an ambassador that is about to start.
const POLL: Duration = Duration::from_millis(50);

/// How an attempt to bring in a configuration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// HAProxy serves it.
    Applied,
    /// HAProxy serves what it served before, for this reason.
    Rejected(String),
}

/// Starts listening for configurations.
pub(crate) fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Err(error) = std::fs::remove_file(socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(socket)?;
    // As HAProxy's own sockets: for the user and the group of this ambassador.
    std::fs::set_permissions(socket, Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Reads a sender's text.
pub(crate) async fn receive(sender: &mut UnixStream) -> io::Result<String> {
    let mut reader = BufReader::new(sender);
    let read = async {
        let mut line = Vec::new();
        (&mut reader).take(32).read_until(b'\n', &mut line).await?;
        let length: u64 = std::str::from_utf8(&line)
            .ok()
            .and_then(|line| line.trim_end().parse().ok())
            .filter(|length| *length <= LARGEST)
            .ok_or_else(|| invalid("no length before the text"))?;
        let mut text = String::new();
        (&mut reader).take(length).read_to_string(&mut text).await?;
        if text.len() as u64 != length {
            return Err(invalid("the text ends before its length"));
        }
        Ok(text)
    };
    timeout(RECEIVE, read).await.map_err(|_| invalid("the sender stalls"))?
}

/// Tells the sender what became of its text.
pub(crate) async fn answer(stream: &mut UnixStream, outcome: &Outcome) -> io::Result<()> {
    let answer = match outcome {
        Outcome::Applied => "applied\n".to_owned(),
        Outcome::Rejected(message) => format!("rejected\n{message}\n"),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Hands a text to the ambassador behind `socket` and waits up to `limit` for its answer.
///
/// An error means that nothing is known about the text: nobody is there, or the answer was lost.
pub(crate) async fn send(socket: &Path, text: &str, limit: Duration) -> io::Result<Outcome> {
    let deadline = Instant::now() + limit;
    let talk = async {
        let mut stream = connect(socket, deadline).await?;
        stream.write_all(format!("{}\n{text}", text.len()).as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        match answer.split_once('\n') {
            Some(("applied", _)) => Ok(Outcome::Applied),
            Some(("rejected", message)) => Ok(Outcome::Rejected(message.trim_end().to_owned())),
            _ => Err(invalid("the ambassador ended before it answered")),
        }
    };
    timeout(limit, talk)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the ambassador does not answer"))?
}

/// Connects as soon as somebody listens.
async fn connect(socket: &Path, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() + POLL >= deadline => return Err(error),
            Err(_) => sleep(POLL).await,
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_text_arrives_whole_and_its_answer_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = listen(&socket).unwrap();
        for outcome in [Outcome::Applied, Outcome::Rejected("line 1\nline 2".into())] {
            let sent = format!("{}\nend", "ä".repeat(100_000));
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let text = receive(&mut stream).await.unwrap();
                answer(&mut stream, &outcome).await.unwrap();
                text
            };
            let (answered, text) = tokio::join!(send(&socket, &sent, LIMIT), serve);
            assert_eq!(answered.unwrap(), outcome);
            assert!(text == sent);
        }
    }

    #[tokio::test]
    async fn half_a_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = listen(&socket).unwrap();
        for half in ["10\nhalf", "half", "", "99999999999999\nx", "-1\n", "4\n\u{0}\u{0}"] {
            let cut = async {
                let mut stream = UnixStream::connect(&socket).await.unwrap();
                stream.write_all(half.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                // Stays until the other side has read.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            };
            let received = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                receive(&mut stream).await
            };
            let (received, ()) = tokio::join!(received, cut);
            assert!(received.is_err(), "{half:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_a_killed_ambassador_left_behind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        drop(listen(&socket).unwrap());
        assert!(socket.exists());
        listen(&socket).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_listens_the_sender_gives_up_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let started = Instant::now();
        send(&folder.path().join("control.sock"), "", LIMIT).await.unwrap_err();
        assert!(started.elapsed() <= LIMIT);
    }
}
