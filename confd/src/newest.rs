//! How new it is what the source has told. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dependency::{Dependency, Service};

/// The newest index of the source. Each datacenter counts by itself: that of one says nothing of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// That of the agent's own datacenter.
    #[serde(default)]
    index: Option<u64>,
    /// Those of datacenters that were asked for by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    elsewhere: BTreeMap<String, u64>,
}

impl Newest {
    /// Returns that of the datacenter that answers a question.
    #[must_use]
    pub fn of(&self, question: &Dependency) -> Option<u64> {
        match datacenter(question) {
            None => self.index,
            Some(dc) => self.elsewhere.get(dc).copied(),
        }
    }

    /// Notes the index of an answer; one that `went_back` tells of a source that begins anew.
    pub(crate) fn saw(&mut self, question: &Dependency, index: u64, went_back: bool) {
        let known = self.of(question).filter(|_| !went_back);
        let index = index.max(known.unwrap_or_default());
        match datacenter(question) {
            None => self.index = Some(index),
            Some(dc) => drop(self.elsewhere.insert(dc.to_owned(), index)),
        }
    }
}

/// Returns the datacenter that a question names.
fn datacenter(question: &Dependency) -> Option<&str> {
    match question {
        Dependency::Service(Service { dc, .. })
        | Dependency::Services { dc }
        | Dependency::Nodes { dc }
        | Dependency::Node { dc, .. } => dc.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(dc: Option<&str>) -> Dependency {
        Dependency::Services { dc: dc.map(ToOwned::to_owned) }
    }

    #[test]
    fn the_index_of_one_datacenter_says_nothing_of_another() {
        let (own, far) = (services(None), services(Some("far")));
        let mut newest = Newest::default();
        newest.saw(&far, 9000, false);
        assert_eq!((newest.of(&own), newest.of(&far)), (None, Some(9000)));
        for (index, went_back, expected) in [(7, false, 7), (5, false, 7), (3, true, 3)] {
            newest.saw(&own, index, went_back);
            assert_eq!((newest.of(&own), newest.of(&far)), (Some(expected), Some(9000)));
        }
    }

    #[test]
    fn what_an_older_version_has_remembered_is_understood() {
        let read = |json: &str| serde_json::from_str::<Newest>(json).unwrap();
        assert_eq!(read(r#"{"index": 7}"#).of(&services(None)), Some(7));
        assert_eq!(read("{}"), Newest::default());
    }
}
