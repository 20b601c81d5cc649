//! The steps of a pass that concern the load balancer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daemon::error::chain;
use tokio::time::Instant;

use crate::board::Phase;
use crate::haproxy::{self, Applied, Error, Event, Outcome};
use crate::metrics::{AtStage, Metrics};
use crate::refusal::Trial;
use crate::wanted::Wanted;
use crate::worker::Worker;

impl Worker {
    pub(crate) async fn change_at_runtime(&mut self, wanted: &Wanted) {
        let Some(haproxy) = &mut self.haproxy else { return };
        match haproxy.apply_runtime(&wanted.text).await {
            Ok(Outcome::Applied(applied)) => {
                self.applied(&applied);
                self.verified = true;
                self.shared.metrics.reloads_avoided.get_or_create(&self.label).inc();
            }
            Ok(Outcome::NeedsReload(reason)) => {
                tracing::debug!(resource = self.resource.name, reason, "not at runtime");
                self.not_at_runtime = Some(Arc::clone(&wanted.text));
                self.reload_reason = Some(reason);
            }
            Err(error) => {
                // The file can be written meanwhile; the reload that follows is tried again.
                tracing::warn!(
                    resource = self.resource.name,
                    error = chain(&error),
                    "not at runtime"
                );
                self.not_at_runtime = Some(Arc::clone(&wanted.text));
            }
        }
    }

    /// Changes what needs no reload, while the rest of a text waits for its own.
    pub(crate) async fn change_servers(&mut self, wanted: &Wanted) {
        let Some(haproxy) = &mut self.haproxy else { return };
        match haproxy.apply_servers(&wanted.text).await {
            Ok(Applied { operations: 0, .. }) => {}
            Ok(applied) => {
                self.joining = applied.joining;
                let operations = &self.shared.metrics.runtime_operations;
                operations.get_or_create(&self.label).inc_by(applied.operations as u64);
                tracing::info!(
                    resource = self.resource.name,
                    operations = applied.operations,
                    "changed at runtime, ahead of a reload"
                );
            }
            Err(error) => {
                tracing::debug!(
                    resource = self.resource.name,
                    error = chain(&error),
                    "not ahead of the reload"
                );
            }
        }
    }

    pub(crate) async fn reload(&mut self, wanted: &Wanted) {
        let before = self.last_reload.replace(Instant::now());
        if let Some(haproxy) = &mut self.haproxy
            && haproxy.accepted() != Some(&wanted.text)
        {
            let reason = haproxy.needs_reload(&wanted.text).or(self.reload_reason.take());
            let reason = reason.unwrap_or_else(|| "the runtime socket did not answer".to_owned());
            // HAProxy may die in the middle of it; its next start reads the same file.
            let reloading =
                tokio::time::timeout(self.resource.timeout.0, haproxy.reload(&wanted.text));
            let Ok(reloaded) = reloading.await else {
                return self.fail_with("the reload did not end in time".to_owned());
            };
            self.verified = reloaded.is_ok();
            match reloaded {
                Ok(applied) => self.applied(&Applied { reloaded: Some(reason), ..applied }),
                Err(Error::Reload { lines }) => {
                    self.restore_file().await;
                    self.reject(Arc::clone(&wanted.text), &lines.join("\n")).await;
                    return self.leave_out_culprits(Trial::Reload).await;
                }
                Err(error @ Error::Unreachable { .. }) => {
                    // Nothing was reloaded, so nothing has to wait for that.
                    self.last_reload = before;
                    return self.fail(&error);
                }
                Err(error) => return self.fail(&error),
            }
        }
        for index in 0..self.others.len() {
            if self.others[index].1.as_ref() == Some(&wanted.text) {
                continue;
            }
            match self.act(self.others[index].0).await {
                Ok(()) => {
                    self.others[index].1 = Some(Arc::clone(&wanted.text));
                    self.shared.metrics.reloads.get_or_create(&self.label).inc();
                    let (action, _) = self.others[index].0.names();
                    tracing::info!(resource = self.resource.name, action, "reloaded");
                }
                Err(error) => return self.fail_with(format!("{error:#}")),
            }
        }
    }

    /// Compares what HAProxy runs with what it accepted, and repairs it.
    pub(crate) async fn verify(&mut self) {
        let Some(haproxy) = &mut self.haproxy else { return };
        match haproxy.drift().await {
            Ok(applied) => {
                self.verified = true;
                if applied.operations > 0 || applied.reloaded.is_some() {
                    tracing::warn!(resource = self.resource.name, "had drifted, and was repaired");
                    self.applied(&applied);
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    pub(crate) fn applied(&mut self, applied: &Applied) {
        self.joining = applied.joining;
        self.arrived();
        let Metrics { runtime_operations, reloads, .. } = &self.shared.metrics;
        runtime_operations.get_or_create(&self.label).inc_by(applied.operations as u64);
        match &applied.reloaded {
            Some(reason) => {
                reloads.get_or_create(&self.label).inc();
                tracing::info!(resource = self.resource.name, reason, "reloaded");
            }
            None if applied.operations > 0 => tracing::info!(
                resource = self.resource.name,
                operations = applied.operations,
                joining = applied.joining,
                leaving = applied.leaving,
                "changed at runtime"
            ),
            None => {}
        }
    }

    /// Notes that all that was rendered is live.
    pub(crate) fn arrived(&mut self) {
        for age in self.arrivals.live(SystemTime::now()) {
            self.observe("applied", age);
            self.latency = Some(age);
        }
    }

    /// Notes how long after its container's event an instance has come to a stage.
    pub(crate) fn observe(&self, stage: &'static str, age: Duration) {
        let stage = AtStage { resource: self.resource.name.clone(), stage };
        let histograms = &self.shared.metrics.event_to_serving;
        histograms.get_or_create(&stage).observe(age.as_secs_f64());
    }

    /// Takes in what HAProxy's background half did.
    pub(crate) fn progressed(&mut self, events: Result<Vec<Event>, haproxy::Error>) {
        let events = match events {
            Ok(events) => events,
            Err(error) => return self.fail(&error),
        };
        for event in events {
            match event {
                Event::Serving { backend, server, after } => {
                    tracing::info!(backend, server, ?after, "serving");
                    self.joining = self.joining.saturating_sub(1);
                    if let Some(age) = self.arrivals.serving(&server, SystemTime::now()) {
                        self.observe("first_check_passed", age);
                        self.latency = Some(age);
                    }
                }
                Event::Removed { backend, server, after, killed } => {
                    tracing::info!(backend, server, ?after, killed, "removed");
                }
            }
        }
        if let Some(Phase::Live(_)) = self.shared.board.phase(&self.resource.name) {
            self.report(Phase::Live(self.joining));
        }
    }
}
