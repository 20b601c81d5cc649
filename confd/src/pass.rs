//! A pass: render, decide the next step, take it, until what is wanted is live.

use std::sync::Arc;
use std::time::Duration;

use daemon::error::chain;
use tokio::time::Instant;

use crate::board::Phase;
use crate::disk;
use crate::persist;
use crate::refusal::Trial;
use crate::resource::Resource;
use crate::step::{self, Facts, Step, is_begun};
use crate::wait::next_reload;
use crate::wanted::Wanted;
use crate::worker::{Finished, Worker};

/// The pause before the next look at an ambassador that is just starting.
const SOON: Duration = Duration::from_millis(75);

/// The longest pause before the next look at a load balancer that has no master socket.
const LOOK: Duration = Duration::from_millis(500);

/// Tells whether the resource has an HAProxy that is not there at all.
pub(crate) fn is_absent(resource: &Resource) -> bool {
    resource.haproxy.as_ref().is_some_and(|haproxy| !haproxy.master.exists())
}

impl Worker {
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
                            self.change_servers(&wanted).await;
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
    pub(crate) fn loaded(&self, text: &Arc<str>) -> bool {
        self.haproxy.as_ref().is_none_or(|haproxy| haproxy.accepted() == Some(text))
            && self.others.iter().all(|(_, loaded)| loaded.as_ref() == Some(text))
    }

    pub(crate) fn facts<'a>(&'a self, wanted: &'a Wanted) -> Facts<'a> {
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
                    && haproxy.needs_reload(text).is_none()
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

    pub(crate) fn done(&mut self, wanted: &Arc<Wanted>) {
        self.beginning = None;
        let remembered = self.remembered.as_ref() == Some(&wanted.text);
        // What cannot be remembered would be forgotten by a restart: that stays reported until it can.
        let well = remembered || !self.is_forgetful;
        if well {
            self.delays.reset();
        }
        if self.haproxy.is_none() {
            // HAProxy's part tells by itself when something is live.
            self.arrived();
        }
        if self.is_known() {
            self.proven = Some(Arc::clone(wanted));
            let templates = self.templates_in_use();
            if let Some(good) = templates.filter(|t| Some(t.digest()) == wanted.template.as_deref())
            {
                self.good = Some(good);
            }
            if well {
                self.report(self.live());
            }
        }
        if !remembered && self.job.is_none() {
            let (state, wanted) = (self.state.clone(), Arc::clone(wanted));
            let newest = self.shared.watches.newest();
            self.job = Some(tokio::spawn(async move {
                let text = Arc::clone(&wanted.text);
                Finished::Remembered(text, persist::remember(state, wanted, newest).await)
            }));
        }
    }

    /// Returns how the resource is doing where what is wanted is live.
    fn live(&self) -> Phase {
        match (&self.unrendered, &self.distrusted) {
            (Some(phase), _) => phase.clone(),
            (None, Some((_, why))) => Phase::Failing(why.clone()),
            (None, None) => Phase::Live(self.joining),
        }
    }

    pub(crate) fn start_replacing(&mut self, wanted: &Wanted) {
        let (destination, text) = (self.destination.clone(), Arc::clone(&wanted.text));
        self.writing = Some(Arc::clone(&text));
        self.job = Some(tokio::spawn(async move {
            let result = destination.replace(Arc::clone(&text)).await;
            Finished::Written(text, result)
        }));
    }

    /// Takes in what a background job did.
    pub(crate) async fn finished(&mut self, finished: Option<Finished>) {
        self.writing = None;
        match finished {
            Some(Finished::Written(text, Ok(()))) => {
                tracing::debug!(resource = self.resource.name, dest = %self.resource.dest.display(), "written");
                self.on_disk = Some(text);
            }
            Some(Finished::Written(text, Err(error @ persist::Error::Rejected { .. }))) => {
                self.reject(Arc::clone(&text), &error.to_string()).await;
                // Another text that has come meanwhile has its own check to fail.
                if self.wanted.as_ref().is_some_and(|wanted| wanted.text == text) {
                    self.leave_out_culprits(Trial::Check).await;
                }
            }
            Some(Finished::Written(_, Err(error))) => self.fail(&error),
            Some(Finished::Remembered(text, Ok(number))) => {
                tracing::debug!(resource = self.resource.name, generation = number, "accepted");
                self.remembered = Some(text);
                self.is_forgetful = false;
                self.generation = (number, Some(std::time::SystemTime::now()));
            }
            Some(Finished::Remembered(_, Err(error))) => {
                self.is_forgetful = true;
                self.fail_with(format!("what is live cannot be remembered: {}", chain(&error)));
            }
            None => self.fail(&std::io::Error::other("a job was lost")),
        }
    }

    /// Looks at the disk, and has the load balancer looked at by the next pass.
    pub(crate) async fn compare(&mut self) {
        match disk::read(&self.resource.dest) {
            Ok(text) if text.as_deref() == self.on_disk.as_deref() => {}
            // A job of ours is at it; its end is taken in by itself.
            Ok(Some(text)) if self.writing.as_ref().is_some_and(|all| is_begun(&text, all)) => {}
            Ok(text) => {
                self.on_disk = text.map(Into::into);
                // Nobody is misled by what is to be there anyway.
                let wanted = self.wanted.as_ref().map(|wanted| &wanted.text);
                if self.on_disk.is_none() || self.on_disk.as_ref() != wanted {
                    tracing::warn!(dest = %self.resource.dest.display(), "was changed by someone else");
                    self.doubt().await;
                }
            }
            Err(error) => self.fail(&error),
        }
        // Something that was refused because of its surroundings may pass now.
        self.refused = None;
        self.not_at_runtime = None;
        self.verified = false;
    }

    /// Whoever reads the destination may have read what somebody else had written: all are told once it is right again.
    async fn doubt(&mut self) {
        for (_, loaded) in &mut self.others {
            *loaded = None;
        }
        if let Some(haproxy) = &mut self.haproxy {
            haproxy.doubt().await;
        }
    }

    /// Notes a failure of this moment: the same is tried again.
    pub(crate) fn fail(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.fail_with(chain(error));
    }

    pub(crate) fn fail_with(&mut self, why: String) {
        if self.beginning.is_some_and(|until| Instant::now() < until) {
            self.retry = Some(Instant::now() + SOON);
            return self.report(Phase::Waiting(why));
        }
        // What was waited for is a failure now, and said anew.
        if self.beginning.take().is_some() {
            self.last_problem = None;
        }
        let (absent, again) = (is_absent(&self.resource), self.last_problem.as_ref() == Some(&why));
        if !(absent && again) {
            self.shared.metrics.apply_errors.get_or_create(&self.label).inc();
        }
        // Looking whether it is there costs nothing, and whoever starts it wants it to serve.
        let longest = if absent { LOOK } else { Duration::MAX };
        self.retry = Some(Instant::now() + self.delays.next_delay().min(longest));
        self.report(Phase::Failing(why));
    }
}

#[cfg(test)]
mod tests;
