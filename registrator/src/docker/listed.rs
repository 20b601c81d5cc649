//! What the engine's list says of a container, and whether that has changed. Pure: no I/O, no clock, no async.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

/// A container as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its full ID.
    pub id: String,
    /// Whether it runs, paused or not.
    pub running: bool,
    /// Changes whenever something in the list does but for times and sizes.
    pub fingerprint: u64,
}

/// Returns a line of the list.
pub(super) fn summarise(summary: &Value) -> Listed {
    let mut fingerprint = 0_u64;
    for (key, value) in summary.as_object().into_iter().flatten() {
        let value = match (key.as_str(), value) {
            // "Up 3 minutes (healthy)", "Exited (1) 3 minutes ago": only what stands in brackets is a state.
            ("Status", Value::String(text)) => {
                let state = text.split_once('(').and_then(|(_, rest)| rest.split(')').next());
                fingerprint_of(&state.unwrap_or_default())
            }
            ("SizeRw" | "SizeRootFs", _) => 0,
            (_, value) => unordered(value),
        };
        fingerprint = fingerprint.wrapping_add(fingerprint_of(&(key, value)));
    }
    let text = |key: &str| summary.get(key).and_then(Value::as_str).unwrap_or_default();
    Listed {
        id: text("Id").to_owned(),
        running: matches!(text("State"), "running" | "paused"),
        fingerprint,
    }
}

fn fingerprint_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns a fingerprint that does not depend on the order of maps and lists: the engine lists
/// ports in another order each time.
fn unordered(value: &Value) -> u64 {
    match value {
        Value::Array(values) => {
            values.iter().map(unordered).fold(1, |sum, one| sum.wrapping_add(fingerprint_of(&one)))
        }
        Value::Object(fields) => fields.iter().fold(2, |sum, (key, value)| {
            sum.wrapping_add(fingerprint_of(&(key, unordered(value))))
        }),
        value => fingerprint_of(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_fingerprint_changes_with_health_but_not_with_time() {
        let print = |status: &str| {
            summarise(&json!({"Id": "c", "State": "running", "Status": status})).fingerprint
        };
        assert_eq!(print("Up 2 minutes (healthy)"), print("Up 3 minutes (healthy)"));
        assert_ne!(print("Up 2 minutes (healthy)"), print("Up 2 minutes (unhealthy)"));
        assert_eq!(print("Up 2 minutes"), print("Up 3 hours"));
        assert_eq!(print("Exited (1) 2 minutes ago"), print("Exited (1) 3 hours ago"));
        assert_ne!(print("Exited (1) 2 minutes ago"), print("Exited (0) 2 minutes ago"));
    }

    #[test]
    fn the_fingerprint_does_not_depend_on_the_order_of_ports() {
        let print = |ports: Value| summarise(&json!({"Id": "c", "Ports": ports})).fingerprint;
        let (a, b) = (json!({"PrivatePort": 80}), json!({"PrivatePort": 81}));
        assert_eq!(print(json!([a, b])), print(json!([b, a])));
        assert_ne!(print(json!([a, b])), print(json!([a, a])));
    }
}
