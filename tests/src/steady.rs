//! A client that asks at a steady rate, whatever happens meanwhile, and counts what failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};

use crate::http;

/// How many requests a second are sent: enough to meet what lasts some milliseconds, and little work for two cores.
pub const RATE: u32 = 20;

/// A client at work.
#[derive(Debug)]
pub struct Steady {
    stopped: Arc<AtomicBool>,
    task: JoinHandle<Tally>,
}

/// What a client met.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many requests it sent.
    pub asked: usize,
    /// What went wrong, one line for each request that was not answered with 200.
    pub failed: Vec<String>,
    /// How long the slowest answer took.
    pub slowest: Duration,
}

impl Steady {
    /// Starts to ask for `url` as the service `host`: a POST if there is a `body`, else a GET; each on a new connection.
    #[must_use]
    pub fn start(url: &str, host: &str, body: Option<&'static str>) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (url, host, ended) = (url.to_owned(), host.to_owned(), Arc::clone(&stopped));
        let task = tokio::spawn(async move {
            let mut requests = JoinSet::new();
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
            while !ended.load(Ordering::SeqCst) {
                ticks.tick().await;
                let (url, host) = (url.clone(), host.clone());
                requests.spawn(async move {
                    let started = Instant::now();
                    (http::ask(&url, &host, body).await, started.elapsed())
                });
            }
            let mut tally = Tally::default();
            for (answer, took) in requests.join_all().await {
                tally.asked += 1;
                tally.slowest = tally.slowest.max(took);
                match answer {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => tally.failed.push(format!("status {}", answer.status)),
                    Err(error) => tally.failed.push(format!("{error:#}")),
                }
            }
            tally
        });
        Self { stopped, task }
    }

    /// Stops it, waits for the last answer, and returns what it met.
    ///
    /// # Panics
    /// If the client did.
    pub async fn stop(self) -> Tally {
        self.stopped.store(true, Ordering::SeqCst);
        self.task.await.expect("the client does not panic")
    }
}
