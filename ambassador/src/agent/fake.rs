//! An engine for tests, which answers as it is told and remembers what it was asked.

use std::sync::{Arc, Mutex};

use engine::Endpoint;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;

use super::Agent;

/// An answer that says that it is done.
pub(super) const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

type Answer = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// An engine; it ends when dropped.
pub(super) struct Fake {
    folder: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
    serving: AbortHandle,
}

impl Fake {
    /// Starts an engine; `answer` is given the method and path of each request, and returns the whole response.
    pub(super) fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let requests = Arc::default();
        let (asked, answer) = (Arc::clone(&requests), Arc::new(answer) as Answer);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&asked), Arc::clone(&answer)));
            }
        });
        Self { folder, requests, serving: serving.abort_handle() }
    }

    /// Returns how an agent finds it.
    pub(super) fn agent(&self) -> Agent {
        let socket = self.folder.path().join("docker.sock");
        Agent {
            image: "image".into(),
            volume: "volume".into(),
            template: None,
            project: None,
            docker: Endpoint::at(format!("unix://{}", socket.display())),
        }
    }

    /// Returns the methods and paths of all requests until now.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns how many requests contain the words.
    pub(super) fn asked(&self, words: &str) -> usize {
        self.requests().iter().filter(|request| request.contains(words)).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Returns an answer with this text.
pub(super) fn json(text: &str) -> String {
    let length = text.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
    )
}

async fn serve(stream: UnixStream, asked: Arc<Mutex<Vec<String>>>, answer: Answer) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
            if first.is_empty() {
                first = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        if first.is_empty() {
            return;
        }
        let _ = stream.read_exact(&mut vec![0; length]).await;
        asked.lock().unwrap().push(first.clone());
        if stream.write_all(answer(&first).as_bytes()).await.is_err() {
            return;
        }
    }
}
