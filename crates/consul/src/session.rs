//! Sessions: what holds keys, and lets go of them when a node dies.

use std::time::Duration;

use consulrs::api::session::requests::CreateSessionRequest;
use serde::Deserialize;

/// A session that lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Session {
    /// Its ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it was called by who created it.
    pub name: String,
    /// The node it belongs to.
    pub node: String,
}

/// A session to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    /// For people.
    pub name: String,
    /// The node it belongs to; `None` = the agent's.
    pub node: Option<String>,
    /// Ends unless renewed within this time, 10 s to a day; zero = never. Consul may take twice
    /// as long to notice.
    pub ttl: Duration,
    /// How long nobody else may take its keys after it ended; zero = they are free at once.
    pub lock_delay: Duration,
    /// Whether its keys are deleted when it ends, rather than only released.
    pub delete: bool,
    /// The checks of its node that end it when critical; `None` = Consul's `serfHealth`.
    pub node_checks: Option<Vec<String>>,
}

impl Default for SessionRequest {
    /// Keys that vanish with their node: delete, no delay, a TTL of 30 s.
    fn default() -> Self {
        Self {
            name: String::new(),
            node: None,
            ttl: Duration::from_secs(30),
            lock_delay: Duration::ZERO,
            delete: true,
            node_checks: None,
        }
    }
}

impl From<&SessionRequest> for CreateSessionRequest {
    fn from(session: &SessionRequest) -> Self {
        let seconds = |time: Duration| format!("{}ms", time.as_millis());
        Self {
            behavior: Some(if session.delete { "delete" } else { "release" }.into()),
            lock_delay: Some(seconds(session.lock_delay)),
            name: Some(session.name.clone()),
            node: session.node.clone(),
            node_checks: session.node_checks.clone(),
            ttl: (!session.ttl.is_zero()).then(|| seconds(session.ttl)),
            ..Self::default()
        }
    }
}
