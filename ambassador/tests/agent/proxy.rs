//! An engine behind a socket that refuses what a test wants refused.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the engine says when something is wrong with one container.
const REFUSAL: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n\
    Content-Length: 28\r\nConnection: close\r\n\r\n{\"message\":\"cannot inspect\"}";

/// A socket in front of an engine's; its threads end with the test.
pub(crate) struct Proxy(tempfile::TempDir);

impl Proxy {
    /// Passes everything on but the requests whose first line contains `refused`.
    pub(crate) fn start(engine: &Path, refused: &str) -> Self {
        let proxy = Self(tempfile::tempdir().unwrap());
        let listener = UnixListener::bind(proxy.socket()).unwrap();
        let (engine, refused): (PathBuf, Arc<str>) = (engine.to_owned(), refused.into());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (engine, refused) = (engine.clone(), Arc::clone(&refused));
                std::thread::spawn(move || serve(client.unwrap(), &engine, &refused));
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("docker.sock")
    }
}

/// Serves one request, and has the engine close the connection after it.
fn serve(mut client: UnixStream, engine: &Path, refused: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap();
    if first.contains(refused) {
        let _ = client.write_all(REFUSAL.as_bytes());
        return;
    }
    let mut server = UnixStream::connect(engine).unwrap();
    server.write_all(format!("{first}\r\nConnection: close\r\n{rest}").as_bytes()).unwrap();
    let (mut body, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut body, &mut to));
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
}
