//! The daemon's ear: a socket in the state folder, by which the other commands ask it and tell it things.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, FILES, Phase};

/// A pass that reloads takes long; an answer that takes longer is none.
const LIMIT: Duration = Duration::from_secs(40);
/// A request is a line; nobody needs a longer one.
const LONGEST: u64 = 4096;

/// What a worker can be asked or told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// How are you?
    Status,
    /// Let go what the guard holds.
    Accept,
    /// Go back to a generation: until something changes, or for good.
    Rollback {
        /// The generation.
        number: u64,
        /// Stay there, whatever changes.
        pin: bool,
    },
    /// Follow the source again.
    Unpin,
}

/// An order for one resource, or for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The resource; `None` = all.
    pub resource: Option<String>,
    /// What it shall do.
    pub order: Order,
}

/// What a worker answers: something to show, or why not.
pub type Answer = Result<serde_json::Value, String>;
/// An order on its way, and where the answer goes.
pub type Message = (Order, oneshot::Sender<Answer>);

/// The workers that take orders, by resource. Copies reach the same.
#[derive(Clone, Debug, Default)]
pub struct Workers(Arc<Mutex<BTreeMap<String, mpsc::Sender<Message>>>>);

impl Workers {
    /// Makes the worker of `resource` reachable, and returns what it is told.
    #[must_use]
    pub fn join(&self, resource: &str) -> mpsc::Receiver<Message> {
        let (sender, receiver) = mpsc::channel(1);
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.insert(resource.to_owned(), sender);
        receiver
    }

    /// Forgets the worker of `resource`, which has ended.
    pub(crate) fn leave(&self, resource: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
    }

    async fn tell(&self, request: Request) -> BTreeMap<String, Answer> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let meant = |name: &String| request.resource.as_ref().is_none_or(|wanted| wanted == name);
        let mut answers = BTreeMap::new();
        for (name, worker) in workers.into_iter().filter(|(name, _)| meant(name)) {
            let (sender, receiver) = oneshot::channel();
            let exchange = async {
                worker.send((request.order.clone(), sender)).await.ok()?;
                receiver.await.ok()
            };
            match tokio::time::timeout(LIMIT, exchange).await {
                Ok(Some(answer)) => drop(answers.insert(name, answer)),
                // Its resource is gone.
                Ok(None) => {}
                Err(_) => drop(answers.insert(name, Err("it is busy".to_owned()))),
            }
        }
        answers
    }
}

/// Returns where the daemon listens that keeps its state in `state_dir`.
#[must_use]
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("confd.sock")
}

/// Listens until `token` is cancelled. Only the daemon's own user is heard.
pub async fn serve(state_dir: &Path, of: (&Workers, &Board), token: CancellationToken) {
    let path = socket(state_dir);
    // What an earlier process left.
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the other commands cannot reach this daemon");
            return token.cancelled().await;
        }
    };
    let mut talks = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(talks.spawn(talk(stream, (of.0.clone(), of.1.clone())))),
                Err(error) => {
                    tracing::debug!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = talks.join_next() => {}
        }
    }
    drop(std::fs::remove_file(&path));
}

async fn talk(stream: UnixStream, (workers, board): (Workers, Board)) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut first = (&mut stream).take(LONGEST);
    let read = tokio::time::timeout(LIMIT, first.read_line(&mut line)).await;
    if !matches!(read, Ok(Ok(_))) {
        return;
    }
    let answers = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            let unmanned = match &request.order {
                Order::Status => unmanned(&board, request.resource.as_deref()),
                _ => BTreeMap::new(),
            };
            let mut answers = workers.tell(request).await;
            for (name, answer) in unmanned {
                answers.entry(name).or_insert(answer);
            }
            answers
        }
        Err(error) => BTreeMap::from([("confd".to_owned(), Err(error.to_string()))]),
    };
    let text = serde_json::to_string(&answers).expect("answers are plain data");
    // The asker may be gone.
    drop(stream.write_all(text.as_bytes()).await);
}

/// Returns what is known of resources without a worker of their own, and of files that are wrong while one works on.
fn unmanned(board: &Board, wanted: Option<&str>) -> BTreeMap<String, Answer> {
    let board = board.watch().borrow().clone();
    let meant = |name: &str| {
        let of = name.strip_suffix(FILES).unwrap_or(name);
        wanted.is_none_or(|wanted| wanted == of)
    };
    let said = board.into_iter().filter(|(name, _)| meant(name)).filter_map(|(name, phase)| {
        let answer = match phase {
            Phase::Failing(why) => Err(why),
            Phase::Waiting(why) => Ok(json!({ "phase": "waiting", "why": why })),
            // It stands for several, which speak for themselves.
            Phase::Live(_) if wanted.is_none() => return None,
            Phase::Live(_) => Ok(json!({ "phase": "live" })),
        };
        Some((name, answer))
    });
    said.collect()
}

/// Asks or tells the daemon that keeps its state in `state_dir`.
pub async fn ask(state_dir: &Path, request: &Request) -> anyhow::Result<BTreeMap<String, Answer>> {
    let path = socket(state_dir);
    let exchange = async {
        let mut stream = UnixStream::connect(&path).await?;
        let line = serde_json::to_string(request).expect("a request is plain data");
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let text = tokio::time::timeout(LIMIT * 2, exchange)
        .await
        .context("the daemon does not answer")?
        .with_context(|| format!("no daemon listens at {}", path.display()))?;
    serde_json::from_str(&text).context("the daemon's answer cannot be understood")
}
