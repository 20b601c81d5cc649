//! One question: asked, its answer compared with the one before, and doubted where it lacks something.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use consul::Consistency;
use tokio::time::Instant;

use super::{BIG, BIG_WINDOW, Watches};
use crate::dependency::Dependency;
use crate::snapshot::{Data, Doubt};
use crate::source::{self, Asking};

/// What a watch remembers from one answer to the next.
#[derive(Debug)]
pub(super) struct State {
    /// The index to wait with.
    pub(super) index: Option<u64>,
    /// The newest index that an answer which counted had.
    newest: Option<u64>,
    /// Whether there was no answer the last time.
    pub(super) failed: bool,
    /// How long the last answer took that was not waited for.
    pub(super) took: Duration,
    /// When that was asked for.
    pub(super) asked: Instant,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            index: None,
            newest: None,
            failed: false,
            took: Duration::ZERO,
            asked: Instant::now(),
        }
    }
}

/// What a watch does after an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask again, waiting for news.
    Ask,
    /// Ask again after a while.
    Poll,
    /// Ask again when a sentinel has seen something.
    Park,
}

impl Watches {
    /// Asks once, takes in the answer, and tells what to do next.
    pub(super) async fn ask(
        &self,
        dependency: &Arc<Dependency>,
        state: &mut State,
    ) -> Result<Next, consul::Error> {
        let may_wait =
            source::blocks(dependency).then(|| self.waiting.try_acquire().ok()).flatten();
        let index = state.index.filter(|_| may_wait.is_some());
        let quick = match index {
            Some(_) => None,
            None => Some(self.quick.acquire().await.expect("never closed")),
        };
        let before = self.snapshot.borrow().get(dependency).cloned();
        // A server that has just started answers stale reads from a catalog that is still empty. Later
        // answers are confirmed where they lack something; the first has nothing to be compared with.
        let consistency =
            if before.is_some() { Consistency::Stale } else { Consistency::Consistent };
        let asking = Asking { index, consistency };
        let started = Instant::now();
        let mut answer = source::ask(&self.client, dependency, asking).await?;
        // The first answer of a Consul that has just come back may have waited for a leader.
        if index.is_none() {
            let calm = before.is_some() && !state.failed;
            state.took = if calm { started.elapsed() } else { Duration::ZERO };
            (state.asked, state.failed) = (started, false);
        }
        drop(quick);
        let went_back = answer.index < state.index;
        state.index = consul::index::next(state.index, answer.index);
        if answer.value.len() >= BIG {
            let place = Arc::clone(&self.big).acquire_owned().await.expect("never closed");
            tokio::spawn(async move {
                tokio::time::sleep(BIG_WINDOW).await;
                drop(place);
            });
        }
        if let Some(before) = &before {
            answer.value.share(&before.data);
        }
        let unchanged = before.as_ref().is_some_and(|entry| entry.data == answer.value);
        let mut doubt = before.as_ref().and_then(|entry| entry.doubt.clone());
        let memory = if before.is_none() { self.memories.get(dependency) } else { None };
        let remembered = memory.as_ref().map(|memory| (&memory.0, memory.1));
        let known = before.as_ref().map(|entry| (&entry.data, state.newest)).or(remembered);
        if let Some((known, newest)) = known {
            if answer.value.shrank(known) {
                let asking = Asking { index: None, consistency: Consistency::Consistent };
                let _quick = self.quick.acquire().await.expect("never closed");
                answer = source::ask(&self.client, dependency, asking).await?;
                answer.value.share(known);
                if answer.value.shrank(known) {
                    doubt = self.doubt(known, &answer, newest).await?;
                }
            } else if !unchanged {
                doubt = None;
            }
        }
        state.newest = answer.index.or(state.newest);
        if let Some(index) = answer.index {
            self.memories.saw(index, went_back);
        }
        self.metrics.answered();
        self.snapshot.send_if_modified(|snapshot| {
            snapshot.update(dependency, answer.value, doubt, SystemTime::now())
        });
        if memory.is_some() {
            self.memories.forget(dependency);
        }
        Ok(match may_wait {
            _ if !source::blocks(dependency) => Next::Poll,
            None => Next::Park,
            // It waited for nothing: others may have more luck with its place.
            Some(_) if index.is_some() && unchanged && *self.parked.borrow() > 0 => Next::Park,
            Some(_) if state.index.is_none() && !went_back => Next::Poll,
            Some(_) => Next::Ask,
        })
    }

    /// Looks for a reason to doubt that what is missing from a consistent answer is really gone.
    async fn doubt(
        &self,
        before: &Data,
        answer: &consul::Answer<Data>,
        newest: Option<u64>,
    ) -> Result<Option<Doubt>, consul::Error> {
        if answer.index < newest {
            return Ok(Some(Doubt::Restarted));
        }
        let (Data::Instances(before), Data::Instances(now)) = (before, &answer.value) else {
            return Ok(None);
        };
        let here: BTreeSet<_> = now.iter().map(|i| (&i.node, &i.id)).collect();
        let nodes: BTreeSet<String> = before
            .iter()
            .filter(|i| !here.contains(&(&i.node, &i.id)))
            .map(|i| i.node.clone())
            .collect();
        let suspects = source::suspect_nodes(&self.client, &nodes).await?;
        Ok((!suspects.is_empty()).then_some(Doubt::Nodes(suspects)))
    }
}
