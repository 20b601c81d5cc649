//! What an earlier run said of those who went while nobody looked: the session that holds it lives on.

use std::collections::BTreeMap;

use consul::Query;

use super::{Publisher, Report};
use crate::board::{Board, FILES, Phase};
use crate::resource;

impl Publisher {
    /// Removes the keys in `folder` that our session holds and that nobody is going to write again, once that is clear.
    pub(super) async fn remove_leftovers(
        &mut self,
        folder: &str,
        session: &str,
        (reports, board): (&BTreeMap<String, Report>, &Board),
    ) -> Result<(), consul::Error> {
        let board = board.watch().borrow().clone();
        if is_beginning(&board, reports) {
            return Ok(());
        }
        for pair in self.client.kv_list(folder, &Query::default()).await?.value {
            let id = pair.key.strip_prefix(folder).unwrap_or_default();
            let ours = pair.session.as_deref() == Some(session);
            if ours && !self.written.contains_key(id) && !is_known(&board, id) {
                self.client.kv_delete(&pair.key).await?;
                tracing::info!(key = pair.key, "removed what an earlier run has left");
            }
        }
        self.leftovers = None;
        Ok(())
    }
}

/// Tells whether more may come: a resource, or Docker who knows the ambassadors, has not said anything yet.
fn is_beginning(board: &BTreeMap<String, Phase>, reports: &BTreeMap<String, Report>) -> bool {
    let silent = |(name, phase): (&String, &Phase)| {
        matches!(phase, Phase::Waiting(_)) && !reports.contains_key(name)
    };
    board.iter().any(silent)
}

/// Tells whether `id` is that of a resource, or of an ambassador, however it is doing.
fn is_known(board: &BTreeMap<String, Phase>, id: &str) -> bool {
    let names = board.keys().map(|name| name.strip_suffix(FILES).unwrap_or(name));
    names.into_iter().any(|name| name == id || resource::parts(name).is_some_and(|of| of.1 == id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789ab";

    fn board(entries: &[(&str, Phase)]) -> BTreeMap<String, Phase> {
        entries.iter().map(|(name, phase)| ((*name).to_owned(), phase.clone())).collect()
    }

    #[test]
    fn whoever_has_a_file_or_an_ambassador_is_known_however_it_does() {
        let wrong = || Phase::Failing("wrong".to_owned());
        let board = board(&[
            ("web", Phase::Live(0)),
            ("db (files)", wrong()),
            (&format!("each-{ID}"), wrong()),
        ]);
        for id in ["web", "db", ID] {
            assert!(is_known(&board, id), "{id}");
        }
        for id in ["each", "gone", "0123456789ac"] {
            assert!(!is_known(&board, id), "{id}");
        }
    }

    #[test]
    fn nothing_is_taken_for_a_leftover_while_somebody_has_not_said_anything_yet() {
        let waiting = Phase::Waiting("docker".to_owned());
        let mut reports = BTreeMap::new();
        assert!(is_beginning(&board(&[("each", waiting.clone())]), &reports));
        assert!(!is_beginning(&board(&[("each", Phase::Live(0))]), &reports));
        // A template may wait for ever.
        reports.insert("web".to_owned(), Report::default());
        assert!(!is_beginning(&board(&[("web", waiting)]), &reports));
    }
}
