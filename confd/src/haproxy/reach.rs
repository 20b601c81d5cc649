//! Brings HAProxy from its actual state to a text's, over either socket.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::background::{Leaving, SOONEST};
use super::config::Config;
use super::diff::{self, Change, Key, Steps};
use super::master::{self, Reloaded};
use super::runtime::{Process, Session, Verdict};
use super::state::State;
use super::{Applied, CheckError, Error, Haproxy, Outcome, Parsed, check, options};

/// How long a check that only explains a failed reload may take.
const EXPLAIN: Duration = Duration::from_secs(10);
/// How long after a reload the old worker may still answer on the runtime socket.
const HANDOVER: Duration = Duration::from_secs(2);

impl Haproxy {
    /// Carries out what the state of some backends (`None` = all) lacks of a text.
    pub(super) async fn reach(
        &mut self,
        wanted: Arc<Parsed>,
        backends: Option<BTreeSet<String>>,
    ) -> Result<Outcome, Error> {
        // If nothing can be compared, the text is live since its reload.
        let Ok(config) = &wanted.config else { return Ok(Outcome::Applied(self.applied(0))) };
        let mut session = Session::open(&self.settings.runtime).await?;
        let state = session.state(backends.as_ref()).await?;
        if backends.is_none() {
            self.worker = Some(session.worker().await?);
        }
        let scope = match &backends {
            None => Cow::Borrowed(config),
            Some(backends) => Cow::Owned(config.only(backends)),
        };
        if let Some(reason) = self.stranger(&scope, &state) {
            return Ok(Outcome::NeedsReload(reason));
        }
        let steps = diff::steps(&scope, &state, &BTreeSet::new());
        if let Some(reason) = steps.impossible {
            return Ok(Outcome::NeedsReload(reason));
        }
        let verdicts = session.execute(&steps.ops).await?;
        let refused = steps.ops.iter().zip(&verdicts).find_map(|(op, verdict)| match verdict {
            Verdict::Refused(answer) => Some(format!("haproxy refused to {op}: {answer}")),
            Verdict::Done | Verdict::Busy => None,
        });
        if let Some(reason) = refused {
            return Ok(Outcome::NeedsReload(reason));
        }
        self.remember(backends.as_ref(), &steps, &verdicts);
        self.accept(wanted);
        Ok(Outcome::Applied(self.applied(steps.ops.len())))
    }

    /// Returns a wanted server that runs already without being ours, or with other options: it is not to be trusted.
    fn stranger(&self, wanted: &Config, state: &State) -> Option<String> {
        let accepted = self.accepted.as_ref()?.config.as_ref().ok()?;
        wanted.servers().find_map(|(key, server)| {
            let (backend, name) = &key;
            state.get(backend, name)?;
            let known = accepted.pools.get(backend).and_then(|pool| pool.servers.get(name));
            let known = known.or_else(|| self.leaving.get(&key)?.server.as_ref());
            let same = known.is_some_and(|known| match (&known.options, &server.options) {
                (Some(known), Some(wanted)) => options::same(known, wanted),
                _ => known.line == server.line,
            });
            (!same).then(|| {
                format!("server {backend}/{name} runs with options that are not the wanted ones")
            })
        })
    }

    /// Notes what is under way after a successful pass over some backends (`None` = all).
    fn remember(&mut self, scope: Option<&BTreeSet<String>>, steps: &Steps, verdicts: &[Verdict]) {
        let now = Instant::now();
        let of_scope = |key: &Key| scope.is_none_or(|backends| backends.contains(&key.0));
        self.joining.retain(|key, _| !of_scope(key) || steps.joining.contains(key));
        self.leaving.retain(|key, _| !of_scope(key) || steps.leaving.contains(key));
        for key in &steps.joining {
            self.joining.entry(key.clone()).or_insert(now);
        }
        let old = self.accepted.as_ref().and_then(|accepted| accepted.config.as_ref().ok());
        for key in &steps.leaving {
            let server = || old.and_then(|old| old.pools.get(&key.0)?.servers.get(&key.1)).cloned();
            let leaving = || Leaving { since: now, server: server(), killed: false };
            self.leaving.entry(key.clone()).or_insert_with(leaving);
        }
        for (op, verdict) in steps.ops.iter().zip(verdicts) {
            if op.change == Change::Delete && *verdict == Verdict::Done {
                self.leaving.remove(&(op.backend.clone(), op.server.clone()));
            }
        }
        self.schedule();
    }

    fn applied(&self, operations: usize) -> Applied {
        Applied {
            reloaded: None,
            operations,
            joining: self.joining.len(),
            leaving: self.leaving.len(),
        }
    }

    pub(super) async fn reload_because(
        &mut self,
        wanted: &str,
        reason: String,
    ) -> Result<Applied, Error> {
        let worker = match master::reload(&self.settings.master).await? {
            Reloaded::Accepted(worker) => worker,
            Reloaded::Rejected(lines) => {
                return Err(Error::Reload { lines: self.explain(lines).await });
            }
        };
        self.accept(self.read(wanted));
        // The new worker knows the file's servers only, all with their weight.
        self.joining.clear();
        self.leaving.clear();
        self.next = None;
        self.worker = self.wait_for(worker).await;
        Ok(Applied { reloaded: Some(reason), ..Applied::default() })
    }

    /// Waits until the runtime socket belongs to the new worker; commands to the old one would be lost.
    async fn wait_for(&self, worker: u32) -> Option<Process> {
        let end = Instant::now() + HANDOVER;
        while Instant::now() < end {
            if let Ok(process) = self.answering().await
                && process.pid == worker
            {
                return Some(process);
            }
            sleep(SOONEST).await;
        }
        tracing::warn!(worker, "the old haproxy worker still answers on the runtime socket");
        None
    }

    /// Tells whether the worker that read a file of ours still answers.
    pub(super) async fn is_same_worker(&self) -> bool {
        self.worker.is_some() && self.answering().await.ok() == self.worker
    }

    async fn answering(&self) -> Result<Process, Error> {
        Session::open(&self.settings.runtime).await?.worker().await
    }

    async fn explain(&self, lines: Vec<String>) -> Vec<String> {
        if !lines.is_empty() {
            return lines;
        }
        let files = self.settings.files.iter().filter(|file| file.exists()).cloned();
        match check(&self.settings.program, &files.collect::<Vec<_>>(), EXPLAIN).await {
            Err(CheckError::Rejected { lines }) => lines,
            Err(error) => vec![format!("the reload failed; {error}")],
            Ok(()) => vec![
                "the reload failed, though `haproxy -c` accepts the files: is an address in use?"
                    .to_owned(),
            ],
        }
    }
}
