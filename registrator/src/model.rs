//! What must be registered, and what is. Pure: no I/O, no clock, no async.

/// Tells whether `name` is what a service called `ours` was called before: the ancestor wrote names as they were given,
/// and a port also after a name that a label gave.
fn was_called(name: &str, ours: &str) -> bool {
    let label = services::dns_label(name).unwrap_or_default();
    services::is_called(name, ours) || services::is_called(ours, &label)
}

#[cfg(test)]
pub(crate) mod tests;

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
/// When the agent was told, in nanoseconds since 1970.
pub const REGISTERED_TIME: &str = "registered-time";
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

    /// Returns how it is registered with an agent that runs no commands.
    #[must_use]
    pub(crate) fn without_commands(&self) -> Self {
        let mut desired = self.clone();
        desired.registration.checks.retain(|check| check.args.is_empty());
        desired.seal();
        desired
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

    /// Tells whether it is somebody else's. What a registrator of another host registered is, for another container
    /// than `desired` is: two hosts claim one ID. The same container was ours under another name. What nobody marked is,
    /// unless it is what a registrator that marks nothing would have registered in place of `desired`: a label must not
    /// be enough to replace an operator's own service, and to remove it in the end.
    #[must_use]
    pub fn is_anothers(&self, host: &str, desired: &Desired) -> bool {
        let (meta, told) = (&self.service.meta, &desired.registration);
        if meta.get(MANAGED_BY).is_none_or(|by| by != OURSELVES) {
            let usual = told.id.strip_prefix(host).is_some_and(|rest| rest.starts_with(':'));
            return !usual && !was_called(&self.service.name, &told.name);
        }
        let wanted = &told.meta;
        let foreign = meta.get(HOST).is_some_and(|owner| owner != host);
        let container = meta.get(CONTAINER).filter(|container| !container.is_empty());
        foreign && (container.is_none() || container != wanted.get(CONTAINER))
    }

    /// Tells whether it is what `desired` says, states of checks and maintenance aside.
    #[must_use]
    pub fn matches(&self, desired: &Desired) -> bool {
        self.differences(desired).next().is_none()
    }

    /// Returns in what it is not what `desired` says, states of checks and maintenance aside.
    pub fn differences(&self, desired: &Desired) -> impl Iterator<Item = &'static str> {
        let (is, told) = (&self.service, &desired.registration);
        let meta = |service: &'_ BTreeMap<String, String>, other: &'_ BTreeMap<String, String>| {
            let told_apart =
                |key: &&String| !matches!(key.as_str(), EVENT_TIME | REGISTERED_TIME | HASH);
            let mut keys = service.keys().filter(told_apart);
            keys.all(|key| service.get(key) == other.get(key))
        };
        // The hash stands for what the agent does not tell: how its checks are made.
        let checks = is.meta.get(HASH) == told.meta.get(HASH)
            && told.checks.iter().all(|check| self.checks.contains_key(&check.id));
        let same = [
            ("name", is.name == told.name),
            ("address", is.address == told.address && is.port == told.port),
            ("weights", is.weights == told.weights),
            ("tags", is.tags == told.tags || told.enable_tag_override),
            ("meta", meta(&is.meta, &told.meta) && meta(&told.meta, &is.meta)),
            ("checks", checks),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(what, _)| what)
    }
}

/// Returns a number that changes with whatever is registered, but for what may differ between two
/// registrations that mean the same: the times, and the first state of a TTL check.
fn hash(registration: &Registration) -> String {
    let mut registration = registration.clone();
    registration.meta.remove(EVENT_TIME);
    registration.meta.remove(REGISTERED_TIME);
    for check in registration.checks.iter_mut().filter(|check| !check.ttl.is_empty()) {
        check.status = None;
    }
    let text = serde_json::to_vec(&registration).expect("plain fields make JSON");
    let digest = Sha256::digest(text);
    digest.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
