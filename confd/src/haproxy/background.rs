//! Carries on what takes its time: first checks, and servers that drain.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::config::Server;
use super::diff::{self, Change, Key, Op, Steps};
use super::runtime::{Session, Verdict};
use super::{Error, Event, Haproxy};

/// How soon HAProxy is asked again about a check or a drain that just began.
pub(super) const SOONEST: Duration = Duration::from_millis(2);
/// How late it is asked at most, however long something takes.
const LATEST: Duration = Duration::from_secs(1);
/// The share of the time something has taken already that may pass until the next look at it.
const SHARE: u32 = 10;

/// A server that drains.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) since: Instant,
    /// What it was, if it was ours: it may come back unchanged.
    pub(super) server: Option<Server>,
    pub(super) killed: bool,
}

impl Haproxy {
    /// Does what is left in the background: weights after passed checks, deletions of drained servers.
    ///
    /// Returns when something happened; never if nothing is under way. May be dropped at any time.
    pub async fn work(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            let Some(next) = self.next else { return std::future::pending().await };
            sleep_until(next).await;
            // If this is dropped half-way, for something more urgent, the next look follows it.
            let again = Instant::now() + SOONEST;
            self.next = Some(again);
            match self.look().await {
                Ok(events) if events.is_empty() => {}
                Err(error) if self.next == Some(again) => {
                    // HAProxy could not be asked, and will hardly answer two milliseconds later.
                    self.next = Some(Instant::now() + LATEST);
                    return Err(error);
                }
                settled => return settled,
            }
        }
    }

    async fn look(&mut self) -> Result<Vec<Event>, Error> {
        let Some(config) = self.accepted.as_ref().and_then(|text| text.config.as_ref().ok()) else {
            self.next = None;
            return Ok(Vec::new());
        };
        let now = Instant::now();
        let expired = self
            .leaving
            .iter()
            .filter(|(_, leaving)| now - leaving.since >= self.settings.drain_timeout);
        let expired: BTreeSet<Key> = expired.map(|(key, _)| key.clone()).collect();
        let mut session = Session::open(&self.settings.runtime).await?;
        let busy =
            self.joining.keys().chain(self.leaving.keys()).map(|(backend, _)| backend.clone());
        let busy: BTreeSet<String> = busy.collect();
        // Nothing is known to be under way: this is the first look of this process, at all there is.
        let first = busy.is_empty();
        let mut state = session.state((!first).then_some(&busy)).await?;
        let draining: BTreeSet<&str> =
            self.leaving.keys().map(|(backend, _)| backend.as_str()).collect();
        session.sessions(&draining, &mut state).await?;
        // A server that drains still gets those who stick to it, until their entries are gone.
        let stuck = self.leaving.keys().filter_map(|(backend, server)| {
            Some((backend.as_str(), state.get(backend, server)?.id))
        });
        session.unstick(stuck).await?;
        let config = if first { Cow::Borrowed(config) } else { Cow::Owned(config.only(&busy)) };
        let steps = diff::steps(&config, &state, &expired);
        // Whatever others did meanwhile is for `drift`: here only what is under way is carried on.
        let ours = |op: &Op| {
            let key = (op.backend.clone(), op.server.clone());
            match op.change {
                Change::Weight(_) => self.joining.contains_key(&key),
                Change::Drain | Change::Maintenance | Change::Kill | Change::Delete => {
                    self.leaving.contains_key(&key)
                }
                _ => false,
            }
        };
        let ops: Vec<Op> = steps.ops.iter().filter(|op| first || ours(op)).cloned().collect();
        for op in ops.iter().filter(|op| op.change == Change::Kill) {
            if let Some(leaving) = self.leaving.get_mut(&(op.backend.clone(), op.server.clone())) {
                leaving.killed = true;
            }
        }
        let verdicts = session.execute(&ops).await?;
        self.settle(&ops, &verdicts, &steps)
    }

    /// Turns what one look in the background found and did into events.
    fn settle(
        &mut self,
        ops: &[Op],
        verdicts: &[Verdict],
        steps: &Steps,
    ) -> Result<Vec<Event>, Error> {
        let now = Instant::now();
        let mut events = Vec::new();
        let mut refused = None;
        let mut deleted = BTreeSet::new();
        for (op, verdict) in ops.iter().zip(verdicts) {
            match verdict {
                Verdict::Refused(answer) => {
                    refused =
                        Some(Error::Refused { operation: op.to_string(), answer: answer.clone() });
                }
                Verdict::Done if op.change == Change::Delete => {
                    deleted.insert((op.backend.clone(), op.server.clone()));
                }
                Verdict::Done | Verdict::Busy => {}
            }
        }
        if self.joining.is_empty() && self.leaving.is_empty() {
            // The first look of this process: all that is under way was begun by another.
            self.joining = steps.joining.iter().map(|key| (key.clone(), now)).collect();
            let leaving =
                |key: &Key| (key.clone(), Leaving { since: now, server: None, killed: false });
            self.leaving = steps.leaving.iter().map(leaving).collect();
        }
        self.joining.retain(|(backend, server), since| {
            let waits =
                refused.is_some() || steps.joining.contains(&(backend.clone(), server.clone()));
            if !waits {
                let (backend, server) = (backend.clone(), server.clone());
                events.push(Event::Serving { backend, server, after: now - *since });
            }
            waits
        });
        self.leaving.retain(|key, leaving| {
            let stays = steps.leaving.contains(key) && !deleted.contains(key);
            if !stays {
                let (backend, server) = key.clone();
                let (after, killed) = (now - leaving.since, leaving.killed);
                events.push(Event::Removed { backend, server, after, killed });
            }
            stays
        });
        self.schedule();
        match refused {
            Some(error) => Err(error),
            None => Ok(events),
        }
    }

    /// Sets when the background work is due: soon while something is fresh, seldom if it takes long.
    pub(super) fn schedule(&mut self) {
        let now = Instant::now();
        let since = self
            .joining
            .values()
            .copied()
            .chain(self.leaving.values().map(|leaving| leaving.since));
        let pause = since.map(|since| ((now - since) / SHARE).clamp(SOONEST, LATEST)).min();
        let expiry = self.leaving.values().filter(|leaving| !leaving.killed);
        let expiry = expiry.map(|leaving| leaving.since + self.settings.drain_timeout).min();
        self.next =
            pause.map(|pause| expiry.map_or(now + pause, |expiry| expiry.clamp(now, now + pause)));
    }
}
