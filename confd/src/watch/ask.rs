//! One question: asked, its answer compared with the one before, and doubted where it lacks something.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use consul::Consistency;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::rules::Rules;
use super::{BIG, BIG_WINDOW, Watches};
use crate::dependency::Dependency;
use crate::snapshot::{Data, Doubt};
use crate::source::{self, Asking};

/// What a watch remembers from one answer to the next.
#[derive(Debug)]
pub(super) struct State {
    /// How the source's index is followed.
    pub(super) rules: Rules,
    /// Whether there was no answer the last time.
    pub(super) failed: bool,
    /// How long the last answer took that was not waited for.
    pub(super) took: Duration,
    /// When that was asked for.
    pub(super) asked: Instant,
}

impl State {
    pub(super) fn new() -> Self {
        Self { rules: Rules::default(), failed: false, took: Duration::ZERO, asked: Instant::now() }
    }
}

/// What a watch does after an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask again, waiting for news.
    Ask,
    /// Ask again after a while.
    Poll,
    /// Ask again after a short while.
    Soon,
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
        let may_wait = self.place(dependency);
        let index = state.rules.index().filter(|_| may_wait.is_some());
        let quick = match index {
            Some(_) => None,
            None => Some(self.quick.acquire().await.expect("never closed")),
        };
        let before = self.snapshot.borrow().get(dependency).cloned();
        let before = before.filter(|entry| !matches!(entry.data, Data::Refused(_)));
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
        let went_back = state.rules.heard(answer.index);
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
        let known = before.as_ref().map(|entry| (&entry.data, state.rules.newest())).or(remembered);
        if let Some((known, newest)) = known {
            if answer.value.shrank(known) {
                let asking = Asking { index: None, consistency: Consistency::Consistent };
                let _quick = self.quick.acquire().await.expect("never closed");
                answer = source::ask(&self.client, dependency, asking).await?;
                answer.value.share(known);
                if answer.value.shrank(known) {
                    doubt = state.rules.doubt(answer.index, newest, before.is_some());
                    if doubt.is_none() {
                        doubt = self.of_suspect_nodes(dependency, known, &answer.value).await?;
                    }
                }
            } else if !unchanged {
                doubt = None;
            }
        }
        state.rules.taken(answer.index);
        if let Some(index) = answer.index {
            self.memories.saw(dependency, index, went_back);
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
            None if source::is_of_catalog(dependency) => Next::Park,
            None => Next::Soon,
            // It waited for nothing: others may have more luck with its place.
            Some(_)
                if index.is_some()
                    && unchanged
                    && source::is_of_catalog(dependency)
                    && *self.parked.borrow() > 0 =>
            {
                Next::Park
            }
            Some(_) if state.rules.index().is_none() && !went_back => Next::Poll,
            Some(_) => Next::Ask,
        })
    }

    /// Returns a place among the questions that wait for news, if there is one. Some are kept for those that no sentinel
    /// watches over.
    fn place(&self, dependency: &Dependency) -> Option<SemaphorePermit<'_>> {
        if !source::blocks(dependency) {
            return None;
        }
        let places = source::queries(dependency);
        let kept = if source::is_of_catalog(dependency) {
            None
        } else {
            self.kept.try_acquire_many(places).ok()
        };
        kept.or_else(|| self.waiting.try_acquire_many(places).ok())
    }

    /// Looks whether what is missing from a consistent answer ran on nodes that are gone or failing.
    async fn of_suspect_nodes(
        &self,
        dependency: &Dependency,
        before: &Data,
        now: &Data,
    ) -> Result<Option<Doubt>, consul::Error> {
        let (Dependency::Service(service), Data::Instances(before), Data::Instances(now)) =
            (dependency, before, now)
        else {
            return Ok(None);
        };
        let here: BTreeSet<_> = now.iter().map(|i| (&i.node, &i.id)).collect();
        let nodes: BTreeSet<String> = before
            .iter()
            .filter(|i| !here.contains(&(&i.node, &i.id)))
            .map(|i| i.node.clone())
            .collect();
        let suspects = source::suspect_nodes(&self.client, &nodes, service.dc.as_deref()).await?;
        Ok((!suspects.is_empty()).then_some(Doubt::Nodes(suspects)))
    }
}
