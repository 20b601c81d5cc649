//! The last starts and stops on this node, newest last, as Consul keeps them. Pure: no I/O, no
//! async.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use consul::AgentService;
use serde_json::{Value, json};

use crate::model::{CONTAINER, EVENT_TIME};

/// How many are kept.
const LENGTH: usize = 100;

/// The journal of a node.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Value>,
    /// Whether it has changed since it was written.
    pub(crate) changed: bool,
}

impl Journal {
    /// Puts what an earlier run wrote before what happened since; what cannot be read is left out.
    pub(crate) fn load(&mut self, text: &[u8]) {
        let earlier: Vec<Value> = serde_json::from_slice(text).unwrap_or_default();
        for entry in earlier.into_iter().rev() {
            self.entries.push_front(entry);
        }
        self.cut();
    }

    /// Notes down that an instance came (`start`) or went (`stop`).
    pub(crate) fn note(&mut self, event: &str, service: &AgentService) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let meta = |key: &str| service.meta.get(key).cloned().unwrap_or_default();
        self.entries.push_back(json!({
            "time": now.as_millis().to_string(),
            "event": event,
            "service": service.name,
            "id": service.id,
            "address": service.address,
            "port": service.port,
            "container": meta(CONTAINER),
            "image": meta("image"),
            "event-time": meta(EVENT_TIME),
        }));
        self.cut();
        self.changed = true;
    }

    /// Returns the journal as it is written.
    #[must_use]
    pub(crate) fn text(&self) -> Vec<u8> {
        serde_json::to_vec(&self.entries).expect("values make JSON")
    }

    fn cut(&mut self) {
        let surplus = self.entries.len().saturating_sub(LENGTH);
        self.entries.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(count: u16) -> Journal {
        let mut journal = Journal::default();
        for port in 0..count {
            journal.note("start", &AgentService { port, ..AgentService::default() });
        }
        journal
    }

    fn ports(journal: &Journal) -> Vec<u64> {
        let entries: Vec<Value> = serde_json::from_slice(&journal.text()).unwrap();
        entries.iter().filter_map(|entry| entry["port"].as_u64()).collect()
    }

    #[test]
    fn the_last_hundred_are_kept_newest_last() {
        assert_eq!(ports(&noted(250)), (150..250).collect::<Vec<_>>());
    }

    #[test]
    fn an_earlier_run_is_continued() {
        let mut journal = noted(1);
        journal.load(&noted(99).text());
        assert_eq!(ports(&journal), (0..99).chain([0]).collect::<Vec<_>>());
        journal.load(b"nonsense");
        assert_eq!(ports(&journal).len(), 100);
    }
}
