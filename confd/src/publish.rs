//! What each load balancer serves, for others to read: a document per resource, in `confd status` and in Consul's keys.
//!
//! `ambassadors/<node>/<id>` is held by a session, so what a node that is gone has said of itself vanishes too. A
//! daemon that starts again goes on with the session of the one before, and removes what that said of those who are gone.

mod leftover;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use consul::{Client, SessionRequest};
use daemon::error::chain;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use report::rfc3339;

pub(crate) use report::{Names, Report};

/// The shortest time between two rounds, so that no key is written more than once a second.
const ROUND: Duration = Duration::from_secs(1);
/// How seldom to look without news: a server's health changes without us. Also keeps the session alive.
const REFRESH: Duration = Duration::from_secs(10);
/// How many times as long as a look takes it is until the next one without news: many load balancers, or many servers,
/// are looked at less often.
const REST: u32 = 50;
/// How old a document may get that does not change.
const OLDEST: Duration = Duration::from_mins(1);
/// How long after its start a daemon removes what is left of an earlier one: by then its workers have begun.
const BEGINNING: Duration = Duration::from_secs(5);
/// Where the session is noted between two runs.
const SESSION_FILE: &str = "session";

/// What the workers know, by resource. Copies are the same.
#[derive(Clone, Default)]
pub struct Reports(Arc<(Mutex<BTreeMap<String, Report>>, Notify)>);

impl Reports {
    /// Notes what there is to say of a resource.
    pub(crate) fn set(&self, report: Report) {
        self.lock().insert(report.resource.clone(), report);
        self.0.1.notify_one();
    }

    /// Forgets a resource.
    pub(crate) fn forget(&self, resource: &str) {
        self.lock().remove(resource);
        self.0.1.notify_one();
    }

    fn all(&self) -> BTreeMap<String, Report> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Report>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the documents into Consul's keys until `token` is cancelled. What fails is tried again, and said once.
pub(crate) async fn publish(
    (reports, board): (Reports, Board),
    client: Client,
    data_age: impl Fn() -> Option<Duration>,
    state_dir: PathBuf,
    token: CancellationToken,
) {
    let mut publisher = Publisher {
        client,
        file: state_dir.join(SESSION_FILE),
        session: None,
        node: None,
        names: BTreeMap::new(),
        written: BTreeMap::new(),
        unreachable: BTreeSet::new(),
        leftovers: Some(Instant::now() + BEGINNING),
    };
    let mut delays = daemon::backoff::delays();
    let mut failing = false;
    loop {
        let began = Instant::now();
        let pause = match publisher.round((&reports.all(), &board), &data_age).await {
            Ok(()) => {
                delays.reset();
                failing = false;
                ROUND
            }
            Err(error) => {
                let error = chain(&error);
                if failing {
                    tracing::debug!(error, "what is served is not published");
                } else {
                    tracing::warn!(error, "what is served is not published; will retry");
                }
                failing = true;
                delays.next_delay().max(ROUND)
            }
        };
        let look = (began.elapsed() * REST).clamp(ROUND, REFRESH);
        tokio::select! {
            () = token.cancelled() => return,
            () = sleep(pause) => {}
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = reports.0.1.notified() => {}
            () = sleep(if failing { Duration::ZERO } else { look.saturating_sub(ROUND) }) => {}
        }
    }
}

struct Publisher {
    client: Client,
    /// Where the session is noted.
    file: PathBuf,
    session: Option<(String, Instant)>,
    node: Option<String>,
    names: BTreeMap<String, Names>,
    /// What was written, and when, by id.
    written: BTreeMap<String, (Value, Instant)>,
    /// Whose HAProxy did not answer at the last look.
    unreachable: BTreeSet<String>,
    /// From when on what an earlier run left is removed; `None` once that is done.
    leftovers: Option<Instant>,
}

impl Publisher {
    async fn round(
        &mut self,
        (reports, board): (&BTreeMap<String, Report>, &Board),
        data_age: &impl Fn() -> Option<Duration>,
    ) -> Result<(), consul::Error> {
        let leftovers = self.leftovers.is_some_and(|from| from <= Instant::now());
        let idle = reports.is_empty() && self.written.is_empty();
        if idle && !(leftovers && read(&self.file).is_some()) {
            return Ok(());
        }
        let node = match &self.node {
            Some(node) => node.clone(),
            None => self.client.agent_self().await?.node,
        };
        self.node = Some(node.clone());
        let session = self.session().await?;
        let folder = format!("ambassadors/{node}/");
        let key = |id: &str| format!("{folder}{id}");
        let by_id: BTreeMap<&str, &Report> =
            reports.values().map(|report| (report.id(), report)).collect();
        for (id, report) in &by_id {
            let id = *id;
            let names = self.names.entry(id.to_owned()).or_default();
            names.learn(report);
            let servers = report.servers().await;
            // One that is between two processes serves all the same: what was said of it stands until the next look.
            if servers.is_ok() {
                self.unreachable.remove(id);
            } else if self.unreachable.insert(id.to_owned()) && self.written.contains_key(id) {
                continue;
            }
            let document = report.document(servers, names);
            let fresh = |(text, at): &(Value, Instant)| *text == document && at.elapsed() < OLDEST;
            if self.written.get(id).is_some_and(fresh) {
                continue;
            }
            let mut whole = document.clone();
            whole["node"] = json!(node);
            whole["published_at"] = json!(rfc3339(SystemTime::now()));
            whole["data_age_seconds"] = json!(data_age().map(|age| age.as_secs_f64()));
            if self.client.kv_acquire(&key(id), whole.to_string().as_bytes(), &session).await? {
                self.written.insert(id.to_owned(), (document, Instant::now()));
            }
        }
        self.names.retain(|id, _| by_id.contains_key(id.as_str()));
        let gone: Vec<String> =
            self.written.keys().filter(|id| !by_id.contains_key(id.as_str())).cloned().collect();
        for id in gone {
            self.client.kv_delete(&key(&id)).await?;
            self.written.remove(&id);
            self.unreachable.remove(&id);
        }
        if leftovers {
            self.remove_leftovers(&folder, &session, (reports, board)).await?;
        }
        Ok(())
    }

    /// Returns the session that holds the keys: the one in use, that of the run before, or a new one.
    async fn session(&mut self) -> Result<String, consul::Error> {
        let (known, renewed) = match &self.session {
            Some((id, renewed)) => (Some(id.clone()), Some(*renewed)),
            None => (read(&self.file), None),
        };
        if let Some(id) = known {
            if renewed.is_some_and(|renewed| renewed.elapsed() < REFRESH) {
                return Ok(id);
            }
            if self.client.session_renew(&id).await? {
                self.session = Some((id.clone(), Instant::now()));
                return Ok(id);
            }
        }
        let request = SessionRequest { name: "confd".into(), ..SessionRequest::default() };
        let id = self.client.session_create(&request).await?;
        // Without the note, the next run waits until this session has expired.
        if let Err(error) = std::fs::write(&self.file, &id) {
            tracing::debug!(%error, "the session is not noted");
        }
        self.written.clear();
        self.session = Some((id.clone(), Instant::now()));
        Ok(id)
    }
}

fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().filter(|id| !id.is_empty())
}
