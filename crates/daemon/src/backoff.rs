//! How long to wait before the next attempt. The one module that uses the `backoff` crate.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// The first pause: long enough not to spin, short enough not to be noticed.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause, before jitter: how late a daemon may find out that an outage is over.
const LONGEST: Duration = Duration::from_secs(30);
/// Each pause is this much longer than the one before.
const FACTOR: f64 = 2.0;
/// Each pause is stretched or shortened at random by up to this part of itself, so that many
/// daemons do not come back in step.
const JITTER: f64 = 0.3;

/// Returns pauses for retrying for ever: 100 ms, doubling to 30 s, with jitter.
#[must_use]
pub fn delays() -> Delays {
    Delays(
        ExponentialBackoffBuilder::new()
            .with_initial_interval(FIRST)
            .with_max_interval(LONGEST)
            .with_multiplier(FACTOR)
            .with_randomization_factor(JITTER)
            // The crate gives up after a quarter of an hour unless told otherwise.
            .with_max_elapsed_time(None)
            .build(),
    )
}

/// Endless, growing pauses; see [`delays`].
#[derive(Debug)]
pub struct Delays(ExponentialBackoff);

impl Delays {
    /// Starts again from the shortest pause: call it after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// Returns the next pause.
    pub fn next_delay(&mut self) -> Duration {
        // `None` would mean "give up", which only a time limit brings about.
        self.0.next_backoff().unwrap_or(LONGEST).min(LONGEST)
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_delay())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_tenth_of_a_second_to_half_a_minute_and_never_end() {
        let pauses: Vec<_> = delays().take(10_000).collect();
        assert!(
            pauses[0] >= FIRST.mul_f64(1.0 - JITTER) && pauses[0] <= FIRST.mul_f64(1.0 + JITTER)
        );
        assert!(pauses[20..].iter().all(|pause| *pause >= LONGEST.mul_f64(1.0 - JITTER)));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST));
    }

    #[test]
    fn pauses_differ_from_daemon_to_daemon() {
        let firsts: std::collections::BTreeSet<_> =
            (0..50).map(|_| delays().next_delay()).collect();
        assert!(firsts.len() > 10, "{firsts:?}");
    }

    #[test]
    fn a_reset_starts_again_from_the_shortest_pause() {
        let mut delays = delays();
        assert!(delays.by_ref().nth(20).is_some_and(|pause| pause > Duration::from_secs(10)));
        delays.reset();
        assert!(delays.next_delay() <= FIRST.mul_f64(1.0 + JITTER));
    }
}
