//! What an instance is known by: stable across restarts, and never shared by two. Pure.

use std::collections::BTreeSet;

use crate::clean;
use crate::endpoints::Endpoint;
use crate::labels::{Settings, short};
use crate::model::{Instance, Warning};
use crate::ports::Protocol;
use crate::subject::Subject;
use crate::warnings::Warnings;

/// Returns an id that is not in `used`: the first instance of a container gets the plain one, and
/// others get as much behind it as tells them apart.
pub(crate) fn id(
    subject: &Subject<'_>,
    endpoint: &Endpoint,
    settings: &Settings<'_>,
    used: &BTreeSet<String>,
    warnings: &mut Warnings,
) -> String {
    let number = endpoint.port.map_or(endpoint.number, |port| port.number);
    let port = match endpoint.port.map(|port| port.protocol) {
        None | Some(Protocol::Tcp) => format!(":{number}"),
        Some(other) => format!(":{number}:{}", other.as_str()),
    };
    let given = settings.get("ID").and_then(|text| {
        let id = clean::id(text);
        if id.as_deref() != Some(text) {
            let problem = format!("{:?} was cleaned, or not used", short(text));
            warnings.add("SERVICE_ID", problem);
        }
        id
    });
    let by_port = given.as_ref().map_or_else(
        || clean::separated(&format!("{}:{}{port}", subject.node.name, subject.container.name)),
        |given| format!("{given}{port}"),
    );
    let by_binding = format!("{by_port}:{}:{}", endpoint.address, endpoint.number);
    let mut candidates = given.into_iter().chain([by_port, by_binding.clone()]);
    candidates.find(|id| !used.contains(id)).unwrap_or_else(|| numbered(&by_binding, used))
}

/// Gives every instance of a node an id of its own, whatever `SERVICE_ID` says on different containers.
///
/// The first of `instances` keeps an id; a later one gets its container's short id behind it. With
/// it comes, for each that was renamed, the container's name and a warning.
#[must_use]
pub fn unique(instances: Vec<Instance>) -> (Vec<Instance>, Vec<(String, Warning)>) {
    let mut used = BTreeSet::new();
    let mut warnings = Vec::new();
    let renamed = instances.into_iter().map(|mut instance| {
        if used.contains(&instance.id) {
            let short_id = instance.container.get(..12).unwrap_or(&instance.container);
            let id = format!("{}:{short_id}", instance.id);
            let id = if used.contains(&id) { numbered(&id, &used) } else { id };
            let problem = format!("{:?} is another container's; registered as {id:?}", instance.id);
            let warning = Warning { setting: "SERVICE_ID".to_owned(), problem };
            warnings.push((instance.container_name.clone(), warning));
            instance.id = id;
        }
        used.insert(instance.id.clone());
        instance
    });
    (renamed.collect(), warnings)
}

/// Returns `id` with a number behind it that is not in `used`.
fn numbered(id: &str, used: &BTreeSet<String>) -> String {
    // One more candidate than there are used ids, so one of them is free.
    let mut candidates = (2..=used.len() + 2).map(|number| format!("{id}:{number}"));
    candidates.find(|id| !used.contains(id)).expect("more candidates than used ids")
}
