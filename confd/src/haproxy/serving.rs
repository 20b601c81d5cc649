//! What a running HAProxy does with each server, in one word.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::Config;
use super::runtime::Session;
use super::state::{Actual, State};
use super::{Error, Parsed};

/// What HAProxy does with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// It gets connections.
    Serving,
    /// It waits for its first passed check.
    Joining,
    /// It is wanted, and wanted to get nothing.
    Weightless,
    /// It keeps the connections it has, and gets no new ones.
    Draining,
    /// Its checks fail.
    Down,
    /// Somebody took it out.
    Maintenance,
}

impl ServerState {
    /// Returns the word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Joining => "joining",
            Self::Weightless => "weightless",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Maintenance => "maintenance",
        }
    }
}

/// Servers by backend and name.
pub(crate) type Servers = BTreeMap<String, BTreeMap<String, ServerState>>;

/// Asks the HAProxy at `runtime`, which runs `accepted`, what it does with each server.
pub(crate) async fn servers(runtime: &Path, accepted: Option<&Parsed>) -> Result<Servers, Error> {
    let state = Session::open(runtime).await?.state(None).await?;
    let nothing = Config::default();
    let config = accepted.map_or(Some(&nothing), |text| text.config.as_ref().ok());
    Ok(judged(&state, config))
}

/// Judges servers by what they do and by what was accepted; a server that is not in there any more drains.
fn judged(state: &State, accepted: Option<&Config>) -> Servers {
    let pools = state.0.iter().map(|(backend, pool)| {
        let line = |name: &str| accepted?.pools.get(backend)?.servers.get(name);
        let servers = pool.iter().map(|(name, actual)| {
            let weight = line(name).map(|line| line.weight().unwrap_or(1));
            let known = accepted.is_none() || line(name).is_some();
            (name.clone(), if known { judge(actual, weight) } else { ServerState::Draining })
        });
        (backend.clone(), servers.collect())
    });
    // HAProxy does not list the backends that have no server.
    let known = accepted.iter().flat_map(|config| config.pools.keys());
    let mut all: Servers = known.map(|backend| (backend.clone(), BTreeMap::new())).collect();
    all.extend(pools);
    all
}

fn judge(actual: &Actual, wanted_weight: Option<u16>) -> ServerState {
    match actual {
        Actual { maintenance: true, .. } => ServerState::Maintenance,
        Actual { draining: true, .. } => ServerState::Draining,
        Actual { weight: 0, .. } if wanted_weight == Some(0) => ServerState::Weightless,
        Actual { weight: 0, .. } => ServerState::Joining,
        Actual { up: true, .. } => ServerState::Serving,
        Actual { .. } => ServerState::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Health;
    use super::*;

    #[test]
    fn a_server_is_judged_by_what_it_does_and_by_what_is_wanted_of_it() {
        let config = Config::parse(
            "backend b\n    server a 192.0.2.1:1 weight 1\n    server z 192.0.2.2:1 weight 0\n",
        )
        .unwrap();
        let actual = Actual {
            id: 1,
            address: None,
            weight: 1,
            maintenance: false,
            draining: false,
            health: Health::Unknown,
            up: true,
            sessions: None,
        };
        let idle = Config::parse("backend idle\n").unwrap();
        let told = judged(&State(BTreeMap::new()), Some(&idle));
        assert!(told["idle"].is_empty(), "one without servers is there all the same");
        let judge = |name: &str, actual: Actual| {
            let pool = BTreeMap::from([(name.to_owned(), actual)]);
            let state = State(BTreeMap::from([("b".to_owned(), pool)]));
            judged(&state, Some(&config))["b"][name].word()
        };
        assert_eq!(judge("a", actual.clone()), "serving");
        assert_eq!(judge("gone", actual.clone()), "draining");
        assert_eq!(judge("a", Actual { weight: 0, ..actual.clone() }), "joining");
        assert_eq!(judge("z", Actual { weight: 0, ..actual.clone() }), "weightless");
        assert_eq!(judge("a", Actual { up: false, ..actual.clone() }), "down");
        assert_eq!(judge("a", Actual { maintenance: true, ..actual.clone() }), "maintenance");
        assert_eq!(judge("a", Actual { draining: true, ..actual }), "draining");
    }
}
