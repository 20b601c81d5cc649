//! A pass: render, decide the next step, take it, until what is wanted is live.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::bisect::Search;
use crate::board::Phase;
use crate::dependency::Dependency;
use crate::haproxy::{self, Applied, Error, Event, Outcome, Plan};
use crate::metrics::{AtStage, Metrics};
use crate::persist;
use crate::resource::Action;
use crate::snapshot::Snapshot;
use crate::step::{self, Facts, Step};
use crate::template;
use crate::wait::next_reload;
use crate::worker::{Finished, LeftOut, Wanted, Worker};
use crate::{apply, disk};

impl Worker {
    /// Renders from the latest snapshot. Unless the template gives a text, what is wanted stays.
    pub(crate) fn render(&mut self) {
        self.collecting.acted(Instant::now());
        let snapshot = self.snapshot.borrow_and_update().clone();
        // Without a readable template, what was accepted last stays.
        let Some(templates) = self.templates.borrow_and_update().clone() else { return };
        let now = SystemTime::now();
        let snapshot = self.guarded(&snapshot, now);
        let snapshot = self.without_left_out(snapshot);
        let rendering = match templates.render(snapshot.clone(), now) {
            Ok(rendering) => rendering,
            Err(error) => {
                self.shared.metrics.render_errors.get_or_create(&self.label).inc();
                return self.report(Phase::Failing(error.to_string()));
            }
        };
        self.guard.note(&rendering.asked, &snapshot);
        self.asked.clone_from(&rendering.asked);
        // What is left out must be watched too, or its mending would not be noticed.
        let left_out = self.left_out.iter().flat_map(|left_out| left_out.asked.clone());
        let watched = rendering.asked.iter().cloned().chain(left_out).collect();
        self.shared.watches.want(&self.resource.name, watched);
        match rendering.outcome {
            template::Outcome::Rendered(text) => {
                if self.is_fixed(&text) {
                    return;
                }
                if self.wanted.as_ref().is_none_or(|wanted| *wanted.text != *text) {
                    self.shared.metrics.renders.get_or_create(&self.label).inc();
                    self.retry = None;
                }
                let rendered = SystemTime::now();
                for age in self.arrivals.rendered(&rendering.asked, &snapshot, rendered) {
                    let waited = rendered.duration_since(self.seen).unwrap_or_default();
                    self.observe("seen", age.saturating_sub(waited));
                    self.observe("rendered", age);
                }
                let wanted = Wanted { text: text.into(), asked: rendering.asked, snapshot };
                self.wanted = Some(Arc::new(wanted));
            }
            template::Outcome::NotReady(why) => self.report(Phase::Waiting(why)),
            template::Outcome::Pending(missing) => {
                let first = missing.first().map(ToString::to_string).unwrap_or_default();
                let why = format!("no answer yet to {} questions, such as: {first}", missing.len());
                if self.rendered() {
                    tracing::debug!(resource = self.resource.name, why, "waiting");
                } else {
                    self.shared.board.report(&self.resource.name, Phase::Waiting(why));
                }
            }
        }
    }

    /// Tells whether an earlier generation is wanted instead of `rendered`.
    fn is_fixed(&mut self, rendered: &str) -> bool {
        match &self.fixed {
            Some(fixed) if fixed.pinned || fixed.instead_of.as_deref() == Some(rendered) => true,
            _ => {
                self.fixed = None;
                false
            }
        }
    }

