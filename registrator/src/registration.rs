//! From an instance to what the agent is told about it. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;
use std::time::Duration;

use consul::{CheckDefinition, Registration, ServiceAddress, Status, Weights};
use services::{Check, CheckKind, Container, DockerHealth, Instance};

use crate::model::{Actual, Beat, Desired, EVENT_TIME, HASH};
use crate::units::spelled;

/// The name of the check that shows Docker's own health check, and whether a container is paused.
const DOCKER_HEALTH: &str = "docker-health";
/// How long Docker's word about a container holds when we are gone. Long: our own absence says
/// nothing about the container, and instances without such a check stay as they are, too.
const HEALTH_TTL: Duration = Duration::from_hours(30 * 24);

/// Returns how an instance must be registered. `event_time` is when the event happened that led
/// to it, in nanoseconds since 1970.
#[must_use]
pub(crate) fn desired(
    instance: Instance,
    container: &Container,
    event_time: Option<i64>,
) -> Desired {
    let id = instance.id;
    let mut beats = BTreeMap::new();
    let mut checks = Vec::new();
    for check in &instance.checks {
        let definition = definition(&id, &instance.service, check);
        if let CheckKind::Ttl { ttl } = check.kind {
            let beat = Beat { status: Status::Passing, note: "it runs".into(), ttl };
            beats.insert(definition.id.clone(), beat);
        }
        checks.push(definition);
    }
    if let Some(health) = &instance.docker_health {
        let (check, beat) = health_check(&id, health);
        beats.insert(check.id.clone(), beat);
        checks.push(check);
    }
    let mut meta = instance.meta;
    if let Some(time) = event_time {
        meta.insert(EVENT_TIME.into(), time.to_string());
    }
    let tagged = instance.tagged_addresses.into_iter();
    let weights = instance.weights;
    let mut desired = Desired {
        registration: Registration {
            id,
            name: instance.service,
            address: instance.address,
            port: instance.port,
            tags: instance.tags,
            meta,
            tagged_addresses: tagged
                .map(|(name, at)| (name, ServiceAddress { address: at.address, port: at.port }))
                .collect(),
            weights: Weights { passing: weights.passing, warning: weights.warning },
            enable_tag_override: instance.enable_tag_override,
            checks,
        },
        container: instance.container,
        since: container.started_at.clone(),
        maintenance: None,
        beats,
    };
    desired.seal();
    desired
}

/// Returns how an instance must be registered whose container (by its full ID) ended badly: as it is, but critical.
#[must_use]
pub(crate) fn tombstone(actual: &Actual, container: &str, since: &str, reason: &str) -> Desired {
    let service = actual.service.clone();
    let health = DockerHealth { status: services::Status::Critical, note: reason.to_owned() };
    let (check, beat) = health_check(&service.id, &health);
    let mut meta = service.meta;
    meta.remove(HASH);
    let mut desired = Desired {
        container: container.to_owned(),
        beats: BTreeMap::from([(check.id.clone(), beat)]),
        registration: Registration {
            id: service.id,
            name: service.name,
            address: service.address,
            port: service.port,
            tags: service.tags,
            meta,
            tagged_addresses: service.tagged_addresses,
            weights: service.weights,
            enable_tag_override: service.enable_tag_override,
            checks: vec![check],
        },
        since: since.to_owned(),
        maintenance: None,
    };
    desired.seal();
    desired
}

fn health_check(id: &str, health: &DockerHealth) -> (CheckDefinition, Beat) {
    let status = status(health.status);
    let check = CheckDefinition {
        id: format!("{id}:{DOCKER_HEALTH}"),
        name: DOCKER_HEALTH.into(),
        notes: "what Docker says about the container".into(),
        ttl: spelled(HEALTH_TTL),
        status: Some(status),
        ..CheckDefinition::default()
    };
    (check, Beat { status, note: health.note.clone(), ttl: HEALTH_TTL })
}

fn definition(id: &str, service: &str, check: &Check) -> CheckDefinition {
    let time = |time: Option<Duration>| time.map(spelled).unwrap_or_default();
    let mut definition = CheckDefinition {
        id: format!("{id}:{}", check.name),
        name: format!("{service} {}", check.name),
        interval: spelled(check.interval),
        timeout: time(check.timeout),
        status: check.initial_status.map(status),
        deregister_critical_service_after: time(check.deregister_after),
        ..CheckDefinition::default()
    };
    match check.kind.clone() {
        CheckKind::Http { url, method, headers, body, tls_skip_verify } => {
            definition.http = url;
            definition.method = method.unwrap_or_default();
            definition.header = headers;
            definition.body = body.unwrap_or_default();
            definition.tls_skip_verify = tls_skip_verify;
        }
        CheckKind::Tcp { target } => definition.tcp = target,
        CheckKind::Ttl { ttl } => {
            definition.ttl = spelled(ttl);
            definition.interval = String::new();
            definition.timeout = String::new();
            definition.status = Some(Status::Passing);
        }
        CheckKind::Grpc { target, tls, tls_skip_verify } => {
            definition.grpc = target;
            definition.grpc_use_tls = tls;
            definition.tls_skip_verify = tls_skip_verify;
        }
        CheckKind::Command { args } => definition.args = args,
    }
    definition
}

fn status(status: services::Status) -> Status {
    match status {
        services::Status::Passing => Status::Passing,
        services::Status::Warning => Status::Warning,
        services::Status::Critical => Status::Critical,
    }
}
