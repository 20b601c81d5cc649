//! Workers for each ambassador of this node: begun when one comes, ended when it goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::Supervisor;
use crate::ambassadors::Ambassador;
use crate::board::{FILES, Phase};
use crate::dependency::Dependency;
use crate::resource::{self, Resource};
use crate::snapshot::{Data, Entry, Snapshot};
use crate::state::State;

/// The list of ambassadors as it was last seen.
pub(super) struct Each {
    snapshot: watch::Receiver<Snapshot>,
    entry: Option<Arc<Entry>>,
}

impl Each {
    pub(super) fn new(snapshot: watch::Receiver<Snapshot>) -> Self {
        Self { snapshot, entry: None }
    }

    /// Waits for another list.
    pub(super) async fn changed(&mut self) {
        while self.snapshot.changed().await.is_ok() {
            let entry = self.snapshot.borrow_and_update().get(&Dependency::Ambassadors).cloned();
            let Some(entry) = entry else { continue };
            if self.entry.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &entry)) {
                self.entry = Some(entry);
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Returns the list; `None` while it is not known.
    fn list(&self) -> Option<Vec<Ambassador>> {
        match &self.entry.as_ref()?.data {
            Data::Ambassadors(list) => Some(list.clone()),
            _ => None,
        }
    }
}

impl Supervisor {
    /// Returns the resources that need a worker; those of ambassadors whose list is not known yet are as they were.
    pub(super) fn wanted(&self) -> Vec<Resource> {
        let list = self.each.list();
        let mut wanted = Vec::new();
        for resource in &self.resources {
            let name = &resource.name;
            if resource.for_each.is_none() {
                wanted.push(resource.clone());
                continue;
            }
            self.shared.watches.want(name, BTreeSet::from([Dependency::Ambassadors]));
            let Some(list) = &list else {
                let why = "docker has not said yet which ambassadors there are".to_owned();
                self.shared.board.report(name, Phase::Waiting(why));
                continue;
            };
            let mut problem = None;
            for ambassador in list {
                match resource.of(ambassador) {
                    Ok(own) => {
                        if self.shared.board.phase(&own.name).is_none() {
                            let why = "it has just begun".to_owned();
                            self.shared.board.report(&own.name, Phase::Waiting(why));
                        }
                        wanted.push(own);
                    }
                    Err(why) => {
                        let name = format!("{name}-{}", ambassador.id);
                        tracing::error!(resource = name, "{why}");
                        problem = Some(why);
                    }
                }
            }
            self.shared.board.report(name, problem.map_or(Phase::Live(0), Phase::Failing));
        }
        wanted
    }

    /// Ends what has nobody to work for any more.
    pub(super) async fn end(&mut self, wanted: &[Resource]) {
        let names: BTreeSet<&str> =
            wanted.iter().chain(&self.resources).map(|r| r.name.as_str()).collect();
        let stays = |name: &str| {
            let of = resource::parts(name).map(|(of, _)| of);
            let unknown = self.each.list().is_none() && of.is_some_and(|of| names.contains(of));
            // A file that is wrong is not a file that is gone.
            let broken =
                self.broken.contains(name) || of.is_some_and(|of| self.broken.contains(of));
            names.contains(name) || unknown || broken
        };
        let reported: Vec<String> = self.shared.board.watch().borrow().keys().cloned().collect();
        let own = |name: &&String| !name.ends_with(FILES) && *name != super::FOLDER;
        let reported = reported.iter().filter(own);
        let known = self.running.keys().chain(reported).chain(&self.each_names);
        let gone: BTreeSet<String> = known.filter(|name| !stays(name)).cloned().collect();
        // All at once, since each may take its time.
        for name in &gone {
            if let Some(running) = self.running.get(name) {
                running.token.cancel();
            }
        }
        for name in gone {
            if self.running.get(&name).is_some_and(|gone| gone.resource.ambassador.is_some()) {
                tracing::info!(resource = name, "its ambassador is gone");
            } else {
                tracing::info!(resource = name, "is gone: its destination stays as it is");
            }
            self.stop(&name).await;
            self.forget(&name);
        }
        self.each_names = self
            .resources
            .iter()
            .filter(|resource| resource.for_each.is_some())
            .map(|resource| resource.name.clone())
            .collect();
        self.clear();
    }

    /// Removes what is remembered of ambassadors that are gone, also since before the start.
    fn clear(&self) {
        let Some(list) = self.each.list() else { return };
        let living: BTreeSet<&str> = list.iter().map(|ambassador| ambassador.id.as_str()).collect();
        for name in State::names(&self.shared.state_dir).unwrap_or_default() {
            let Some((of, id)) = resource::parts(&name) else { continue };
            let gone = self.each_names.contains(of) && !living.contains(id);
            if gone
                && !self.running.contains_key(&name)
                && let Err(error) = State::remove(&self.shared.state_dir, &name)
            {
                tracing::warn!(resource = name, %error, "cannot forget a resource that is gone");
            }
        }
    }

    fn forget(&self, name: &str) {
        self.shared.watches.forget(name);
        self.shared.board.forget(name);
        self.shared.board.forget(&super::files(name));
        self.shared.reports.forget(name);
        self.shared.workers.leave(name);
        self.shared.metrics.forget(name);
    }
}
