//! What must be registered, and what is. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consul::{AgentService, Check, Registration, Status};
use sha2::{Digest, Sha256};

/// Who registered an instance; the value is always [`OURSELVES`].
pub const MANAGED_BY: &str = "managed-by";
/// The value of [`MANAGED_BY`].
pub const OURSELVES: &str = "registrator";
/// On which host.
pub const HOST: &str = "registrator-host";
/// The container, by the first twelve characters of its ID.
pub const CONTAINER: &str = "container";
/// When the event happened that led to the registration, in nanoseconds since 1970.
pub const EVENT_TIME: &str = "event-time";
/// What was registered, as a number to compare.
pub const HASH: &str = "registrator-hash";
/// How every maintenance that we begin is explained.
pub const DRAINING: &str = "draining: ";

/// An instance as it must be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// What the agent is told.
    pub registration: Registration,
    /// The full ID of its container.
    pub container: String,
    /// When the container started, as the engine writes it.
    pub since: String,
    /// Why it is drained, if it is.
    pub maintenance: Option<String>,
    /// The states of its TTL checks, by the checks' IDs.
    pub beats: BTreeMap<String, Beat>,
}

/// The state of a TTL check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Its status.
    pub status: Status,
    /// Why, for people.
    pub note: String,
    /// How long it counts.
    pub ttl: Duration,
}

/// An instance as the agent has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actual {
    /// The instance itself.
    pub service: AgentService,
    /// Why it is in maintenance, if it is.
    pub maintenance: Option<String>,
    /// The states of its checks, by ID.
    pub checks: BTreeMap<String, State>,
    /// What it was found to match, so that it need not be compared again.
    pub told: Option<Arc<Desired>>,
}

/// The state of a check as the agent has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its status.
    pub status: Status,
    /// What was said about it last; empty where nothing was.
    pub output: String,
}

impl State {
    /// Tells whether it is what `beat` says.
    #[must_use]
    pub fn matches(&self, beat: &Beat) -> bool {
        self.status == beat.status && self.output == beat.note
    }
}

impl Desired {
    /// Notes down in the registration itself what it is, so that the agent's copy can be compared.
    pub fn seal(&mut self) {
        self.registration.meta.remove(HASH);
        let hash = hash(&self.registration);
        self.registration.meta.insert(HASH.to_owned(), hash);
    }

    /// Returns the worst of what we know about its health.
    #[must_use]
    pub fn health(&self) -> &'static str {
        match self.beats.values().map(|beat| beat.status).max() {
            _ if self.maintenance.is_some() => "maintenance",
            Some(status) => status.as_str(),
            None => Status::Passing.as_str(),
        }
    }
}

impl Actual {
    /// Returns what the agent has after it was told.
    #[must_use]
    pub fn of(desired: &Desired) -> Self {
        let told = &desired.registration;
        let checks = told.checks.iter().map(|check| {
            let status = check.status.unwrap_or(Status::Critical);
            (check.id.clone(), State { status, output: String::new() })
        });
        Self {
            service: AgentService {
                id: told.id.clone(),
                name: told.name.clone(),
                tags: told.tags.clone(),
                meta: told.meta.clone(),
                address: told.address.clone(),
                port: told.port,
                tagged_addresses: told.tagged_addresses.clone(),
                weights: told.weights,
                enable_tag_override: told.enable_tag_override,
                ..AgentService::default()
            },
            maintenance: None,
            checks: checks.collect(),
            told: None,
        }
    }

    /// Puts together what the agent says about services and about checks.
    #[must_use]
    pub fn all(
        services: BTreeMap<String, AgentService>,
        checks: BTreeMap<String, Check>,
    ) -> BTreeMap<String, Self> {
        let mut all: BTreeMap<_, _> = services
            .into_iter()
            .map(|(id, service)| {
                let (maintenance, checks, told) = (None, BTreeMap::new(), None);
                (id, Self { service, maintenance, checks, told })
            })
            .collect();
        for (id, check) in checks {
            if let Some(actual) = all.get_mut(&check.service_id) {
                if check.is_maintenance() {
                    actual.maintenance = Some(check.notes);
                } else {
                    let (status, output) = (check.status, check.output);
                    actual.checks.insert(id, State { status, output });
                }
            }
        }
        all
    }

    /// Tells whether it is ours, and `host`'s.
    #[must_use]
    pub fn is_owned_by(&self, host: &str) -> bool {
        let meta = &self.service.meta;
        meta.get(MANAGED_BY).is_some_and(|by| by == OURSELVES)
            && meta.get(HOST).is_some_and(|owner| owner == host)
    }

