//! Questions that this node's engine answers, or nobody.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::Watches;
use crate::ambassadors;
use crate::dependency::Dependency;
use crate::local::{self, World};
use crate::snapshot::Data;

impl Watches {
    /// Notes why there will be no answer to a question that Consul does not take: then its template can be named. What was
    /// answered once stays, and the question is asked all the same.
    pub(super) fn refuse(&self, dependency: &Arc<Dependency>, why: &str) {
        let why = Data::Refused(crate::text::clean(why));
        self.snapshot.send_if_modified(|snapshot| {
            let known = snapshot.get(dependency).map(|entry| &entry.data);
            matches!(known, None | Some(Data::Refused(_)))
                && snapshot.update(dependency, why, None, SystemTime::now())
        });
    }

    /// Answers from what this node offers, whenever that changes.
    pub(super) async fn follow_local(
        &self,
        dependency: &Arc<Dependency>,
        mut world: watch::Receiver<Option<World>>,
    ) {
        if let Some(why) = local::unanswerable(dependency) {
            let data = Data::Refused(format!("with --source docker {why}"));
            self.snapshot.send_if_modified(|s| s.update(dependency, data, None, SystemTime::now()));
            return std::future::pending().await;
        }
        loop {
            let answer = world.borrow_and_update().as_ref().map(|world| world.answer(dependency));
            if let Some(data) = answer {
                self.metrics.answered();
                self.snapshot
                    .send_if_modified(|s| s.update(dependency, data, None, SystemTime::now()));
            }
            if world.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    pub(super) async fn follow_ambassadors(&self, dependency: &Arc<Dependency>) {
        let Some(engine) = self.docker.get() else { return std::future::pending().await };
        let take = |ambassadors| {
            let data = Data::Ambassadors(ambassadors);
            self.snapshot.send_if_modified(|s| s.update(dependency, data, None, SystemTime::now()));
        };
        match ambassadors::follow(engine, take).await {}
    }
}
