//! What is done without a wake-up, when its time has come.

use std::time::Duration;

use tokio::time::Instant;

use super::Controller;
use super::known::Known;
use crate::mirror::Doubt;

/// When something is to be done without a wake-up.
#[derive(Debug, Default)]
pub(super) struct Clock {
    pub(super) resync: Option<Instant>,
    pub(super) retry: Option<Instant>,
    pub(super) doubt: Option<Instant>,
    pub(super) journal: Option<Instant>,
    pub(super) collect: Option<Instant>,
}

impl Controller {
    pub(super) fn set_resync(&mut self) {
        let every = self.parts.keep.resync;
        // A tenth earlier or later, so that nodes do not ask in step.
        let jitter = rand::random_range(0.9..1.1);
        self.clock.resync = (!every.is_zero()).then(|| Instant::now() + every.mul_f64(jitter));
    }

    pub(super) fn deadline(&self) -> Instant {
        let Clock { resync, retry, doubt, journal, collect } = self.clock;
        let drains = self.containers.values().filter_map(Known::drained_until).min();
        let beat = self.beats.values().map(|(_, at)| *at).min();
        let soonest = [resync, retry, doubt, journal, collect, drains, beat, self.look.retry];
        let far = Instant::now() + Duration::from_hours(1);
        soonest.into_iter().flatten().min().unwrap_or(far)
    }

    pub(super) async fn tick(&mut self) {
        let now = Instant::now();
        let reached = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if reached(&mut self.clock.resync) {
            self.set_resync();
            self.look.everywhere = true;
            self.doubt_consul(Doubt::Ours);
        }
        if reached(&mut self.clock.doubt) {
            self.look.everywhere = true;
            self.doubting = true;
        }
        if reached(&mut self.clock.retry) {
            self.due.everything = true;
        }
        if reached(&mut self.look.retry) {
            self.look.again();
        }
        if reached(&mut self.clock.journal) {
            self.write_journal();
        }
        for (id, known) in &mut self.containers {
            if known.end_drain(now) {
                self.due.containers.insert(id.clone());
            }
        }
        self.beat(now).await;
    }
}

/// Has something done then, or sooner.
pub(super) fn sooner(at: &mut Option<Instant>, then: Instant) {
    *at = Some(at.map_or(then, |at| at.min(then)));
}
