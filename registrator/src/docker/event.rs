//! What the engine's events say, read from the fields that every engine sends. Pure: no I/O, no clock, no async.

use bollard::models::{EventMessage, EventMessageTypeEnum};

/// The events of a container that may change what is registered for it.
pub(super) const CONTAINER_EVENTS: [&str; 11] = [
    "start",
    "die",
    "kill",
    "stop",
    "pause",
    "unpause",
    "rename",
    "update",
    "destroy",
    "oom",
    "health_status",
];
/// The events of a network that do.
pub(super) const NETWORK_EVENTS: [&str; 2] = ["connect", "disconnect"];

/// An event of a container, or of a network about one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The container's full ID.
    pub container: String,
    /// What happened to it.
    pub what: What,
    /// When, in nanoseconds since 1970, by the engine's clock.
    pub time_nano: i64,
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was sent a signal.
    Killed(String),
    /// It joined or left a network.
    Network,
    /// Anything else, by Docker's name for it.
    Other(String),
}

impl What {
    /// Returns Docker's name for it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Killed(_) => "kill",
            Self::Network => "network",
            Self::Other(name) => name.split(':').next().unwrap_or(name),
        }
    }
}

/// Returns what an event says about a container; only fields that every engine sends are used.
pub(super) fn event(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let action = message.action?;
    let (container, what) = if message.typ == Some(EventMessageTypeEnum::NETWORK) {
        (attributes.remove("container")?, What::Network)
    } else if action == "kill" {
        (actor.id?, What::Killed(attributes.remove("signal").unwrap_or_default()))
    } else {
        (actor.id?, What::Other(action))
    };
    Some(Event { container, what, time_nano: message.time_nano.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(message: Value) -> Option<Event> {
        event(serde_json::from_value(message).unwrap())
    }

    #[test]
    fn events_are_read_from_the_fields_that_new_engines_still_send() {
        let kill = json!({"Type": "container", "Action": "kill", "timeNano": 5,
            "Actor": {"ID": "c1", "Attributes": {"signal": "15"}}});
        let killed =
            Event { container: "c1".into(), what: What::Killed("15".into()), time_nano: 5 };
        assert_eq!(read(kill), Some(killed));
        let connect = json!({"Type": "network", "Action": "connect",
            "Actor": {"ID": "n1", "Attributes": {"container": "c1"}}});
        assert_eq!(read(connect).unwrap().what, What::Network);
        let health = json!({"Type": "container", "Action": "health_status: healthy",
            "Actor": {"ID": "c1"}});
        assert_eq!(read(health).unwrap().what.name(), "health_status");
        assert_eq!(read(json!({"Type": "container", "Action": "start"})), None);
    }
}
