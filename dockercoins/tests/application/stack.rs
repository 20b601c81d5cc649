//! The programs and redis, each as a process on a free port, and HTTP to talk to them.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testbed::process::Process;

/// How long a program may take to start, on a machine with other things to do.
const START: Duration = Duration::from_secs(10);

/// Asks `probe` until it answers, at most for `limit`.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asserts that `took` is in a range of milliseconds.
#[track_caller]
pub(crate) fn assert_took(took: Duration, milliseconds: std::ops::RangeInclusive<u128>) {
    assert!(
        milliseconds.contains(&took.as_millis()),
        "took {took:?}, not {milliseconds:?} milliseconds"
    );
}

/// How often what has to be quick is tried at most: a machine that is busy with something else is late now and then, and
/// says nothing about the program.
const TRIES: usize = 5;

/// Asserts that something takes a number of milliseconds in this range, at its quickest.
pub(crate) async fn assert_quickest(
    milliseconds: std::ops::RangeInclusive<u128>,
    mut measure: impl AsyncFnMut() -> Duration,
) {
    let mut quickest = Duration::MAX;
    for _ in 0..TRIES {
        quickest = quickest.min(measure().await);
        if quickest.as_millis() <= *milliseconds.end() {
            break;
        }
    }
    assert_took(quickest, milliseconds);
}

/// Asserts that something succeeds when it is tried several times: what has only so much time to end may be cut off on
/// a machine that is busy with something else.
pub(crate) async fn assert_succeeds(mut attempt: impl AsyncFnMut() -> Result<(), String>) {
    let mut failures = Vec::new();
    for _ in 0..TRIES {
        match attempt().await {
            Ok(()) => return,
            Err(why) => failures.push(why),
        }
    }
    panic!("each time: {failures:#?}");
}

/// One of our programs.
pub(crate) struct Program {
    process: Process,
    folder: tempfile::TempDir,
}

impl Program {
    /// Starts `dockercoins` with these arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockercoins"));
        command.args(args).env_remove("DEBUG");
        let log = File::create(folder.path().join("log")).unwrap();
        Self { process: Process::spawn(&command, Some(&log)).unwrap(), folder }
    }

    /// Starts a server on a free port and returns it with its address.
    pub(crate) async fn serve(args: &[&str]) -> (Self, SocketAddr) {
        let program = Self::start(&[args, &["--listen", "127.0.0.1:0"]].concat());
        let address = eventually("a server says where it listens", START, async || {
            let log = program.log();
            let (line, _) = log.split_once("listening on ")?.1.split_once('\n')?;
            line.parse().ok()
        })
        .await;
        (program, address)
    }

    /// Returns what it wrote so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Returns how many of its lines contain `text`.
    pub(crate) fn lines(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Tells whether it still runs.
    pub(crate) fn runs(&self) -> bool {
        self.process.exited().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    /// Waits for its end after a signal, which has to come soon and without an error.
    #[track_caller]
    pub(crate) fn assert_ends_soon(&self) {
        let started = Instant::now();
        let status = self.process.wait(Duration::from_secs(10)).unwrap();
        let took = started.elapsed();
        // Within a second, were there nothing else on the machine.
        assert!(took < Duration::from_secs(6), "ended after {took:?}");
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", self.log());
    }
}

/// A redis with a folder of its own, which keeps its data over a regular stop.
pub(crate) struct Redis {
    process: Option<Process>,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts one on a free port.
    pub(crate) async fn start() -> Self {
        let mut redis = Self::away();
        redis.restart().await;
        redis
    }

    /// Returns one that does not run yet.
    pub(crate) fn away() -> Self {
        let port = testbed::port::free_port().unwrap();
        Self { process: None, port, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it, on the same port and with the same data as before.
    pub(crate) async fn restart(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "3600 1"]);
        command.args(["--port", &self.port.to_string()]).arg("--dir").arg(folder);
        let log = File::create(folder.join("log")).unwrap();
        self.process = Some(Process::spawn(&command, Some(&log)).unwrap());
        eventually("redis answers", START, async || self.try_ask::<()>(&["PING"]).await).await;
    }

    /// Stops it; its data are saved.
    pub(crate) fn stop(&mut self) {
        self.process.take().unwrap().stop().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal).unwrap();
    }

    async fn try_ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        let client = redis::Client::open(format!("redis://{}/", self.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut query = redis::cmd(command[0]);
        query.arg(&command[1..]).query_async(&mut connection).await.ok()
    }

    /// Asks it one thing.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).await.unwrap_or_else(|| panic!("redis does not answer {command:?}"))
    }

    /// Returns the number of hashes that it knows of.
    pub(crate) async fn hashes(&self) -> u64 {
        self.ask::<Option<u64>>(&["GET", "hashes"]).await.unwrap_or(0)
    }
}

/// What a request brought back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
    /// From before the connection was opened to the last byte.
    pub(crate) took: Duration,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }
}

/// A client that opens a connection for every request and follows no redirect.
#[derive(Clone)]
pub(crate) struct Http(reqwest::Client);

impl Http {
    pub(crate) fn new() -> Self {
        let client = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(30));
        Self(client.build().unwrap())
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        url: &str,
        body: Vec<u8>,
    ) -> reqwest::Result<Answer> {
        let started = Instant::now();
        let request = self.0.request(method.parse().unwrap(), url).body(body);
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        Ok(Answer { status, headers, body, took: started.elapsed() })
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.request("GET", url, Vec::new()).await.unwrap()
    }

    pub(crate) async fn post(&self, url: &str, body: &[u8]) -> Answer {
        self.request("POST", url, body.to_vec()).await.unwrap()
    }
}
