//! Stands before an agent and, when shut, holds back some requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::world::World;

/// How the paths of keys begin.
pub(crate) const KEYS: &[&str] = &["/v1/kv/", "/v1/txn"];
/// How the paths of whatever takes the servers begin.
pub(crate) const SERVERS: &[&str] = &["/v1/kv/", "/v1/session/", "/v1/txn"];

/// A gate before an agent; connections last for one request each.
pub(crate) struct Gate {
    shut: Arc<AtomicBool>,
}

impl Gate {
    /// Opens a gate before a world's agent, which will hold back the paths that begin so.
    pub(crate) fn before(world: &mut World, held_back: &'static [&'static str]) -> Self {
        let agent = world.consul.http_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shut = Arc::new(AtomicBool::new(false));
        let closed = shut.clone();
        // Both end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let closed = closed.clone();
                std::thread::spawn(move || pass(stream, agent, held_back, &closed));
            }
        });
        world.set("CONSUL_HTTP_ADDR", &format!("http://127.0.0.1:{port}"));
        Self { shut }
    }

    /// Shuts the gate, or opens it.
    pub(crate) fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::Relaxed);
    }
}

fn pass(mut client: TcpStream, agent: u16, held_back: &[&str], shut: &AtomicBool) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    while shut.load(Ordering::Relaxed) && held_back.iter().any(|begin| path.starts_with(begin)) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, agent)).ok()?;
    server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).ok()?;
    server.write_all(&body).ok()?;
    std::io::copy(&mut server, &mut client).ok().map(drop)
}
