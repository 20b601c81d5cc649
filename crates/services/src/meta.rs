//! The Meta of an instance: whose it is, and what labels add. Pure.

use std::collections::BTreeMap;

use crate::clean;
use crate::labels::{Settings, short};
use crate::ports::Port;
use crate::subject::Subject;
use crate::warnings::Warnings;

/// Consul takes 64 entries for a service; this many are left for labels beside those kept for us.
const LIMIT: usize = 48;
/// The keys that no label sets, whether or not they are there: who owns an instance hangs on them.
const OURS: [&str; 10] = [
    "managed-by",
    "registrator-host",
    "registrator-hash",
    "container",
    "container-port",
    "image",
    "compose-project",
    "compose-service",
    "event-time",
    "registered-time",
];

/// Returns the Meta of the instance at `port`.
pub(crate) fn meta(
    subject: &Subject<'_>,
    port: Option<Port>,
    settings: &Settings<'_>,
    warnings: &mut Warnings,
) -> BTreeMap<String, String> {
    let mut meta = BTreeMap::new();
    for (name, value) in settings.meta() {
        let setting = format!("SERVICE_{}", short(name));
        let name = name.to_lowercase();
        let Some(key) = clean::meta_key(&name) else {
            warnings.add(setting, "holds no letter or digit for a key; left out");
            continue;
        };
        if key != name {
            warnings.add(&setting, format!("registered as {key:?}"));
        }
        if meta.contains_key(&key) || OURS.contains(&key.as_str()) {
            warnings.add(setting, format!("{key:?} is already there; left out"));
            continue;
        }
        if meta.len() == LIMIT {
            let problem = format!("more than {LIMIT} entries of Meta; the rest is left out");
            warnings.add("SERVICE_*", problem);
            break;
        }
        let clean = clean::value(value.trim());
        if clean != value.trim() {
            let problem = format!("cut or cleaned to {} bytes of {}", clean.len(), value.len());
            warnings.add(setting, problem);
        }
        meta.insert(key, clean);
    }
    meta.extend(ours(subject, port));
    meta
}

fn ours(subject: &Subject<'_>, port: Option<Port>) -> impl Iterator<Item = (String, String)> {
    let (container, node) = (subject.container, subject.node);
    let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
    let all = [
        ("managed-by", "registrator".to_owned()),
        ("registrator-host", node.name.clone()),
        ("container", container.short_id().to_owned()),
        ("container-port", port.map(|port| port.number.to_string()).unwrap_or_default()),
        ("image", container.image.clone()),
        ("compose-project", label("com.docker.compose.project")),
        ("compose-service", label("com.docker.compose.service")),
    ];
    all.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), clean::value(&value)))
}
