//! How each resource is doing, for readiness and for `--once`.

use std::collections::BTreeMap;

use daemon::listener::Readiness;
use tokio::sync::watch;

/// What follows a resource's name where the board shows that its files are wrong, whatever its worker says.
pub(crate) const FILES: &str = " (files)";

/// How a resource is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for data, or for its template to be content.
    Waiting(String),
    /// What is wanted is live, but for this many servers that wait for their first check.
    Live(usize),
    /// Something is wrong; what was live before still is.
    Failing(String),
}

/// How each resource is doing. Copies show the same.
#[derive(Clone, Debug, Default)]
pub struct Board(watch::Sender<BTreeMap<String, Phase>>);

impl Board {
    /// Notes how the resource `name` is doing.
    pub fn report(&self, name: &str, phase: Phase) {
        self.0.send_if_modified(|board| {
            let news = board.get(name) != Some(&phase);
            if news {
                board.insert(name.to_owned(), phase);
            }
            news
        });
    }

    /// Returns how the resource `name` is doing.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<Phase> {
        self.0.borrow().get(name).cloned()
    }

    /// Forgets the resource `name`.
    pub fn forget(&self, name: &str) {
        self.0.send_modify(|board| drop(board.remove(name)));
    }

    /// Returns all, as they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BTreeMap<String, Phase>> {
        self.0.subscribe()
    }
}

/// Returns whether confd does its work, given how its resources are doing.
#[must_use]
pub fn readiness(board: &BTreeMap<String, Phase>) -> Readiness {
    let problem = board.iter().find_map(|(name, phase)| match phase {
        Phase::Live(_) => None,
        Phase::Waiting(why) | Phase::Failing(why) => Some(format!("{name}: {why}")),
    });
    match problem {
        _ if board.is_empty() => Readiness::NotReady("no template resource was read yet".into()),
        Some(problem) => Readiness::NotReady(problem),
        None => Readiness::Ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confd_is_ready_when_every_resource_is_live() {
        let board = Board::default();
        let ready = || readiness(&board.watch().borrow());
        assert!(matches!(ready(), Readiness::NotReady(_)));
        board.report("a", Phase::Live(3));
        assert_eq!(ready(), Readiness::Ready);
        board.report("b", Phase::Failing("no disk".into()));
        assert_eq!(ready(), Readiness::NotReady("b: no disk".into()));
        board.forget("b");
        assert_eq!(ready(), Readiness::Ready);
    }
}
