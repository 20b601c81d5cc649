//! A client that never stops asking, and counts what it did not get.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The pause between two requests of one thread.
const PAUSE: Duration = Duration::from_millis(1);
/// How many threads ask.
const THREADS: usize = 4;

/// Requests one after the other, each on a connection of its own, until stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What the requests came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were answered, by the text of the answer.
    pub answers: BTreeMap<String, usize>,
    /// What went wrong with the others.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts asking for `/`.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ask = move |stop: Arc<AtomicBool>| {
            let mut tally = Tally::default();
            while !stop.load(Ordering::SeqCst) {
                match get(address, "/") {
                    Ok(answer) => *tally.answers.entry(answer).or_default() += 1,
                    Err(error) => tally.failures.push(format!("{error:#}")),
                }
                std::thread::sleep(PAUSE);
            }
            tally
        };
        let threads = (0..THREADS).map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || ask(stop))
        });
        Self { threads: threads.collect(), stop }
    }

    /// Stops, and returns what the requests came to.
    ///
    /// # Panics
    /// If a thread did.
    #[must_use]
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for thread in self.threads {
            let one = thread.join().expect("asking does not panic");
            all.failures.extend(one.failures);
            for (answer, count) in one.answers {
                *all.answers.entry(answer).or_default() += count;
            }
        }
        all
    }
}

/// Returns the body of a successful answer to one request on a new connection.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("no answer but {answer:?}"))?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}
