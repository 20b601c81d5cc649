//! An ambassador to test, servers for behind it and clients for in front of it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testbed::process::Process;

/// Far more than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// How often to look again.
const POLL: Duration = Duration::from_millis(10);
/// A client that waits longer than this calls it a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// An ambassador in a directory of its own; stopped when dropped.
pub(crate) struct Ambassador {
    folder: tempfile::TempDir,
    haproxy: PathBuf,
    process: Option<Process>,
}

impl Ambassador {
    /// Prepares a directory; nothing runs yet.
    pub(crate) fn new(haproxy: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("amb").tempdir().unwrap();
        Self { folder, haproxy: haproxy.to_owned(), process: None }
    }

    /// Prepares a directory and runs an ambassador in it with these arguments.
    pub(crate) fn running(haproxy: &Path, arguments: &[&str]) -> Self {
        let mut ambassador = Self::new(haproxy);
        ambassador.run(arguments);
        ambassador
    }

    /// Runs `ambassador run` and waits until HAProxy serves.
    pub(crate) fn run(&mut self, arguments: &[&str]) {
        self.spawn(self.command(&["run"]).args(arguments));
        self.wait_until_healthy();
    }

    pub(crate) fn spawn(&mut self, command: &Command) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        self.process = Some(Process::spawn(command, Some(&log)).unwrap());
    }

    pub(crate) fn wait_until_healthy(&self) {
        eventually("HAProxy serves", || self.ask(&["healthcheck"]).status.success());
    }

    /// The command line of one more process in the same directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambassador"));
        command.env("AMBASSADOR_DIR", self.folder.path()).env("HAPROXY", &self.haproxy);
        command.args(arguments);
        command
    }

    /// Runs one of the short commands.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Hands over a configuration that must be applied.
    pub(crate) fn reconfigure(&self, arguments: &[&str]) {
        let output = self.ask(&[&["reconfigure"], arguments].concat());
        assert!(output.status.success(), "{output:?}\n{}", self.log());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        self.file("log")
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process().signal(signal).unwrap();
    }

    /// Waits for the end and returns the exit code.
    pub(crate) fn end(&self) -> Option<i32> {
        let status = self.process().wait(LIMIT).unwrap().expect("it ends");
        status.code()
    }

    /// Stops it as Docker would; it must end well.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.end(), Some(0), "{}", self.log());
    }

    /// The process id of HAProxy's master, from its own socket, while it answers.
    pub(crate) fn master(&self) -> Option<i32> {
        let mut socket = UnixStream::connect(self.path("master.sock")).ok()?;
        socket.write_all(b"show proc\n").ok()?;
        socket.shutdown(std::net::Shutdown::Write).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let line = answer.lines().find(|line| line.contains(" master "))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Ambassador {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the ambassador's log:\n{}", self.log());
        }
        // Asked politely, it takes HAProxy along.
        if let Some(process) = &self.process {
            let _ = process.stop();
        }
    }
}

/// The HAProxy programs to test with, the oldest first.
pub(crate) fn haproxies() -> Vec<PathBuf> {
    testbed::haproxy::programs().iter().map(|program| program.path.clone()).collect()
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Returns an address of loopback that nobody uses.
pub(crate) fn free_address() -> String {
    format!("127.0.0.1:{}", testbed::consul::free_port().unwrap())
}

/// A server that answers each connection's first bytes with its name, after a delay, and closes.
pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(name: &'static str, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                let counter = Arc::clone(&counter);
                // Health checks come and go without a word.
                std::thread::spawn(move || {
                    if stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {
                        counter.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(delay);
                        let _ = stream.write_all(name.as_bytes());
                    }
                });
            }
        });
        Self { address: address.to_string(), requests, stop, thread: Some(thread) }
    }

    /// Waits until a connection has said something.
    pub(crate) fn wait_for_a_request(&self) {
        eventually("a request", || self.requests.load(Ordering::SeqCst) > 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Connects, says something and returns the answer.
pub(crate) fn request(address: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::other("closed without an answer"));
    }
    Ok(answer)
}

/// Whether connections to the address are refused.
pub(crate) fn refused(address: &str) -> bool {
    TcpStream::connect(address)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// A client that sends one request after the other until it is stopped.
pub(crate) struct SteadyClient {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl SteadyClient {
    pub(crate) fn start(address: &str) -> Self {
        let address = address.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut answered, mut failures) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                match request(&address) {
                    Ok(_) => answered += 1,
                    Err(error) => failures.push(error.to_string()),
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            (answered, failures)
        });
        Self { stop, thread }
    }

    /// Stops and returns how many requests were answered, and what went wrong with the others.
    pub(crate) fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
