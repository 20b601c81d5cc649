//! What Prometheus can ask confd.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds: from what the runtime socket needs to what an outage looks like.
const BUCKETS: [f64; 14] =
    [0.001, 0.002, 0.004, 0.007, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The template resource that a number is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfResource {
    /// Its name.
    pub resource: String,
}

/// How far an event has come, and for which resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AtStage {
    /// The resource's name.
    pub resource: String,
    /// `registered`, `seen`, `rendered`, `applied` or `first_check_passed`.
    pub stage: &'static str,
}

type PerResource = Family<OfResource, Counter>;

/// All numbers of a process; copies count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Questions that are watched.
    pub watches: Gauge,
    /// Answers of the source that were taken in.
    pub answers: Counter,
    /// Queries to Consul that failed.
    pub query_errors: Counter,
    /// Renderings that changed a text.
    pub renders: PerResource,
    /// Renderings that failed.
    pub render_errors: PerResource,
    /// Texts that were refused by their check or by the load balancer.
    pub rejections: PerResource,
    /// Operations on a runtime socket.
    pub runtime_operations: PerResource,
    /// Reloads of a load balancer.
    pub reloads: PerResource,
    /// Changes that went live without a reload.
    pub reloads_avoided: PerResource,
    /// Apply actions that failed and are tried again.
    pub apply_errors: PerResource,
    /// Services whose old instances are held.
    pub guard_holding: Family<OfResource, Gauge>,
    /// Instances that are left out because they come and go.
    pub damped: Family<OfResource, Gauge>,
    /// Holds begun.
    pub guard_holds: PerResource,
    /// Time from the container's event to a stage.
    pub event_to_serving: Family<AtStage, Histogram>,
    last_answer: Arc<AtomicU64>,
}

impl Metrics {
    /// Makes the numbers and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            watches: Gauge::default(),
            answers: Counter::default(),
            query_errors: Counter::default(),
            renders: PerResource::default(),
            render_errors: PerResource::default(),
            rejections: PerResource::default(),
            runtime_operations: PerResource::default(),
            reloads: PerResource::default(),
            reloads_avoided: PerResource::default(),
            apply_errors: PerResource::default(),
            guard_holding: Family::default(),
            damped: Family::default(),
            guard_holds: PerResource::default(),
            event_to_serving: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            last_answer: Arc::default(),
        };
        let confd = registry.sub_registry_with_prefix("confd");
        let m = metrics.clone();
        confd.register("watches", "Questions that are watched", m.watches);
        confd.register("answers", "Answers of the source that were taken in", m.answers);
        confd.register("query_errors", "Queries to the source that failed", m.query_errors);
        confd.register("renders", "Renderings that changed a text", m.renders);
        confd.register("render_errors", "Renderings that failed", m.render_errors);
        confd.register("rejections", "Texts refused by a check or a load balancer", m.rejections);
        confd.register("runtime_operations", "Runtime socket operations", m.runtime_operations);
        confd.register("reloads", "Reloads of load balancers", m.reloads);
        confd.register("reloads_avoided", "Changes live without a reload", m.reloads_avoided);
        confd.register("apply_errors", "Apply actions that failed", m.apply_errors);
        confd.register("guard_holding", "Services whose old instances are held", m.guard_holding);
        confd.register("damped", "Instances left out because they come and go", m.damped);
        confd.register("guard_holds", "Holds begun by the guard", m.guard_holds);
        confd.register(
            "event_to_serving_seconds",
            "Time from the container's event to a stage",
            m.event_to_serving,
        );
        confd.register_collector(Box::new(DataAge(Arc::clone(&metrics.last_answer))));
        metrics
    }

    /// Forgets the numbers of the resource `name`.
    pub fn forget(&self, name: &str) {
        let label = OfResource { resource: name.to_owned() };
        for counters in [
            &self.renders,
            &self.render_errors,
            &self.rejections,
            &self.runtime_operations,
            &self.reloads,
            &self.reloads_avoided,
            &self.apply_errors,
            &self.guard_holds,
        ] {
            counters.remove(&label);
        }
        for gauges in [&self.guard_holding, &self.damped] {
            gauges.remove(&label);
        }
        for stage in ["registered", "seen", "rendered", "applied", "first_check_passed"] {
            self.event_to_serving.remove(&AtStage { resource: name.to_owned(), stage });
        }
    }

    /// Notes that the source has just answered.
    pub fn answered(&self) {
        self.answers.inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.last_answer.store(millis, Ordering::Relaxed);
    }

    /// Returns how long ago the source answered last; `None` if it never did.
    #[must_use]
    pub fn data_age(&self) -> Option<Duration> {
        age(&self.last_answer)
    }
}

fn age(last_answer: &AtomicU64) -> Option<Duration> {
    let at = match last_answer.load(Ordering::Relaxed) {
        0 => return None,
        millis => UNIX_EPOCH + Duration::from_millis(millis),
    };
    Some(SystemTime::now().duration_since(at).unwrap_or_default())
}

/// Computed when it is asked for: an age has no value of its own.
#[derive(Debug)]
struct DataAge(Arc<AtomicU64>);

impl Collector for DataAge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(age) = age(&self.0) else { return Ok(()) };
        let gauge = ConstGauge::<f64>::new(age.as_secs_f64());
        let metric_encoder = encoder.encode_descriptor(
            "data_age_seconds",
            "Time since the source answered last",
            None,
            EncodeMetric::metric_type(&gauge),
        )?;
        gauge.encode(metric_encoder)
    }
}
