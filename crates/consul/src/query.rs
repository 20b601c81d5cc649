//! How a question is asked, and what comes with its answer.

use std::time::Duration;

use consulrs::api::Features;
use consulrs::api::features::{Blocking, ConsistencyMode};

/// How long Consul holds a blocking query that names no time of its own (Consul's default).
const DEFAULT_WAIT: Duration = Duration::from_mins(5);
/// What a request may take beyond the time it was told to wait: Consul's work, the network.
const GRACE: Duration = Duration::from_secs(10);
/// Consul lengthens a wait by up to this part of itself, so that clients do not come back in step.
const JITTER_PART: u32 = 16;

/// How to ask. The default asks once, of the leader, for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Waits until the answer is newer than this index; `None` answers at once.
    pub index: Option<u64>,
    /// How long to wait for something newer; zero = Consul's default of five minutes. Without
    /// an index it means nothing.
    pub wait: Duration,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// Sorts by network distance from this node; `_agent` is the agent's own.
    pub near: Option<String>,
    /// Asks another datacenter than the agent's.
    pub dc: Option<String>,
    /// Only instances with this tag.
    pub tag: Option<String>,
    /// Only instances whose checks all pass.
    pub passing: bool,
    /// An expression in Consul's filter language.
    pub filter: Option<String>,
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// The leader answers from what it knows: fresh, except for a moment after an election.
    #[default]
    Default,
    /// Any server answers: cheapest, works without a leader, may be behind.
    Stale,
    /// The leader first makes sure that it still is one.
    Consistent,
}

/// A value, and what Consul said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// `X-Consul-Index`, to be handed to [`crate::index::next`].
    pub index: Option<u64>,
    /// The value itself.
    pub value: T,
    /// Whether the server that answered knows a leader.
    pub known_leader: Option<bool>,
    /// How long ago that server heard from the leader.
    pub last_contact: Option<Duration>,
}

impl<T> Answer<T> {
    /// Replaces the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            index: self.index,
            value: change(self.value),
            known_leader: self.known_leader,
            last_contact: self.last_contact,
        }
    }
}

impl Query {
    /// Returns what consulrs knows how to put into a request.
    pub(crate) fn features(&self) -> Features {
        Features {
            blocking: self.index.map(|index| Blocking {
                index,
                wait: Some(format!("{}ms", self.wait().as_millis())),
            }),
            cached: None,
            filter: self.filter.clone(),
            mode: match self.consistency {
                Consistency::Default => None,
                Consistency::Stale => Some(ConsistencyMode::STALE),
                Consistency::Consistent => Some(ConsistencyMode::CONSISTENT),
            },
        }
    }

    /// Returns the query parameters that consulrs does not know.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let texts = [("near", &self.near), ("dc", &self.dc), ("tag", &self.tag)];
        let mut parameters: Vec<_> =
            texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        if self.passing {
            parameters.push(("passing", "1".into()));
        }
        parameters
    }

    /// Returns how long the whole request may take.
    pub(crate) fn limit(&self) -> Duration {
        match self.index {
            Some(_) => self.wait() + self.wait() / JITTER_PART + GRACE,
            None => GRACE,
        }
    }

    fn wait(&self) -> Duration {
        if self.wait.is_zero() { DEFAULT_WAIT } else { self.wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_take_its_wait_a_sixteenth_more_and_ten_seconds() {
        let asked = |index, seconds| {
            Query { index, wait: Duration::from_secs(seconds), ..Query::default() }.limit()
        };
        assert_eq!(asked(Some(5), 160), Duration::from_mins(3));
        assert_eq!(asked(Some(5), 0), Duration::from_millis(300_000 + 18_750 + 10_000));
        assert_eq!(asked(None, 160), Duration::from_secs(10));
    }
}
