//! What becomes of HAProxy's starts: told by who supervises it, to who brings configurations in.

use tokio::sync::{Notify, watch};

/// What HAProxy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is being started: nobody knows yet what comes of it.
    Starting,
    /// It runs, and was started with this configuration.
    Running(String),
    /// It does not run, for this reason, and is started again after a pause.
    Ended(String),
}

/// HAProxy's starts.
pub(crate) struct Starts {
    /// How many there were, and what came of the last one.
    last: watch::Sender<(u64, Phase)>,
    sooner: Notify,
    /// A configuration that was refused at the start and is tried again.
    pub(crate) retry: watch::Sender<Option<String>>,
}

impl Starts {
    pub(crate) fn new() -> Self {
        Self {
            last: watch::Sender::new((0, Phase::Starting)),
            sooner: Notify::new(),
            retry: watch::Sender::new(None),
        }
    }

    /// Says that a start begins: from now on `haproxy.cfg` is read.
    pub(crate) fn begin(&self) {
        self.last.send_modify(|(count, phase)| {
            *count += 1;
            *phase = Phase::Starting;
        });
    }

    pub(crate) fn running(&self, text: &str) {
        self.last.send_modify(|(_, phase)| *phase = Phase::Running(text.to_owned()));
    }

    pub(crate) fn ended(&self, why: String) {
        self.last.send_modify(|(_, phase)| *phase = Phase::Ended(why));
    }

    /// Waits until somebody wants the next start at once.
    pub(crate) async fn wanted(&self) {
        self.sooner.notified().await;
    }

    /// Returns whether HAProxy runs, as soon as that is known.
    pub(crate) async fn known(&self) -> Phase {
        self.after(0).await
    }

    /// Ends the pause between two starts, and returns what comes of the next one.
    pub(crate) async fn next(&self) -> Phase {
        let count = self.last.borrow().0;
        self.sooner.notify_one();
        self.after(count + 1).await
    }

    /// Returns what comes of start number `count`, or of a later one.
    async fn after(&self, count: u64) -> Phase {
        let mut last = self.last.subscribe();
        let over = |(now, phase): &(u64, Phase)| *now >= count && *phase != Phase::Starting;
        let found = last.wait_for(over).await.map(|found| found.1.clone());
        found.expect("the sender lives as long as this value")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_start_that_is_wanted_comes_at_once_and_its_own_outcome_is_told() {
        for outcome in [Phase::Running("new".into()), Phase::Ended("cannot bind".into())] {
            let starts = Starts::new();
            starts.begin();
            starts.ended("an older reason".into());
            let supervise = async {
                tokio::select! {
                    () = sleep(Duration::from_secs(30)) => panic!("the pause was not ended"),
                    () = starts.wanted() => {}
                }
                starts.begin();
                sleep(Duration::from_millis(100)).await;
                match &outcome {
                    Phase::Running(text) => starts.running(text),
                    _ => starts.ended("cannot bind".into()),
                }
            };
            let (told, ()) = tokio::join!(starts.next(), supervise);
            assert_eq!(told, outcome);
            assert_eq!(starts.known().await, outcome);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_haproxy_starts_is_told_what_came_of_it() {
        let starts = Starts::new();
        let begun = Instant::now();
        let supervise = async {
            starts.begin();
            sleep(Duration::from_secs(1)).await;
            starts.running("text");
        };
        let (known, ()) = tokio::join!(starts.known(), supervise);
        assert_eq!(known, Phase::Running("text".into()));
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
}
