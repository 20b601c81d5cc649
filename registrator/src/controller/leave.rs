//! The end: what becomes of the instances when we stop; and the state, printed on a signal.

use std::collections::BTreeMap;

use super::{Controller, LAST_PASS, chain};
use crate::args::OnExit;
use crate::model::DRAINING;

impl Controller {
    /// Leaves the instances as the flags say.
    pub(super) async fn leave(mut self) {
        if self.actual.is_none() && self.parts.keep.on_exit != OnExit::Keep {
            match tokio::time::timeout(LAST_PASS, self.ask()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = chain(&error), "nothing is left as --on-exit says");
                }
                Err(_) => {
                    tracing::warn!("consul does not answer: nothing is left as --on-exit says");
                }
            }
        }
        let owned = self.actual.take().unwrap_or_default().into_iter();
        let owned: Vec<_> = owned
            .filter(|(_, actual)| actual.is_owned_by(&self.parts.node.name))
            .map(|(id, _)| id)
            .collect();
        let client = &self.parts.client;
        let left = match self.parts.keep.on_exit {
            OnExit::Keep => Ok(()),
            OnExit::Deregister => {
                async {
                    if let Some(mirror) = &mut self.parts.mirror {
                        mirror.end().await?;
                    }
                    for id in &owned {
                        client.deregister(id).await?;
                    }
                    Ok(())
                }
                .await
            }
            OnExit::Maintenance => {
                async {
                    for id in &owned {
                        client
                            .maintenance(id, Some(&format!("{DRAINING}registrator stopped")))
                            .await?;
                    }
                    Ok::<_, consul::Error>(())
                }
                .await
            }
        };
        if let Err(error) = left {
            tracing::warn!(error = chain(&error), "not all instances were left as --on-exit says");
        }
        if self.journal.changed {
            self.write_journal();
        }
        let _ = tokio::time::timeout(LAST_PASS, self.writing.join_all()).await;
    }

    /// Prints the state.
    pub(super) fn dump(&self) {
        let held = self.parts.mirror.as_ref().map_or(0, |mirror| mirror.held().len());
        let state = serde_json::json!({
            "node": self.parts.node.name,
            "containers": self.containers.iter().map(|(id, known)| (id.clone(), known.summary()))
                .collect::<BTreeMap<_, _>>(),
            "desired": self.desired.values().map(|one| crate::list::shown(&one.registration))
                .collect::<Vec<_>>(),
            "actual": self.actual.as_ref().map(|all| all.keys().collect::<Vec<_>>()),
            "keys": held,
            "ended": self.ended,
            "consul_away": self.consul_away.map(|since| since.elapsed().as_secs()),
            "looking_at": self.look.summary(),
        });
        println!("{state:#}");
    }
}
