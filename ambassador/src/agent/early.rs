//! Whose ambassadors end soon after their starts, or cannot be made, and how long each of these is left alone. Pure: no I/O, and the time is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daemon::backoff::{Delays, delays};
use tokio::time::Instant;

use super::plan::{Ambassador, Identity};

/// An ambassador that lived this long did not die of how it was started.
const STEADY: Duration = Duration::from_secs(10);

/// The ambassadors that ended early or could not be made, by what they are for. Who forgets them tries at once, and learns of them anew.
#[derive(Debug, Default)]
pub(crate) struct Early(BTreeMap<Identity, Trouble>);

/// What is known of one.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// The container that ended last, if any did: each look finds it until it is replaced.
    ended: Option<String>,
    delays: Delays,
    /// When it may be replaced.
    due: Instant,
}

/// What an end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It may be replaced at once.
    Late,
    /// It is replaced after a pause; somebody should know.
    First,
    /// The same, and has been said.
    Again,
}

impl Early {
    /// Whether this end has not been judged yet.
    pub(crate) fn is_new(&self, one: &Ambassador) -> bool {
        self.0.get(&one.identity).is_none_or(|trouble| trouble.ended.as_deref() != Some(&one.id))
    }

    /// Judges the end of an ambassador that ran for a time.
    pub(crate) fn judge(&mut self, one: &Ambassador, ran: Duration, now: Instant) -> End {
        if ran >= STEADY {
            self.0.remove(&one.identity);
            return End::Late;
        }
        let trouble = self.failed(&one.identity, now);
        match trouble.ended.replace(one.id.clone()) {
            Some(_) => End::Again,
            None => End::First,
        }
    }

    /// Notes that an ambassador could not be made: an attempt is an event, too, which would have the next one follow at once.
    pub(crate) fn failed(&mut self, identity: &Identity, now: Instant) -> &mut Trouble {
        let new = || Trouble { ended: None, delays: delays(), due: now };
        let trouble = self.0.entry(identity.clone()).or_insert_with(new);
        trouble.due = now + trouble.delays.next_delay();
        trouble
    }

    /// Forgets what is not wanted any more, and whose ambassador has stayed up.
    pub(crate) fn forget(
        &mut self,
        wanted: &BTreeSet<Identity>,
        actual: &[Ambassador],
        now: Instant,
    ) {
        self.0.retain(|identity, trouble| {
            let runs = || actual.iter().any(|one| one.running && one.identity == *identity);
            wanted.contains(identity) && !(now >= trouble.due + STEADY && runs())
        });
    }

    /// Whether an ambassador may not be replaced yet.
    pub(crate) fn holds(&self, identity: &Identity, now: Instant) -> bool {
        self.0.get(identity).is_some_and(|trouble| trouble.due > now)
    }

    /// Returns how long it is until the first of those that are held may be replaced.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.0.values().filter(|trouble| trouble.due > now).map(|one| one.due - now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambassador(client: &str, id: usize, running: bool) -> Ambassador {
        let identity = Identity {
            container: client.into(),
            started_at: "now".into(),
            project: String::new(),
            upstreams: "rng:80".into(),
            settings: "image volume".into(),
        };
        Ambassador { id: id.to_string(), identity, running }
    }

    #[test]
    fn who_ends_early_again_and_again_waits_ever_longer_is_told_of_once_and_holds_nobody_else() {
        let (mut early, mut now) = (Early::default(), Instant::now());
        let other = ambassador("other", 0, false).identity;
        let mut pauses = Vec::new();
        for id in 0..20 {
            let one = ambassador("client", id, false);
            assert!(early.is_new(&one));
            let end = early.judge(&one, Duration::from_secs(1), now);
            assert_eq!(end, if id == 0 { End::First } else { End::Again });
            assert!(!early.is_new(&one) && early.holds(&one.identity, now));
            assert!(!early.holds(&other, now));
            let pause = early.wait(now).unwrap();
            now += pause;
            assert!(!early.holds(&one.identity, now) && early.wait(now).is_none());
            pauses.push(pause);
        }
        assert!(pauses[0] < Duration::from_millis(200), "{pauses:?}");
        assert!(pauses[10..].iter().all(|one| *one > Duration::from_secs(20)), "{pauses:?}");
    }

    #[test]
    fn who_has_stayed_up_or_ends_late_or_is_not_wanted_begins_anew() {
        let one = ambassador("client", 0, false);
        let (up, none): (&[_], &[_]) = (&[ambassador("client", 1, true)], &[]);
        let wanted = BTreeSet::from([one.identity.clone()]);
        let now = Instant::now();
        let judged = || {
            let mut early = Early::default();
            early.judge(&one, Duration::ZERO, now);
            early
        };
        let later = now + Duration::from_secs(1);
        for (wanted, actual, at, forgotten) in [
            (&wanted, up, later, false),
            (&wanted, none, later + STEADY, false),
            (&wanted, up, later + STEADY, true),
            (&BTreeSet::new(), none, later, true),
        ] {
            let mut early = judged();
            early.forget(wanted, actual, at);
            assert_eq!(early.is_new(&one), forgotten, "{actual:?} {at:?}");
        }
        let mut early = judged();
        assert_eq!(early.judge(&one, STEADY, now), End::Late);
        assert!(!early.holds(&one.identity, now));
    }
}
