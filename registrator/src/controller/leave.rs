//! The end: what becomes of the instances when we stop; and the state, printed on a signal.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::error::chain;
use futures_util::stream::{self, StreamExt};

use super::apply::AT_A_TIME;
use super::{Controller, LAST_PASS};
use crate::args::OnExit;
use crate::model::DRAINING;

/// How long leaving the instances as wanted may take: with the last pass and the journal less than
/// Docker waits before it kills.
const LEAVING: Duration = Duration::from_secs(4);
/// How long ending the session may take, which must not cost the instances their time.
const ENDING: Duration = Duration::from_secs(1);
/// How long the last entries of the journal may take.
const JOURNAL: Duration = Duration::from_secs(1);
/// How long Docker waits before it kills.
const DOCKER_WAITS: u64 = 10;
const _: () = assert!(LAST_PASS.as_secs() + LEAVING.as_secs() + JOURNAL.as_secs() < DOCKER_WAITS);

impl Controller {
    /// Leaves the instances as the flags say.
    pub(super) async fn leave(mut self) {
        if tokio::time::timeout(LEAVING, self.leave_instances()).await.is_err() {
            tracing::warn!("consul does not answer: not all is left as --on-exit says");
        }
        if tokio::time::timeout(JOURNAL, self.finish_journal()).await.is_err() {
            tracing::debug!("the journal's last entries are not written");
        }
    }

    async fn leave_instances(&mut self) {
        let on_exit = self.parts.keep.on_exit;
        let mut errors = Vec::new();
        match &mut self.keys {
            Some(keys) if on_exit == OnExit::Deregister => {
                if let Ok(ended) = tokio::time::timeout(ENDING, keys.end()).await {
                    errors.extend(ended.err());
                } else {
                    tracing::warn!("the keys are not removed, they go by themselves");
                }
            }
            Some(keys) => keys.caught_up().await,
            None => {}
        }
        if on_exit == OnExit::Keep {
            return;
        }
        if self.actual.is_none()
            && let Err(error) = self.ask().await
        {
            tracing::warn!(error = chain(&error), "nothing is left as --on-exit says");
            return;
        }
        let (client, host) = (&self.parts.client, &self.parts.node.name);
        let owned = self.actual.iter().flatten().filter(|(_, actual)| actual.is_owned_by(host));
        let reason = format!("{DRAINING}registrator stopped");
        let leave = async |id: &String| match on_exit {
            OnExit::Deregister => client.deregister(id).await,
            _ => client.maintenance(id, Some(&reason)).await,
        };
        let left: Vec<_> = stream::iter(owned.map(|(id, _)| leave(id)))
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        errors.extend(left.into_iter().filter_map(Result::err));
        if let Some(error) = errors.first() {
            let (failed, error) = (errors.len(), chain(error));
            tracing::warn!(failed, error, "not all instances were left as --on-exit says");
        }
    }

    /// Writes what the journal does not yet hold: it may have to be read first.
    async fn finish_journal(&mut self) {
        for _ in 0..3 {
            while let Some(done) = self.writing.join_next().await {
                self.journal_done(done);
            }
            self.write_journal();
        }
    }

    /// Prints the state.
    pub(super) fn dump(&self) {
        let state = serde_json::json!({
            "node": self.parts.node.name,
            "containers": self.containers.iter().map(|(id, known)| (id.clone(), known.summary()))
                .collect::<BTreeMap<_, _>>(),
            "desired": self.assembly.desired.values().map(|one| crate::list::shown(&one.registration))
                .collect::<Vec<_>>(),
            "actual": self.actual.as_ref().map(|all| all.keys().collect::<Vec<_>>()),
            "keys": self.keys.as_ref().map_or(0, super::keys::Keys::held),
            "ended": self.ended,
            "consul_away": self.consul_away.map(|since| since.elapsed().as_secs()),
            "looking_at": self.look.summary(),
        });
        println!("{state:#}");
    }
}