    /// Returns the snapshot with what the guard holds, and says what that is.
    fn guarded(&mut self, snapshot: &Snapshot, now: SystemTime) -> Snapshot {
        let before: BTreeSet<String> = self.guard.holds().keys().map(ToString::to_string).collect();
        let guarded = self.guard.filter(&self.asked, snapshot, &self.resource.guard, now);
        let holds = self.guard.holds();
        for (question, hold) in holds.iter().filter(|(q, _)| !before.contains(&q.to_string())) {
            self.shared.metrics.guard_holds.get_or_create(&self.label).inc();
            tracing::error!(
                resource = self.resource.name,
                %question,
                held = hold.held.len(),
                because = %hold.doubt,
                "holding what vanished at once; `confd accept` lets it go"
            );
        }
        let now: BTreeSet<String> = holds.keys().map(ToString::to_string).collect();
        for question in before.difference(&now) {
            tracing::info!(resource = self.resource.name, question, "no longer held");
        }
        let count = i64::try_from(holds.len()).unwrap_or(i64::MAX);
        self.shared.metrics.guard_holding.get_or_create(&self.label).set(count);
        guarded
    }

    /// Tells whether the template has given a text since the start.
    fn rendered(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| !wanted.asked.is_empty())
    }

    /// Takes steps until what is wanted is live, or something has to be waited for.
    pub(crate) async fn pass(&mut self) {
        if self.retry.is_some_and(|retry| retry > Instant::now()) {
            return;
        }
        // What is wanted may become another thing on the way, when a text is refused.
        while let Some(wanted) = self.wanted.clone() {
            match step::next(&self.facts(&wanted)) {
                Step::Done => return self.done(&wanted),
                Step::Refused => return,
                Step::Verify => self.verify().await,
                Step::Runtime => self.change_at_runtime(&wanted).await,
                Step::Replace => {
                    if self.job.is_some() {
                        // Its end starts another pass.
                        return;
                    }
                    self.start_replacing(&wanted);
                    if self.loaded(&wanted.text) {
                        return;
                    }
                    let job = self.job.take().expect("started above");
                    self.finished(job.await.ok()).await;
                }
                Step::Reload => {
                    let interval = self.resource.reload_min_interval.0;
                    match next_reload(self.last_reload, interval, self.jitter) {
                        Some(next) if next > Instant::now() => {
                            self.retry = Some(next);
                            return;
                        }
                        _ => self.reload(&wanted).await,
                    }
                }
            }
            if self.retry.is_some() {
                return;
            }
        }
    }

    /// Tells whether every apply action has loaded `text`.
    fn loaded(&self, text: &Arc<str>) -> bool {
        self.haproxy.as_ref().is_none_or(|haproxy| haproxy.accepted() == Some(text))
            && self.others.iter().all(|(_, loaded)| loaded.as_ref() == Some(text))
    }

    fn facts<'a>(&'a self, wanted: &'a Wanted) -> Facts<'a> {
        let text = &wanted.text;
        // Without an action, the file is all there is to do.
        let nothing_to_load = self.haproxy.is_none() && self.others.is_empty();
        let loaded = if nothing_to_load {
            self.on_disk.as_deref()
        } else {
            self.loaded(text).then_some(&**text)
        };
        let at_runtime = self.not_at_runtime.as_ref() != Some(text)
            && self.haproxy.as_ref().is_some_and(|haproxy| {
                haproxy.accepted().is_some_and(|accepted| accepted != &**text)
                    && !matches!(haproxy.plan(text), Plan::Reload(_))
            });
        Facts {
            wanted: text,
            on_disk: self.on_disk.as_deref(),
            loaded,
            refused: self.refused.as_deref(),
            verified: self.verified || self.haproxy.is_none(),
            at_runtime,
        }
    }

    /// Notes how long after its container's event an instance has come to a stage.
    fn observe(&self, stage: &'static str, age: Duration) {
        let stage = AtStage { resource: self.resource.name.clone(), stage };
        let histograms = &self.shared.metrics.event_to_serving;
        histograms.get_or_create(&stage).observe(age.as_secs_f64());
    }

    fn done(&mut self, wanted: &Wanted) {
        self.delays.reset();
        if self.rendered() {
            self.report(Phase::Live(self.joining));
        }
        if self.remembered.as_ref() != Some(&wanted.text) && self.job.is_none() {
            let (state, text) = (self.state.clone(), Arc::clone(&wanted.text));
            let inputs = wanted.snapshot.inputs(&wanted.asked);
            self.job = Some(tokio::spawn(async move {
                let result = persist::remember(state, Arc::clone(&text), inputs).await;
                Finished::Remembered(text, result)
            }));
        }
    }

    async fn change_at_runtime(&mut self, wanted: &Wanted) {
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

    fn start_replacing(&mut self, wanted: &Wanted) {
        let (destination, text) = (self.destination.clone(), Arc::clone(&wanted.text));
        self.job = Some(tokio::spawn(async move {
            let result = destination.replace(Arc::clone(&text)).await;
            Finished::Written(text, result)
        }));
    }

    /// Takes in what a background job did.
    pub(crate) async fn finished(&mut self, finished: Option<Finished>) {
        match finished {
            Some(Finished::Written(text, Ok(()))) => {
                tracing::debug!(resource = self.resource.name, dest = %self.resource.dest.display(), "written");
                self.on_disk = Some(text);
            }
            Some(Finished::Written(text, Err(error @ persist::Error::Rejected { .. }))) => {
                self.reject(text, &error.to_string()).await;
                self.leave_out_culprit().await;
            }
            Some(Finished::Written(_, Err(error))) => self.fail(&error),
            Some(Finished::Remembered(text, Ok(number))) => {
                tracing::debug!(resource = self.resource.name, generation = number, "accepted");
                self.remembered = Some(text);
            }
            Some(Finished::Remembered(_, Err(error))) => self.fail(&error),
            None => self.fail(&std::io::Error::other("a job was lost")),
        }
    }

    /// Gives up a text that is wrong, and goes back to the last one that was right.
    async fn reject(&mut self, text: Arc<str>, why: &str) {
        self.shared.metrics.rejections.get_or_create(&self.label).inc();
        self.report(Phase::Failing(why.to_owned()));
        let live = self.haproxy.as_ref().is_some_and(|haproxy| haproxy.accepted() == Some(&text));
        self.refused = Some(text);
        if let (true, Some(haproxy), Some(good)) = (live, &mut self.haproxy, &self.on_disk) {
            match haproxy.apply(good).await {
                Ok(applied) => self.applied(&applied),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// If one service alone makes the text wrong, goes on without it.
    async fn leave_out_culprit(&mut self) {
        // A second one at a time is a mistake of the template's, most likely.
        if self.left_out.is_some() {
            return;
        }
        let (Some(wanted), Some(templates)) =
            (self.wanted.clone(), self.templates.borrow().clone())
        else {
            return;
        };
        let names: BTreeSet<String> = wanted
            .asked
            .iter()
            .filter_map(|dependency| match dependency {
                Dependency::Service(service) => Some(service.name.clone()),
                _ => None,
            })
            .collect();
        let mut search = Search::new(names.into_iter().collect());
        while let Some(without) = search.question() {
            let rest = wanted.snapshot.without(without);
            let rendered = templates.render(rest, SystemTime::now()).map(|r| r.outcome);
            let passes = match rendered {
                Ok(template::Outcome::Rendered(text)) => {
                    self.destination.judge(&text).await.is_ok()
                }
                _ => false,
            };
            search.answer(passes);
        }
        let Some(name) = search.found().map(ToOwned::to_owned) else { return };
        tracing::error!(
            resource = self.resource.name,
            service = name,
            "left out: with it the text is refused"
        );
        let asked: BTreeSet<Dependency> = about(&name, &wanted.asked);
        let known = wanted.snapshot.known(&name, &asked);
        self.left_out = Some(LeftOut { name, asked, known });
        self.render();
    }

    /// Takes out the service that is left out, unless the source says something new about it.
    fn without_left_out(&mut self, snapshot: Snapshot) -> Snapshot {
        let Some(left_out) = &self.left_out else { return snapshot };
        if snapshot.known(&left_out.name, &left_out.asked) == left_out.known {
            return snapshot.without(std::slice::from_ref(&left_out.name));
        }
        tracing::info!(
            resource = self.resource.name,
            service = left_out.name,
            "has changed: it gets another chance"
        );
        self.left_out = None;
        snapshot
    }

    async fn reload(&mut self, wanted: &Wanted) {
        self.last_reload = Some(Instant::now());
        if let Some(haproxy) = &mut self.haproxy
            && haproxy.accepted() != Some(&wanted.text)
        {
            let reason = match (haproxy.plan(&wanted.text), self.reload_reason.take()) {
                (Plan::Reload(reason), _) | (_, Some(reason)) => reason,
                (_, None) => "the runtime socket did not answer".to_owned(),
            };
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
                    self.reject(Arc::clone(&wanted.text), &lines.join("\n")).await;
                    return self.restore_file().await;
                }
                Err(error) => return self.fail(&error),
            }
        }
        for index in 0..self.others.len() {
            if self.others[index].1.as_ref() == Some(&wanted.text) {
                continue;
            }
            let limit = self.resource.timeout.0;
            let result =
                match (self.others[index].0, &self.resource.reload_cmd, &self.resource.signal) {
                    (Action::ReloadCmd, Some(command), _) => {
                        apply::reload_cmd(command, limit).await
                    }
                    (Action::Signal, _, Some(signal)) => {
                        apply::signal(&signal.pid_file, signal.signal.0)
                    }
                    _ => Ok(()),
                };
            match result {
                Ok(()) => {
                    self.others[index].1 = Some(Arc::clone(&wanted.text));
                    self.shared.metrics.reloads.get_or_create(&self.label).inc();
                    tracing::info!(resource = self.resource.name, action = ?self.others[index].0, "reloaded");
                }
                Err(error) => return self.fail_with(format!("{error:#}")),
            }
        }
    }

    /// A text that HAProxy refused to load must not be what it finds when it starts again.
    async fn restore_file(&mut self) {
        let accepted = self.haproxy.as_ref().and_then(|h| h.accepted()).map(ToOwned::to_owned);
        let Some(accepted) = accepted else { return };
        let text: Arc<str> = accepted.into();
        match self.destination.clone().replace(Arc::clone(&text)).await {
            Ok(()) => self.on_disk = Some(text),
            Err(error) => self.fail(&error),
        }
    }

    fn applied(&mut self, applied: &Applied) {
        self.joining = applied.joining;
        for age in self.arrivals.live(SystemTime::now()) {
            self.observe("applied", age);
        }
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

    /// Looks at the disk, and has the load balancer looked at by the next pass.
    pub(crate) fn compare(&mut self) {
        match disk::read(&self.resource.dest) {
            Ok(text) if text.as_deref() != self.on_disk.as_deref() => {
                tracing::warn!(dest = %self.resource.dest.display(), "was changed by someone else");
                self.on_disk = text.map(Into::into);
            }
            Ok(_) => {}
            Err(error) => self.fail(&error),
        }
        // Something that was refused because of its surroundings may pass now.
        self.refused = None;
        self.not_at_runtime = None;
        self.verified = false;
    }

    /// Compares what HAProxy runs with what it accepted, and repairs it.
    async fn verify(&mut self) {
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

    /// Notes a failure of this moment: the same is tried again.
    fn fail(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.fail_with(chain(error));
    }

    fn fail_with(&mut self, why: String) {
        self.shared.metrics.apply_errors.get_or_create(&self.label).inc();
        self.retry = Some(Instant::now() + self.delays.next_delay());
        self.report(Phase::Failing(why));
    }
}

/// Returns those of `asked` that are about the instances of one service.
fn about(name: &str, asked: &BTreeSet<Dependency>) -> BTreeSet<Dependency> {
    let about = |d: &&Dependency| matches!(d, Dependency::Service(service) if service.name == name);
    asked.iter().filter(about).cloned().collect()
}

/// Returns an error with all its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
