//! What there is to say of one load balancer, as a document.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daemon::error::chain;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ambassadors::Ambassador;
use crate::haproxy::{self, Parsed, ServerState, Servers};
use crate::snapshot::Data;
use crate::text;
use crate::wanted::Wanted;

/// Consul takes 512 kB per key; beyond half of that a backend is told in numbers.
const LARGEST: usize = 256 * 1024;
/// After how long an instance that is in no report any more is forgotten: no server drains for longer.
const FORGOTTEN: Duration = Duration::from_hours(1);

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
    /// The instances that the source has no more and that are kept, by their keys.
    pub(crate) held: BTreeSet<String>,
    /// The services that are left out, and the keys of their instances.
    pub(crate) left_out: Vec<(String, Vec<String>)>,
    pub(crate) error: Option<String>,
    pub(crate) event_to_serving: Option<Duration>,
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
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        let silent = unreachable.as_ref().is_some_and(haproxy::Error::may_serve);
        let unreachable = unreachable.map(|error| chain(&error));
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
            "load_balancer": self.runtime.is_some(),
            "silent": silent,
            "upstreams": self.ambassador.as_ref().map(|ambassador| &ambassador.upstreams),
            "backends": told(backends),
        })
    }

    /// Returns the last part of the key: the ambassador's id, else the resource's name.
    pub(super) fn id(&self) -> &str {
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
                let key = names.keys.get(&server).map_or(server, |(key, _)| key.clone());
                let held = state == ServerState::Serving && self.held.contains(&key);
                (key, if held { "held" } else { state.word() })
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
    /// What the instances are called ([`Instance::key`]), by the names that HAProxy knows them under, and since when they
    /// are not in the text any more.
    keys: BTreeMap<String, (String, Option<Instant>)>,
}

impl Names {
    /// Takes in a report, and forgets instances that were in none for long; who left lately may still drain.
    pub(crate) fn learn(&mut self, report: &Report) {
        let same = |(old, new): (&Arc<Wanted>, &Arc<Wanted>)| Arc::ptr_eq(old, new);
        if self.of.as_ref().zip(report.accepted.as_ref()).is_some_and(same) {
            return;
        }
        let now = Instant::now();
        self.keys.retain(|_, (_, left)| left.get_or_insert(now).elapsed() < FORGOTTEN);
        self.of.clone_from(&report.accepted);
        self.hash = self.of.as_ref().map(|wanted| text::sha256(wanted.text.as_bytes()));
        let Some(accepted) = &self.of else { return };
        let entries = accepted.asked.iter().filter_map(|question| accepted.snapshot.get(question));
        let instances: Vec<_> = entries
            .filter_map(|entry| match &entry.data {
                Data::Instances(instances) => Some(instances),
                _ => None,
            })
            .flatten()
            .collect();
        for one in &instances {
            let key = one.key().into_owned();
            self.keys.insert(text::haproxy_name(&key), (key, None));
        }
        // A template may name its servers by the IDs, too; but what is somebody's key stays that.
        for one in instances.iter().filter(|one| one.key() != one.id) {
            let key = one.key();
            let known = self.keys.entry(text::haproxy_name(&one.id));
            let (of, left) = known.or_insert_with(|| (key.clone().into_owned(), None));
            if *of == key {
                *left = None;
            }
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

pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependency::{Dependency, Service};
    use crate::instance::Instance;
    use crate::snapshot::Snapshot;

    #[test]
    fn servers_are_known_by_keys_and_by_ids_that_are_nobodys_key() {
        let instance = |node: &str, id: &str| {
            let (node, id) = (node.to_owned(), id.to_owned());
            Arc::new(Instance { id, node, ..Instance::default() })
        };
        let rng = Dependency::Service(Service::named("rng"));
        let all = vec![
            instance("n1", "n1:rng-1:80"),
            instance("n2", "n1:rng-1:80"),
            instance("n2", "own"),
        ];
        let mut snapshot = Snapshot::default();
        snapshot.update(&rng.clone().into(), Data::Instances(all), None, SystemTime::UNIX_EPOCH);
        let wanted = Wanted {
            text: "".into(),
            asked: [rng].into(),
            snapshot,
            template: None,
            left_out: BTreeSet::new(),
        };
        let report = Report { accepted: Some(Arc::new(wanted)), ..Report::default() };
        let mut names = Names::default();
        names.learn(&report);
        let key = |server: &str| names.keys.get(server).map(|(key, _)| key.as_str());
        assert_eq!(key("n1:rng-1:80"), Some("n1:rng-1:80"), "whatever a label says elsewhere");
        assert_eq!(key(":n2:n1:rng-1:80"), Some(":n2:n1:rng-1:80"));
        assert_eq!((key("own"), key(":n2:own")), (Some(":n2:own"), Some(":n2:own")));
    }
}
