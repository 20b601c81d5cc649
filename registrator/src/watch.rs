//! Who notices: Docker's events, and Consul coming back.

use std::sync::Arc;
use std::time::Duration;

use consul::{Client, Consistency, Query};
use daemon::error::chain;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::docker::{Endpoint, Engine, Error};
use crate::metrics::{EventLabels, Metrics};
use crate::neighbour;
use crate::wakeups::Wakeups;

/// How often an engine that says nothing is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long Consul holds the query that tells us when it goes.
const HOLD: Duration = Duration::from_mins(1);

/// Follows Docker's events until `token` is cancelled; whenever the stream breaks it connects again
/// and has everything looked at.
pub(crate) async fn docker(
    endpoint: Endpoint,
    wakeups: Arc<Wakeups>,
    engine: watch::Sender<Option<Engine>>,
    metrics: Metrics,
    token: CancellationToken,
) {
    let mut delays = daemon::backoff::delays();
    let mut away: Option<Instant> = None;
    let mut said = false;
    while !token.is_cancelled() {
        let following = async {
            let connected = Engine::connect(&endpoint).await?;
            let events = connected.events();
            engine.send_replace(Some(connected.clone()));
            metrics.set_up("docker", true);
            // The stream begins a moment before now, so that nothing falls between it and the list.
            wakeups.wake(|pending| pending.everywhere = true);
            // An engine that answers may still refuse its events.
            let lives = || {
                if let Some(since) = away.take().filter(|_| said) {
                    tracing::info!(after = ?since.elapsed(), "docker is back");
                }
                said = false;
                delays.reset();
            };
            follow(&connected, events, &wakeups, &metrics, lives).await
        };
        let ended = tokio::select! {
            () = token.cancelled() => return,
            ended = following => ended,
        };
        engine.send_replace(None);
        metrics.set_up("docker", false);
        let pause = neighbour::pause(&mut delays, &mut away);
        match ended {
            Err(error) if !said => {
                said = true;
                let error = chain(&error);
                tracing::warn!(error, "docker is away, what is registered stays; will retry");
            }
            Err(error) => tracing::debug!(error = chain(&error), ?pause, "docker is still away"),
            Ok(()) => tracing::debug!("the events ended, asking for them again"),
        }
        // The controller sees the change of the engine at once.
        wakeups.wake(|pending| pending.look = true);
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Passes events on until the stream ends, or the engine no longer says that it lives. With the first event, or once
/// none has come for a while, it `lives`.
async fn follow(
    engine: &Engine,
    events: impl futures_util::Stream<Item = Result<crate::docker::Event, Error>>,
    wakeups: &Wakeups,
    metrics: &Metrics,
    mut lives: impl FnMut(),
) -> Result<(), Error> {
    let mut events = std::pin::pin!(events);
    let pings = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(PING_EVERY).await;
        Some((engine.ping().await, ()))
    });
    let mut pings = std::pin::pin!(pings);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    lives();
                    let name = event.what.name().to_owned();
                    metrics.events.get_or_create(&EventLabels { event: name }).inc();
                    wakeups.wake(|pending| pending.add(event));
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            Some(ping) = pings.next() => {
                ping?;
                lives();
            }
        }
    }
}

/// Keeps a question open at Consul until `token` is cancelled, and has everything compared when it
/// breaks, and when it can be asked again: an agent that restarts may have forgotten us.
pub(crate) async fn consul(client: Client, wakeups: Arc<Wakeups>, token: CancellationToken) {
    // Consul's own service: it hardly ever changes, and anyone may ask.
    let mut query = Query { wait: HOLD, consistency: Consistency::Stale, ..Query::default() };
    let mut delays = daemon::backoff::delays();
    let mut away: Option<Instant> = None;
    loop {
        let answer = tokio::select! {
            () = token.cancelled() => return,
            answer = client.health_service("consul", &query) => answer,
        };
        if let Ok(answer) = answer {
            query.index = consul::index::next(query.index, answer.index);
            delays.reset();
            if away.take().is_some() {
                wakeups.wake(|pending| pending.consul = true);
            }
            if query.index.is_some() {
                continue;
            }
        } else {
            query.index = None;
            if away.is_none() {
                wakeups.wake(|pending| pending.consul = true);
            }
        }
        let pause = neighbour::pause(&mut delays, &mut away);
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
