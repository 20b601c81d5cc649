//! What each load balancer serves, for others to read: a document per resource, in `confd status` and in Consul's keys.
//!
//! `ambassadors/<node>/<id>` is held by a session, so what a node that is gone has said of itself vanishes too. A
//! daemon that starts again goes on with the session of the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use consul::{Client, SessionRequest};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::ambassadors::Ambassador;
use crate::haproxy::{self, Parsed, ServerState, Servers};
use crate::pass::chain;
use crate::snapshot::Data;
use crate::text;
use crate::worker::Wanted;

/// The shortest time between two rounds, so that no key is written more than once a second.
const ROUND: Duration = Duration::from_secs(1);
/// How seldom to look without news: a server's health changes without us. Also keeps the session alive.
const REFRESH: Duration = Duration::from_secs(10);
/// How many times as long as a look takes it is until the next one without news: many load balancers, or many servers,
/// are looked at less often.
const REST: u32 = 50;
/// How old a document may get that does not change.
const OLDEST: Duration = Duration::from_mins(1);
/// Consul takes 512 kB per key; beyond half of that a backend is told in numbers.
const LARGEST: usize = 256 * 1024;
/// After how long an instance that is in no report any more is forgotten: no server drains for longer.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// Where the session is noted between two runs.
const SESSION_FILE: &str = "session";

/// What the workers know, by resource. Copies are the same.
#[derive(Clone, Default)]
pub struct Reports(Arc<(Mutex<BTreeMap<String, Report>>, Notify)>);

/// What a worker knows of its load balancer.
#[derive(Clone, Default)]
pub(crate) struct Report {
    pub(crate) resource: String,
    /// The ambassador that the resource is for, if it is one of several.
    pub(crate) ambassador: Option<Ambassador>,
    /// The runtime socket of its HAProxy, if it has one.
    pub(crate) runtime: Option<PathBuf>,
    /// The text that was accepted, and whose instances are in it.
    pub(crate) accepted: Option<Arc<Wanted>>,
    /// What HAProxy runs, if there is one.
    pub(crate) runs: Option<Arc<Parsed>>,
    pub(crate) generation: u64,
    pub(crate) applied_at: Option<SystemTime>,
    /// The instances that the source has no more and that are kept.
    pub(crate) held: BTreeSet<String>,
    /// The services that are left out, and their instances.
    pub(crate) left_out: Vec<(String, Vec<String>)>,
    pub(crate) error: Option<String>,
    pub(crate) event_to_serving: Option<Duration>,
}

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

impl Report {
    /// Asks its HAProxy, if it has one, what it does with each server.
    pub(crate) async fn servers(&self) -> Result<Servers, haproxy::Error> {
        match &self.runtime {
            Some(runtime) => haproxy::servers(runtime, self.runs.as_deref()).await,
            None => Ok(BTreeMap::new()),
        }
    }

    /// Returns the document: what it is, and what it does with each instance.
    pub(crate) fn document(
        &self,
        servers: Result<Servers, haproxy::Error>,
        names: &Names,
    ) -> Value {
        let (servers, unreachable) = match servers {
            Ok(servers) => (servers, None),
            Err(error) => (BTreeMap::new(), Some(chain(&error))),
        };
        let mut backends = self.backends(servers, names);
        for (service, instances) in &self.left_out {
            let states = instances.iter().map(|id| (id.clone(), "left_out")).collect();
            backends.insert(service.clone(), states);
        }
        json!({
            "id": self.id(),
            "resource": self.resource,
            "client": self.of_ambassador(|ambassador| &ambassador.client),
            "project": self.of_ambassador(|ambassador| &ambassador.project),
            "generation": self.generation,
            "hash": names.hash,
            "applied_at": self.applied_at.map(rfc3339),
            "event_to_serving_ms": self.event_to_serving.map(|time| time.as_secs_f64() * 1000.0),
            "error": self.error.clone().or(unreachable),
            "backends": told(backends),
        })
    }

    /// Returns the last part of the key: the ambassador's id, else the resource's name.
    fn id(&self) -> &str {
        self.ambassador.as_ref().map_or(&self.resource, |ambassador| &ambassador.id)
    }

