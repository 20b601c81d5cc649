//! Follows new instances from their container's event to serving. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dependency::Dependency;
use crate::instance::Instance;
use crate::snapshot::{Data, Entry, Snapshot};
use crate::text;

/// The meta key under which registrator notes the time of the container's event, in nanoseconds since 1970.
const EVENT_TIME: &str = "event-time";
/// The meta key under which it notes when it told Consul, in the same way.
const REGISTERED_TIME: &str = "registered-time";
/// What is older was not waiting for us: it ran before this process did.
const OLDEST: Duration = Duration::from_mins(1);

/// How long after its container's event a new instance came to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The agent was told; unknown where nobody noted it.
    pub(crate) registered: Option<Duration>,
    /// It was rendered.
    pub(crate) rendered: Duration,
}

/// New instances on their way to serving: the time of each one's event, by the name HAProxy knows it under.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Since when there is somebody to follow them: who was there before waited for nothing but us.
    began: SystemTime,
    /// What was rendered last.
    known: BTreeMap<Dependency, Arc<Entry>>,
    /// Rendered, and not yet live.
    rendered: BTreeMap<String, SystemTime>,
    /// Live, and maybe waiting for a first check.
    live: BTreeMap<String, SystemTime>,
    /// The names of those that a template may name by their IDs alone.
    by_id: BTreeMap<String, String>,
    /// Followed before: whoever comes back, from maintenance for instance, does not come from that event again.
    followed: BTreeSet<(SystemTime, String)>,
}

impl Arrivals {
    /// Follows what comes from now on.
    pub(crate) fn since(began: SystemTime) -> Self {
        Self {
            began,
            known: BTreeMap::new(),
            rendered: BTreeMap::new(),
            live: BTreeMap::new(),
            by_id: BTreeMap::new(),
            followed: BTreeSet::new(),
        }
    }

    /// Notes what has been rendered, and returns how far what is new among it has come, and when.
    ///
    /// Only answers that have changed are looked through: there may be fifty thousand instances in the others.
    pub(crate) fn rendered(
        &mut self,
        asked: &BTreeSet<Dependency>,
        snapshot: &Snapshot,
        now: SystemTime,
    ) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let mut new = BTreeSet::new();
        self.followed.retain(|(event, _)| age(*event, now) < OLDEST);
        for (question, entry) in asked.iter().filter_map(|d| Some((d, snapshot.get(d)?))) {
            let before = self.known.get(question);
            if before.is_some_and(|before| Arc::ptr_eq(before, entry)) {
                continue;
            }
            let before = before.map_or(&[][..], |before| instances(&before.data));
            let mut before: BTreeSet<_> = before.iter().map(|one| (&one.node, &one.id)).collect();
            for instance in instances(&entry.data) {
                let identity = (&instance.node, &instance.id);
                if !before.remove(&identity)
                    && let Some(event) = time(instance, EVENT_TIME)
                    && event >= self.began
                    && let Ok(age) = now.duration_since(event)
                    && age < OLDEST
                    && new.insert(identity)
                    && self.followed.insert((event, instance.key().into_owned()))
                {
                    let name = text::haproxy_name(&instance.key());
                    if instance.key() != instance.id {
                        self.by_id.insert(text::haproxy_name(&instance.id), name.clone());
                    }
                    self.rendered.insert(name, event);
                    let registered = time(instance, REGISTERED_TIME);
                    let registered = registered.and_then(|at| at.duration_since(event).ok());
                    arrivals.push(Arrival { registered, rendered: age });
                }
            }
            // Who went before it was live never arrives.
            for (node, id) in before {
                let name = text::haproxy_name(&consul::instance_key(node, id));
                self.rendered.remove(&name);
                self.live.remove(&name);
                self.by_id.remove(&text::haproxy_name(id));
            }
        }
        let entries = asked.iter().filter_map(|d| Some((d.clone(), Arc::clone(snapshot.get(d)?))));
        self.known = entries.collect();
        arrivals
    }

    /// Notes that what was rendered is live, and returns how long ago the events were.
    pub(crate) fn live(&mut self, now: SystemTime) -> Vec<Duration> {
        let arrived = std::mem::take(&mut self.rendered);
        let ages = arrived.values().map(|event| age(*event, now)).collect();
        self.live.extend(arrived);
        self.live.retain(|_, event| age(*event, now) < OLDEST);
        let (live, rendered) = (&self.live, &self.rendered);
        self.by_id.retain(|_, name| live.contains_key(name) || rendered.contains_key(name));
        ages
    }

    /// Notes that a server serves, and returns how long ago its event was.
    pub(crate) fn serving(&mut self, server: &str, now: SystemTime) -> Option<Duration> {
        let of = |name: &str| self.live.contains_key(name) || self.rendered.contains_key(name);
        let server = if of(server) { server } else { self.by_id.get(server)? };
        self.live
            .remove(server)
            .or_else(|| self.rendered.get(server).copied())
            .map(|at| age(at, now))
    }
}