    /// Tells whether it is what `desired` says, states of checks and maintenance aside.
    #[must_use]
    pub fn matches(&self, desired: &Desired) -> bool {
        let (is, told) = (&self.service, &desired.registration);
        let without_time = |meta: &BTreeMap<String, String>| {
            let mut meta = meta.clone();
            meta.remove(EVENT_TIME);
            meta
        };
        // The hash stands for what the agent does not tell, such as how its checks are made.
        is.name == told.name
            && is.address == told.address
            && is.port == told.port
            && is.weights == told.weights
            && (is.tags == told.tags || told.enable_tag_override)
            && without_time(&is.meta) == without_time(&told.meta)
            && told.checks.iter().all(|check| self.checks.contains_key(&check.id))
    }
}

/// Returns a number that changes with whatever is registered, but for what may differ between two
/// registrations that mean the same: the time of the event, and the first state of a TTL check.
fn hash(registration: &Registration) -> String {
    let mut registration = registration.clone();
    registration.meta.remove(EVENT_TIME);
    for check in registration.checks.iter_mut().filter(|check| !check.ttl.is_empty()) {
        check.status = None;
    }
    let text = serde_json::to_vec(&registration).expect("plain fields make JSON");
    let digest = Sha256::digest(text);
    digest.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use consul::CheckDefinition;
    use proptest::prelude::*;

    /// The host of the tests.
    pub(crate) const HOST: &str = "node1";

    fn status() -> impl Strategy<Value = Status> {
        prop_oneof![Just(Status::Passing), Just(Status::Warning), Just(Status::Critical)]
    }

    fn reason() -> impl Strategy<Value = Option<String>> {
        prop_oneof![Just(None), Just(Some(format!("{DRAINING}stopping")))]
    }

    /// Few different values, so that two often agree in some of them.
    pub(crate) fn desired() -> impl Strategy<Value = Desired> {
        (0..6_u8, 1..3_u16, "[ab]{0,2}", reason(), prop::option::of((status(), "[xy]{0,1}")))
            .prop_map(|(id, port, tag, maintenance, beat)| {
                let id = format!("{HOST}:c{id}:80");
                let check = format!("{id}:docker-health");
                let meta = [(MANAGED_BY, OURSELVES), (super::HOST, HOST)];
                let ttl = Duration::from_mins(1);
                let beats: BTreeMap<_, _> = beat
                    .map(|(status, note)| (check.clone(), Beat { status, note, ttl }))
                    .into_iter()
                    .collect();
                let checks = beats.iter().map(|(id, beat)| CheckDefinition {
                    id: id.clone(),
                    ttl: "60s".into(),
                    status: Some(beat.status),
                    ..CheckDefinition::default()
                });
                let mut desired = Desired {
                    registration: Registration {
                        id,
                        name: "web".into(),
                        port,
                        tags: vec![tag],
                        meta: meta.map(|(key, value)| (key.into(), value.into())).into(),
                        checks: checks.collect(),
                        ..Registration::default()
                    },
                    container: "c".repeat(64),
                    since: String::new(),
                    maintenance,
                    beats,
                };
                desired.seal();
                desired
            })
    }

    /// Ours, another host's, or somebody else's, in any state.
    pub(crate) fn actual() -> impl Strategy<Value = Actual> {
        let reason = prop_oneof![reason(), Just(Some("upgrade".to_owned()))];
        (desired(), 0..4_u8, reason, status()).prop_map(|(desired, owner, maintenance, status)| {
            let mut actual = Actual::of(&desired);
            actual.maintenance = maintenance;
            actual.checks.values_mut().for_each(|known| known.status = status);
            match owner {
                0 => drop(actual.service.meta.insert(super::HOST.into(), "node2".into())),
                1 => drop(actual.service.meta.remove(MANAGED_BY)),
                _ => {}
            }
            actual
        })
    }

    proptest! {
        #[test]
        fn what_was_told_matches_what_was_wanted(desired in desired()) {
            prop_assert!(Actual::of(&desired).matches(&desired));
        }

        #[test]
        fn the_time_of_the_event_does_not_make_a_difference(desired in desired(), time: u64) {
            let mut later = desired.clone();
            later.registration.meta.insert(EVENT_TIME.into(), time.to_string());
            later.seal();
            prop_assert!(Actual::of(&desired).matches(&later));
        }
    }

    #[test]
    fn a_change_in_a_check_is_a_difference_although_the_agent_does_not_tell_it() {
        let check = |interval: &str| {
            let check = CheckDefinition {
                id: "c".into(),
                tcp: "h:80".into(),
                interval: interval.into(),
                ..CheckDefinition::default()
            };
            let registration = Registration { checks: vec![check], ..Registration::default() };
            let mut desired = Desired {
                registration,
                container: String::new(),
                since: String::new(),
                maintenance: None,
                beats: BTreeMap::new(),
            };
            desired.seal();
            desired
        };
        assert!(Actual::of(&check("10s")).matches(&check("10s")));
        assert!(!Actual::of(&check("10s")).matches(&check("20s")));
    }
}
