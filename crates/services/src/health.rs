//! What Docker itself knows of a container's health, and whether that counts. Pure.

use crate::clean;
use crate::container::{Container, Health};
use crate::labels::{Settings, short};
use crate::model::{DockerHealth, Status};
use crate::warnings::Warnings;

/// Consul cuts the output of a check at 4 KiB; some of it is for the state's name.
const OUTPUT: usize = 4096 - 16;

/// What a container's health means for its instances.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not registered before it is healthy.
    Wait,
    /// It is registered, with Docker's word if that counts.
    Register(Option<DockerHealth>),
}

/// Returns what `SERVICE_HEALTH`, `ignore` or `gate`, makes of what Docker says.
pub(crate) fn verdict(
    container: &Container,
    settings: &Settings<'_>,
    warnings: &mut Warnings,
) -> Verdict {
    let mode = settings.get("HEALTH").map(|text| text.trim().to_ascii_lowercase());
    if let Some(other) = mode.as_deref().filter(|mode| !matches!(*mode, "ignore" | "gate")) {
        let problem = format!("{:?} is neither ignore nor gate; not used", short(other));
        warnings.add("SERVICE_HEALTH", problem);
    }
    let probed = container.health.as_ref().map(|probe| probe.status);
    if mode.as_deref() == Some("gate") && probed.is_some_and(|status| status != Health::Healthy) {
        return Verdict::Wait;
    }
    if container.paused {
        let note = "paused".to_owned();
        return Verdict::Register(Some(DockerHealth { status: Status::Critical, note }));
    }
    let Some(probe) = &container.health else { return Verdict::Register(None) };
    let (status, word) = match probe.status {
        Health::Healthy => (Status::Passing, "healthy"),
        Health::Starting => (Status::Critical, "starting"),
        Health::Unhealthy => (Status::Critical, "unhealthy"),
    };
    if mode.as_deref() == Some("ignore") {
        return Verdict::Register(None);
    }
    let output = clean::limited(probe.output.trim(), OUTPUT);
    let colon = if output.is_empty() { "" } else { ": " };
    let note = format!("{word}{colon}{output}");
    Verdict::Register(Some(DockerHealth { status, note }))
}