fn age(event: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(event).unwrap_or_default()
}

fn instances(data: &Data) -> &[Arc<Instance>] {
    match data {
        Data::Instances(instances) => instances,
        _ => &[],
    }
}

fn time(instance: &Instance, key: &str) -> Option<SystemTime> {
    let nanos = instance.meta.get(key)?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependency::Service;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_new_instance_is_followed_once_from_its_event_to_serving() {
        let rng = Dependency::Service(Service::named("rng"));
        let asked = BTreeSet::from([rng.clone()]);
        let meta = BTreeMap::from([
            (EVENT_TIME.to_owned(), "1000000000000".to_owned()),
            (REGISTERED_TIME.to_owned(), "1000500000000".to_owned()),
        ]);
        let (id, node) = ("a b".into(), "n".into());
        let instance = Instance { id, node, meta: meta.into(), ..Instance::default() };
        let mut snapshot = Snapshot::default();
        snapshot.update(&rng.into(), Data::Instances(vec![instance.into()]), None, at(0));
        let mut arrivals = Arrivals::since(at(1000));
        let seconds = Duration::from_secs;
        let arrival = Arrival { registered: Some(seconds(1) / 2), rendered: seconds(1) };
        assert_eq!(arrivals.rendered(&asked, &snapshot, at(1001)), [arrival]);
        assert_eq!(arrivals.rendered(&asked, &snapshot, at(1002)), []);
        assert_eq!(arrivals.live(at(1003)), [seconds(3)]);
        assert_eq!(arrivals.live(at(1003)), []);
        let server = text::haproxy_name("a b");
        assert_eq!(arrivals.serving(&server, at(1004)), Some(seconds(4)));
        assert_eq!(arrivals.serving(&server, at(1005)), None);
        let mut late = Arrivals::since(at(1000));
        assert_eq!(late.rendered(&asked, &snapshot, at(2000)), [], "it is old");
        let mut young = Arrivals::since(at(1001));
        assert_eq!(young.rendered(&asked, &snapshot, at(1002)), [], "it was there before");
    }

    #[test]
    fn who_went_before_serving_or_comes_back_later_is_not_measured_from_the_old_event() {
        let rng = Dependency::Service(Service::named("rng"));
        let asked = BTreeSet::from([rng.clone()]);
        let meta = BTreeMap::from([(EVENT_TIME.to_owned(), "1000000000000".to_owned())]);
        let instance = Instance { id: "a".into(), meta: meta.into(), ..Instance::default() };
        let (there, gone) = (vec![Arc::new(instance)], Vec::new());
        let mut snapshot = Snapshot::default();
        let mut arrivals = Arrivals::since(at(0));
        let mut render = |arrivals: &mut Arrivals, instances: &[Arc<Instance>], second| {
            let data = Data::Instances(instances.to_vec());
            snapshot.update(&rng.clone().into(), data, None, at(second));
            arrivals.rendered(&asked, &snapshot, at(second)).len()
        };
        assert_eq!(render(&mut arrivals, &there, 1001), 1);
        assert_eq!(render(&mut arrivals, &gone, 1002), 0);
        assert_eq!(arrivals.live(at(1030)), [], "it was never live");
        assert_eq!(render(&mut arrivals, &there, 1031), 0, "it comes back from somewhere else");
        assert_eq!(arrivals.live(at(1032)), []);
    }
}
