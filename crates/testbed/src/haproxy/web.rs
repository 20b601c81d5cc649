//! A tiny web server that answers with its name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a held connection gets a byte.
const DRIP: Duration = Duration::from_millis(10);

/// A web server on a free port, stopped when dropped.
///
/// `GET /` answers its name; `/login/NAME=VALUE` does too, and sets that cookie; `/hold` answers without end; `/health`
/// answers 200, or 503 while it is unhealthy.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    stopped: AtomicBool,
    unhealthy: AtomicBool,
    requests: AtomicUsize,
    checks: AtomicUsize,
}

impl Web {
    /// Starts a server with a name.
    pub fn start(name: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stopped: AtomicBool::new(false),
            unhealthy: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                // A client that goes away ends its thread only.
                std::thread::spawn(move || stream.and_then(|stream| serving.answer(stream)));
            }
        });
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many requests it has had, health checks aside.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Returns how often its health was asked for.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.shared.checks.load(Ordering::SeqCst)
    }

    /// Says whether `/health` is to answer 200 or 503.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.unhealthy.store(!healthy, Ordering::SeqCst);
    }
}

impl Shared {
    /// Answers requests for as long as the client keeps its connection.
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let end = received.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                let request: Vec<u8> = received.drain(..end + 4).collect();
                self.answer_one(&String::from_utf8_lossy(&request), &mut stream)?;
                continue;
            }
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => received.extend_from_slice(&buffer[..read]),
            }
        }
    }

    fn answer_one(&self, request: &str, stream: &mut TcpStream) -> std::io::Result<()> {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let cookie = path.strip_prefix("/login/").map(|cookie| format!("Set-Cookie: {cookie}\r\n"));
        let cookie = cookie.unwrap_or_default();
        let (status, body) = match path {
            "/health" => {
                self.checks.fetch_add(1, Ordering::SeqCst);
                (if self.unhealthy.load(Ordering::SeqCst) { "503 Away" } else { "200 OK" }, "")
            }
            "/hold" => {
                self.requests.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n")?;
                while !self.stopped.load(Ordering::SeqCst) {
                    stream.write_all(b".")?;
                    std::thread::sleep(DRIP);
                }
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            _ => {
                self.requests.fetch_add(1, Ordering::SeqCst);
                ("200 OK", self.name.as_str())
            }
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\n{cookie}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
