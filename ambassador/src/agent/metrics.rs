//! What Prometheus can ask the agent.

use std::sync::Arc;
use std::time::Duration;

use daemon::listener::Readiness;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// Upper bounds in seconds: the engine needs about 0.2 for one start.
const BUCKETS: [f64; 9] = [0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];

/// All numbers of an agent, and whether it can do its work.
pub(crate) struct Metrics {
    clients: Gauge,
    ambassadors: Gauge,
    passes: Counter,
    failed_passes: Counter,
    created: Counter,
    removed: Counter,
    failed_actions: Counter,
    creation: Histogram,
    readiness: watch::Sender<Readiness>,
}

impl Metrics {
    /// Returns the numbers, all zero, and where they can be read.
    pub(crate) fn new() -> (Self, Arc<Registry>) {
        let waiting = Readiness::NotReady("docker has not answered yet".to_owned());
        let new = Self {
            clients: Gauge::default(),
            ambassadors: Gauge::default(),
            passes: Counter::default(),
            failed_passes: Counter::default(),
            created: Counter::default(),
            removed: Counter::default(),
            failed_actions: Counter::default(),
            creation: Histogram::new(BUCKETS),
            readiness: watch::Sender::new(waiting),
        };
        let mut registry = Registry::with_prefix("ambassador_agent");
        registry.register("clients", "Running clients that ask for upstreams", new.clients.clone());
        registry.register("ambassadors", "Ambassadors, at the last look", new.ambassadors.clone());
        registry.register("passes", "Looks at everything", new.passes.clone());
        registry.register("failed_passes", "Looks that failed", new.failed_passes.clone());
        registry.register("created", "Ambassadors created", new.created.clone());
        registry.register("removed", "Ambassadors removed", new.removed.clone());
        registry.register(
            "failed_actions",
            "Creations and removals that failed, ambassadors that ended soon after their start, and what confd could not be told; tried again",
            new.failed_actions.clone(),
        );
        registry.register(
            "creation_seconds",
            "How long it took to create and start an ambassador",
            new.creation.clone(),
        );
        (new, Arc::new(registry))
    }

    /// Returns whether the agent can do its work, from now on.
    pub(crate) fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    pub(crate) fn looked(&self, clients: usize, ambassadors: usize) {
        self.passes.inc();
        self.clients.set(i64::try_from(clients).unwrap_or(i64::MAX));
        self.ambassadors.set(i64::try_from(ambassadors).unwrap_or(i64::MAX));
        self.readiness.send_replace(Readiness::Ready);
    }

    pub(crate) fn failed(&self, why: &dyn std::fmt::Display) {
        self.failed_passes.inc();
        self.readiness.send_replace(Readiness::NotReady(why.to_string()));
    }

    pub(crate) fn created(&self, took: Duration) {
        self.created.inc();
        self.creation.observe(took.as_secs_f64());
    }

    pub(crate) fn removed(&self) {
        self.removed.inc();
    }

    pub(crate) fn action_failed(&self) {
        self.failed_actions.inc();
    }
}
