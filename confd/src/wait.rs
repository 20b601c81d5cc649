//! When a pass may begin: at once after quiet, collected while it is busy. Pure: no I/O, no clock, no async.

use std::time::Duration;

use tokio::time::Instant;

use crate::resource::Wait;

/// How much longer than the quiet time changes are collected, where a resource does not say.
const LONGEST: u32 = 4;

/// Decides when changes are acted upon.
#[derive(Debug, Default)]
pub struct Collecting {
    /// When changes were acted upon last.
    acted: Option<Instant>,
    /// The first and the latest change that was not acted upon yet.
    waiting: Option<(Instant, Instant)>,
}

impl Collecting {
    /// Notes a change.
    pub fn changed(&mut self, now: Instant) {
        let first = self.waiting.map_or(now, |(first, _)| first);
        self.waiting = Some((first, now));
    }

    /// Notes that everything so far was acted upon.
    pub fn acted(&mut self, now: Instant) {
        self.acted = Some(now);
        self.waiting = None;
    }

    /// Returns when to act; `None` while nothing has changed.
    #[must_use]
    pub fn due(&self, wait: &Wait) -> Option<Instant> {
        let (first, latest) = self.waiting?;
        let min = wait.min.0;
        let max = wait.max.map_or(min * LONGEST, |max| max.0).max(min);
        match self.acted {
            Some(acted) if first < acted + min => Some((latest + min).min(first + max)),
            // The first after quiet.
            _ => Some(first),
        }
    }
}

/// Returns when a reload may happen: `interval` after the last, and up to a tenth later, so that
/// the nodes of a cluster do not reload in step.
#[must_use]
pub fn next_reload(last: Option<Instant>, interval: Duration, jitter: f64) -> Option<Instant> {
    last.map(|last| last + interval.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    fn wait(min: u64, max: u64) -> Wait {
        let span = |millis| Span(Duration::from_millis(millis));
        Wait { min: span(min), max: Some(span(max)) }
    }

    #[test]
    fn the_first_change_is_acted_upon_at_once_and_further_ones_are_collected() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let (mut collecting, wait) = (Collecting::default(), wait(100, 250));
        assert_eq!(collecting.due(&wait), None);
        collecting.changed(at(0));
        assert_eq!(collecting.due(&wait), Some(at(0)));
        collecting.acted(at(1));
        collecting.changed(at(50));
        assert_eq!(collecting.due(&wait), Some(at(150)));
        collecting.changed(at(140));
        assert_eq!(collecting.due(&wait), Some(at(240)));
        collecting.changed(at(230));
        assert_eq!(collecting.due(&wait), Some(at(300)), "never later than max");
        collecting.acted(at(300));
        collecting.changed(at(401));
        assert_eq!(collecting.due(&wait), Some(at(401)));
    }

    #[test]
    fn without_a_wait_every_change_is_due_at_once() {
        let start = Instant::now();
        let mut collecting = Collecting::default();
        collecting.acted(start);
        collecting.changed(start);
        assert_eq!(collecting.due(&Wait::default()), Some(start));
    }

    #[test]
    fn reloads_keep_their_distance() {
        let last = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(next_reload(None, second, 0.5), None);
        assert_eq!(next_reload(Some(last), second, 0.0), Some(last + second));
        assert_eq!(next_reload(Some(last), second, 1.0), Some(last + second.mul_f64(1.1)));
    }
}
