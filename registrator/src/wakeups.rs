//! Where to look again: filled by whoever notices something, emptied by the controller.
//!
//! Wake-ups are merged, never queued: however many there are, none is lost and none waits behind
//! another.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::docker::{Event, What};

/// The events after which a signal that came before them no longer matters.
const ENDINGS: [&str; 6] = ["start", "die", "stop", "destroy", "cleanup", "remove"];

/// Wake-ups that nobody has looked at yet.
#[derive(Debug, Default)]
pub struct Wakeups {
    pending: Mutex<Pending>,
    noticed: Notify,
}

/// Where to look.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a place to look at, and any may be set")]
pub struct Pending {
    /// At all containers: events may have been missed.
    pub everywhere: bool,
    /// At what Consul has: it may have forgotten something.
    pub consul: bool,
    /// At these containers, by full ID.
    pub containers: BTreeMap<String, Hint>,
    /// At nothing in particular: Docker came or went.
    pub look: bool,
    /// Print the state.
    pub dump: bool,
}

/// What is known about a container to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The time of the latest event, in nanoseconds since 1970.
    pub time_nano: i64,
    /// The signal it was sent last, unless it ended or started since.
    pub killed: Option<String>,
    /// Whether its networks changed; of a container that does not run yet that says nothing.
    pub network: bool,
    /// Whether it started.
    pub started: bool,
    /// Whether anything else happened than a signal, a change of networks, or a start.
    pub changed: bool,
}

impl Pending {
    /// Adds an event.
    pub fn add(&mut self, event: Event) {
        let hint = self.containers.entry(event.container).or_default();
        hint.time_nano = hint.time_nano.max(event.time_nano);
        match event.what {
            What::Killed(signal) => hint.killed = Some(signal),
            What::Network => hint.network = true,
            What::Other(name) => {
                // Its health, its name or its limits say nothing about its end.
                if ENDINGS.contains(&name.as_str()) {
                    hint.killed = None;
                }
                if name == "start" {
                    hint.started = true;
                } else {
                    hint.changed = true;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Wakeups {
    /// Changes what is pending, and wakes the controller.
    pub fn wake(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.noticed.notify_one();
    }

    /// Waits until something is pending, and takes it. Nothing is lost if the wait is given up.
    pub async fn next(&self) -> Pending {
        loop {
            let noticed = self.noticed.notified();
            let pending =
                std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
            if !pending.is_empty() {
                return pending;
            }
            noticed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(container: &str, what: What, time_nano: i64) -> Event {
        Event { container: container.into(), what, time_nano }
    }

    #[tokio::test]
    async fn a_burst_while_nobody_looks_is_one_wake_up_that_names_every_container() {
        let wakeups = Wakeups::default();
        for number in 0..10_000 {
            let name = format!("c{}", number % 200);
            wakeups.wake(|pending| pending.add(event(&name, What::Other("start".into()), number)));
        }
        let pending = wakeups.next().await;
        assert_eq!(pending.containers.len(), 200);
        assert_eq!(pending.containers["c199"].time_nano, 9_999);
    }

    #[test]
    fn a_signal_is_remembered_until_the_container_ends_or_starts() {
        let mut pending = Pending::default();
        pending.add(event("c", What::Killed("15".into()), 1));
        pending.add(event("c", What::Network, 2));
        pending.add(event("c", What::Other("health_status: unhealthy".into()), 2));
        assert_eq!(pending.containers["c"].killed.as_deref(), Some("15"));
        pending.add(event("c", What::Other("die".into()), 3));
        assert_eq!(pending.containers["c"].killed, None);
        assert!(pending.containers["c"].network && pending.containers["c"].changed);
    }

    #[tokio::test]
    async fn a_wake_up_between_two_looks_is_not_lost() {
        let wakeups = Wakeups::default();
        wakeups.wake(|pending| pending.everywhere = true);
        assert!(wakeups.next().await.everywhere);
        wakeups.wake(|pending| pending.consul = true);
        assert_eq!(wakeups.next().await, Pending { consul: true, ..Pending::default() });
    }
}