    fn of_ambassador(&self, field: impl Fn(&Ambassador) -> &String) -> Option<&String> {
        self.ambassador.as_ref().map(field).filter(|value| !value.is_empty())
    }

    fn backends(
        &self,
        servers: Servers,
        names: &Names,
    ) -> BTreeMap<String, BTreeMap<String, &'static str>> {
        let states = |pool: BTreeMap<String, ServerState>| {
            let state = |(server, state): (String, ServerState)| {
                let id = names.ids.get(&server).map_or(server, |(id, _)| id.clone());
                let held = state == ServerState::Serving && self.held.contains(&id);
                (id, if held { "held" } else { state.word() })
            };
            pool.into_iter().map(state).collect()
        };
        servers.into_iter().map(|(backend, pool)| (backend, states(pool))).collect()
    }
}

/// What follows from the text that a report says is accepted: made anew only when that is another one.
#[derive(Clone, Default)]
pub(crate) struct Names {
    of: Option<Arc<Wanted>>,
    /// The text's digest.
    hash: Option<String>,
    /// The instances' own IDs, by the names that HAProxy knows them under, and since when they are not in the text any
    /// more.
    ids: BTreeMap<String, (String, Option<Instant>)>,
}

impl Names {
    /// Takes in a report, and forgets instances that were in none for long; who left lately may still drain.
    pub(crate) fn learn(&mut self, report: &Report) {
        let same = |(old, new): (&Arc<Wanted>, &Arc<Wanted>)| Arc::ptr_eq(old, new);
        if self.of.as_ref().zip(report.accepted.as_ref()).is_some_and(same) {
            return;
        }
        let now = Instant::now();
        self.ids.retain(|_, (_, left)| left.get_or_insert(now).elapsed() < FORGOTTEN);
        self.of.clone_from(&report.accepted);
        self.hash = self.of.as_ref().map(|wanted| text::sha256(wanted.text.as_bytes()));
        let Some(accepted) = &self.of else { return };
        let entries = accepted.asked.iter().filter_map(|question| accepted.snapshot.get(question));
        for entry in entries {
            let Data::Instances(instances) = &entry.data else { continue };
            let names = instances.iter();
            self.ids.extend(names.map(|one| (text::haproxy_name(&one.id), (one.id.clone(), None))));
        }
    }
}

/// Returns the backends as they are told: in numbers where they are too many.
fn told(backends: BTreeMap<String, BTreeMap<String, &'static str>>) -> Value {
    let all = json!(backends);
    if all.to_string().len() <= LARGEST {
        return all;
    }
    let counted = backends.into_iter().map(|(backend, states)| {
        let mut counts = BTreeMap::<&str, u64>::new();
        for state in states.into_values() {
            *counts.entry(state).or_default() += 1;
        }
        (backend, counts)
    });
    json!(counted.collect::<BTreeMap<_, _>>())
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Writes the documents into Consul's keys until `token` is cancelled. What fails is tried again, and said once.
pub(crate) async fn publish(
    reports: Reports,
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
    };
    let mut delays = daemon::backoff::delays();
    let mut failing = false;
    loop {
        let began = Instant::now();
        let pause = match publisher.round(&reports.all(), &data_age).await {
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
}

impl Publisher {
    async fn round(
        &mut self,
        reports: &BTreeMap<String, Report>,
        data_age: &impl Fn() -> Option<Duration>,
    ) -> Result<(), consul::Error> {
        if reports.is_empty() && self.written.is_empty() {
            return Ok(());
        }
        let node = match &self.node {
            Some(node) => node.clone(),
            None => self.client.agent_self().await?.node,
        };
        self.node = Some(node.clone());
        let session = self.session().await?;
        let key = |id: &str| format!("ambassadors/{node}/{id}");
        let reports: BTreeMap<&str, &Report> =
            reports.values().map(|report| (report.id(), report)).collect();
        for (id, report) in &reports {
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
        self.names.retain(|id, _| reports.contains_key(id.as_str()));
        let gone: Vec<String> =
            self.written.keys().filter(|id| !reports.contains_key(id.as_str())).cloned().collect();
        for id in gone {
            self.client.kv_delete(&key(&id)).await?;
            self.written.remove(&id);
            self.unreachable.remove(&id);
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
