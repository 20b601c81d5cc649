//! What is known of this node's containers, and what their events say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use nix::sys::signal::Signal;
use services::{Container, OperatorTags};
use tokio::time::Instant;

use crate::docker::{Change, Engine, Error};

/// Inspections at the same time.
const AT_ONCE: usize = 8;
/// How much longer than its stop timeout a container may take to end before it is believed to stay.
pub(super) const MERCY: Duration = Duration::from_secs(1);

/// A container, and when its last start and its end were heard of.
pub(super) struct Known {
    pub(super) container: Container,
    /// What the operator's tags come to for it, and what is wrong with those that are missing.
    pub(super) tags: (Vec<String>, Vec<String>),
    pub(super) started: Option<i64>,
    /// It was sent its stop signal: it gets no traffic until then, unless it ends before.
    pub(super) leaving: Option<Instant>,
}

/// Inspects the containers that may have changed, and notes what the news say of them.
pub(super) async fn look(
    engine: &Engine,
    tags: &OperatorTags,
    known: &mut BTreeMap<String, Known>,
    stale: &BTreeSet<String>,
    news: &[Change],
) -> Result<(), Error> {
    let inspecting = stale.iter().cloned().map(|id| {
        let engine = engine.clone();
        async move {
            let document = engine.inspect(&id).await?;
            Ok::<_, Error>((id, document))
        }
    });
    let inspecting: Vec<_> = inspecting.collect();
    let inspected: Vec<_> =
        stream::iter(inspecting).buffer_unordered(AT_ONCE).try_collect().await?;
    for (id, document) in inspected {
        let document = document.unwrap_or_default();
        let container = Container::from_inspect(&document).ok();
        let Some(container) = container.filter(|container| container.running) else {
            known.remove(&id);
            continue;
        };
        let (mut started, mut leaving) = (None, None);
        if let Some(before) = known.remove(&id) {
            started = before.started;
            // One that was started again, unseen, is none that is about to stop.
            let same = before.container.started_at == container.started_at;
            leaving = before.leaving.filter(|_| same);
        }
        for change in news.iter().filter(|change| change.container == id) {
            if change.started {
                (started, leaving) = (Some(change.at), None);
            }
            if change.signal.as_ref().is_some_and(|signal| ends(signal, &container.stop_signal)) {
                let patience = Duration::from_secs(container.stop_timeout) + MERCY;
                leaving = Instant::now().checked_add(patience);
            }
        }
        let tags = tags.of(&document);
        known.insert(id, Known { container, tags, started, leaving });
    }
    let now = Instant::now();
    for one in known.values_mut() {
        one.leaving = one.leaving.filter(|at| *at > now);
    }
    Ok(())
}

/// Tells whether a signal is the one that ends a container; both may be names or numbers.
fn ends(signal: &str, stop: &str) -> bool {
    let number = |text: &str| {
        let name = text.trim().to_ascii_uppercase();
        let named = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
        name.parse().ok().or_else(|| Signal::from_str(&named).ok().map(|signal| signal as i32))
    };
    let signal: Option<i32> = number(signal);
    signal.is_some() && (signal == number(stop) || signal == Some(Signal::SIGKILL as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_stop_signal_and_kill_end_a_container() {
        for (signal, stop) in
            [("15", "SIGTERM"), ("TERM", "15"), ("9", "SIGTERM"), ("sigquit", "3")]
        {
            assert!(ends(signal, stop), "{signal} {stop}");
        }
        for (signal, stop) in [("1", "SIGTERM"), ("SIGUSR1", "SIGTERM"), ("", ""), ("x", "y")] {
            assert!(!ends(signal, stop), "{signal} {stop}");
        }
    }
}
