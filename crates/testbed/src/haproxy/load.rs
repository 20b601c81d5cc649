//! A client that never stops asking, and counts what it did not get.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    asked: Arc<AtomicUsize>,
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
        let asked = Arc::new(AtomicUsize::new(0));
        let threads = (0..THREADS).map(|_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut tally = Tally::default();
                while !stop.load(Ordering::SeqCst) {
                    match get(address, "/") {
                        Ok(answer) => *tally.answers.entry(answer).or_default() += 1,
                        Err(error) => tally.failures.push(format!("{error:#}")),
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(PAUSE);
                }
                tally
            })
        });
        let threads = threads.collect();
        Self { stop, asked, threads }
    }

    /// Returns how many requests have ended.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
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
    // In one piece: a request sent in several waits for acknowledgements, 40 ms each.
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("no answer but {answer:?}"))?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}
