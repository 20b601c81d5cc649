//! What is counted, for Prometheus.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Times from half a millisecond to a minute, in seconds.
const TIMES: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// The labels of a counter of actions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ActionLabels {
    /// `register`, `deregister`, `maintain` or `beat`.
    pub(crate) action: &'static str,
    /// `ok` or `failed`.
    pub(crate) result: &'static str,
}

/// The label of a counter of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EventLabels {
    /// Docker's name of the event.
    pub(crate) event: String,
}

/// The label of what concerns one of the two that we speak to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PeerLabels {
    /// `docker` or `consul`.
    pub(crate) peer: &'static str,
}

/// All metrics; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Events read.
    pub(crate) events: Family<EventLabels, Counter>,
    /// Actions carried out.
    pub(crate) actions: Family<ActionLabels, Counter>,
    /// Passes.
    pub(crate) passes: Counter,
    /// How long passes took.
    pub(crate) pass_seconds: Histogram,
    /// From Docker's event to the catalog.
    pub(crate) latency: Histogram,
    /// Containers that run.
    pub(crate) containers: Gauge,
    /// Instances that are registered.
    pub(crate) instances: Gauge,
    /// Settings of containers that could not be used.
    pub(crate) warnings: Counter,
    /// Lists of containers that were not believed at once.
    pub(crate) guarded: Counter,
    /// Sessions of the key-value mirror that ended under us.
    pub(crate) sessions_lost: Counter,
    /// Whether Docker and Consul answer.
    pub(crate) up: Family<PeerLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            events: Family::default(),
            actions: Family::default(),
            passes: Counter::default(),
            pass_seconds: Histogram::new(TIMES),
            latency: Histogram::new(TIMES),
            containers: Gauge::default(),
            instances: Gauge::default(),
            warnings: Counter::default(),
            guarded: Counter::default(),
            sessions_lost: Counter::default(),
            up: Family::default(),
        }
    }
}

impl Metrics {
    /// Returns the registry that is served.
    #[must_use]
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("registrator");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "This program", version);
        registry.register("docker_events", "Events of Docker that may matter", self.events.clone());
        registry.register("actions", "Changes made in the agent", self.actions.clone());
        registry.register(
            "passes",
            "Comparisons of what is wanted with what is",
            self.passes.clone(),
        );
        registry.register("pass_seconds", "How long a pass took", self.pass_seconds.clone());
        registry.register(
            "event_to_catalog_seconds",
            "From Docker's event to the end of the registration",
            self.latency.clone(),
        );
        registry.register("containers", "Containers that run", self.containers.clone());
        registry.register("instances", "Instances that are registered", self.instances.clone());
        registry.register(
            "warnings",
            "Settings of containers that could not be used",
            self.warnings.clone(),
        );
        registry.register(
            "guarded_removals",
            "Times that Docker was asked again before much was removed",
            self.guarded.clone(),
        );
        registry.register(
            "sessions_lost",
            "Sessions of the mirror that ended under us",
            self.sessions_lost.clone(),
        );
        registry.register("up", "Whether Docker and Consul answer (1) or not (0)", self.up.clone());
        registry
    }

    /// Notes down whether `docker` or `consul` answers.
    pub(crate) fn set_up(&self, peer: &'static str, up: bool) {
        self.up.get_or_create(&PeerLabels { peer }).set(up.into());
    }

    /// Counts an action.
    pub(crate) fn count(&self, action: &'static str, done: bool) {
        let result = if done { "ok" } else { "failed" };
        self.actions.get_or_create(&ActionLabels { action, result }).inc();
    }

    /// Measures from an event, in nanoseconds since 1970, until now.
    pub(crate) fn observe_since(&self, time_nano: i64) {
        let event = Duration::from_nanos(u64::try_from(time_nano).unwrap_or_default());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(passed) = now.checked_sub(event) {
            self.latency.observe(passed.as_secs_f64());
        }
    }
}
