//! The first half of a pass: from the latest snapshot to the text that is wanted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::board::Phase;
use crate::snapshot::Snapshot;
use crate::template;
use crate::text::sha256;
use crate::wanted::Wanted;
use crate::worker::Worker;

impl Worker {
    /// Renders from the latest snapshot. Unless the template gives a text, what is wanted stays.
    pub(crate) fn render(&mut self) {
        self.collecting.acted(Instant::now());
        let snapshot = self.snapshot.borrow_and_update().clone();
        // Without a readable template, what was accepted last stays.
        self.templates.borrow_and_update();
        let Some(templates) = self.templates_in_use() else { return };
        let now = SystemTime::now();
        let snapshot = self.guarded(&snapshot, now);
        let snapshot = self.damped(&snapshot, now);
        let snapshot = self.without_left_out(snapshot);
        let rendering = match templates.render(snapshot.clone(), now) {
            Ok(rendering) => rendering,
            Err(error) => {
                self.shared.metrics.render_errors.get_or_create(&self.label).inc();
                self.gave_nothing(Phase::Failing(error.to_string()));
                return self.distrust(&templates);
            }
        };
        self.guard.note(&rendering.asked, &snapshot);
        self.asked.clone_from(&rendering.asked);
        // What is left out must be watched too, or its mending would not be noticed.
        let left_out = self.left_out.iter().flat_map(|one| one.asked.clone());
        let watched = rendering.asked.iter().cloned().chain(left_out).collect();
        self.shared.watches.want(&self.resource.name, watched);
        match rendering.outcome {
            template::Outcome::Rendered(text) => {
                let text: Arc<str> = text.into();
                self.rendered = Some(Arc::clone(&text));
                self.unrendered = None;
                if self.is_fixed(&text) {
                    return;
                }
                if self.wanted.as_ref().is_none_or(|wanted| wanted.text != text) {
                    self.shared.metrics.renders.get_or_create(&self.label).inc();
                    self.retry = None;
                }
                let rendered = SystemTime::now();
                for arrival in self.arrivals.rendered(&rendering.asked, &snapshot, rendered) {
                    let waited = rendered.duration_since(self.seen).unwrap_or_default();
                    if let Some(age) = arrival.registered {
                        self.observe("registered", age);
                    }
                    self.observe("seen", arrival.rendered.saturating_sub(waited));
                    self.observe("rendered", arrival.rendered);
                }
                let wanted = Wanted {
                    text,
                    asked: rendering.asked,
                    snapshot,
                    template: Some(templates.digest().to_owned()),
                    left_out: self.left_out.iter().map(|one| one.name.clone()).collect(),
                };
                self.wanted = Some(Arc::new(wanted));
            }
            template::Outcome::NotReady(why) => self.gave_nothing(Phase::Waiting(why)),
            template::Outcome::Pending(missing) => {
                let first = missing.first().map(ToString::to_string).unwrap_or_default();
                let why = format!("no answer yet to {} questions, such as: {first}", missing.len());
                if self.is_known() {
                    tracing::debug!(resource = self.resource.name, why, "waiting");
                } else {
                    self.shared.board.report(&self.resource.name, Phase::Waiting(why));
                }
            }
        }
    }

    /// Tells whether an earlier generation is wanted instead of `rendered`.
    pub(crate) fn is_fixed(&mut self, rendered: &str) -> bool {
        let Some(fixed) = &self.fixed else { return false };
        let digest = || sha256(rendered.as_bytes());
        if fixed.pinned || fixed.instead_of.as_ref().is_some_and(|other| *other == digest()) {
            return true;
        }
        self.fixed = None;
        if let Err(error) = self.state.stand_in(None) {
            // The next start ends it again.
            tracing::warn!(resource = self.resource.name, %error, "cannot forget a rollback that has ended");
        }
        false
    }

    /// Returns the snapshot with what the guard holds, and says what that is.
    pub(crate) fn guarded(&mut self, snapshot: &Snapshot, now: SystemTime) -> Snapshot {
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

    /// Returns the snapshot without the instances that flap, and says who they are.
    fn damped(&mut self, snapshot: &Snapshot, now: SystemTime) -> Snapshot {
        let before = self.damper.held().clone();
        let damped = self.damper.filter(&self.asked, snapshot, &self.resource.flap, now);
        let resource = &self.resource.name;
        for instance in self.damper.held().difference(&before) {
            tracing::warn!(resource, instance, "comes and goes: left out until it stays");
        }
        for instance in before.difference(self.damper.held()) {
            tracing::info!(resource, instance, "no longer left out for coming and going");
        }
        let count = i64::try_from(self.damper.held().len()).unwrap_or(i64::MAX);
        self.shared.metrics.damped.get_or_create(&self.label).set(count);
        damped
    }

    /// Notes that the template gave no text. What is wanted stays, and so does this until it gives one.
    fn gave_nothing(&mut self, phase: Phase) {
        self.unrendered = Some(phase.clone());
        self.report(phase);
    }

    /// Tells whether what is wanted comes from the template, or from an order, and not only from memory.
    pub(crate) fn is_known(&self) -> bool {
        self.rendered.is_some() || self.fixed.is_some()
    }

    /// Takes out the services that are left out, unless the source says something new about one.
    pub(crate) fn without_left_out(&mut self, snapshot: Snapshot) -> Snapshot {
        let resource = &self.resource.name;
        self.left_out.retain(|one| {
            let same = snapshot.known(&one.name, &one.asked) == one.known;
            if !same {
                tracing::info!(resource, service = one.name, "has changed: it gets another chance");
            }
            same
        });
        if self.left_out.is_empty() {
            return snapshot;
        }
        let names: Vec<String> = self.left_out.iter().map(|one| one.name.clone()).collect();
        snapshot.without(&names)
    }
}
