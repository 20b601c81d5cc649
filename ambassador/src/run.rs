//! `ambassador run`: keeps HAProxy running until a signal ends it.

pub(crate) mod starts;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::args::{Limits, Place};
use crate::base::base;
use crate::configure::Configurator;
use crate::control;
use crate::directory::read;
use crate::log_lines::Journal;
use crate::master::patient;
use crate::process::{Process, end_leftover};
use crate::settle::{EMPTY, accept, ask, fall_back, settle};
use starts::Starts;

/// A HAProxy that lived this long did not die of how it was started.
const STEADY: Duration = Duration::from_secs(10);

/// How long a start may take; names that do not resolve make HAProxy wait for the resolver.
const START: Duration = Duration::from_mins(1);

/// Runs HAProxy in the place's directory until a signal ends it.
///
/// Errors are those of the start: a directory that cannot be written or is another's.
pub(crate) async fn run(
    place: &Place,
    limits: Limits,
    config: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let mut ends = Ends::new()?;
    let directory = &place.directory;
    let _claim =
        directory.claim().with_context(|| format!("cannot use {}", directory.path().display()))?;
    end_leftover(place).await;
    directory
        .write(&directory.base(), &base(&directory.runtime(), limits.hard_stop_after))
        .context("cannot write base.cfg")?;
    for socket in [directory.master(), directory.runtime()] {
        // Whoever finds one should find HAProxy behind it.
        let _ = std::fs::remove_file(socket);
    }
    if let Some(config) = config {
        ask(directory, config).context("cannot write the configuration")?;
    }
    let listener = control::listen(&directory.control()).context("cannot listen for others")?;
    let journal = Journal::default();
    let starts = Starts::new();
    let configurator = Configurator { place, journal: &journal, starts: &starts };
    tokio::select! {
        () = supervise(place, &journal, &starts, limits.stop_after, &mut ends) => {}
        served = configurator.serve(&listener) => served?,
    }
    for socket in [directory.control(), directory.master(), directory.runtime()] {
        let _ = std::fs::remove_file(socket);
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts HAProxy whenever it does not run, and stops it when a signal says so.
async fn supervise(
    place: &Place,
    journal: &Journal,
    starts: &Starts,
    stop_after: Duration,
    ends: &mut Ends,
) {
    let mut delays = daemon::backoff::delays();
    let (mut aside, mut wanted) = (None, false);
    loop {
        let started = Instant::now();
        starts.begin();
        let process = tokio::select! {
            process = start(place, journal, starts, &mut aside) => process,
            _ = ends.next() => return,
        };
        match process {
            Ok((mut process, text)) => {
                tracing::info!(pid = %process.id(), "haproxy started");
                let signal = tokio::select! {
                    confirmed = died(&mut process, place, &text, starts) => {
                        // Who wanted this start is told what came of it, and takes the text back.
                        if !confirmed && !wanted {
                            aside = put_aside(place, text);
                        }
                        None
                    }
                    signal = ends.next() => Some(signal),
                };
                if let Some(signal) = signal {
                    stop(process, signal, stop_after, ends).await;
                    return;
                }
                starts.ended("haproxy died".to_owned());
            }
            Err(error) => {
                tracing::error!("{error:#}");
                starts.ended(format!("{error:#}"));
            }
        }
        if started.elapsed() >= STEADY {
            delays.reset();
        }
        let delay = delays.next_delay();
        tracing::info!(?delay, "haproxy starts again");
        wanted = tokio::select! {
            () = sleep(delay) => false,
            () = starts.wanted() => true,
            _ = ends.next() => return,
        };
    }
}

/// Starts HAProxy, and returns it with the configuration that it was given; what was put `aside` is tried again later.
async fn start(
    place: &Place,
    journal: &Journal,
    starts: &Starts,
    aside: &mut Option<String>,
) -> anyhow::Result<(Process, String)> {
    let refused = settle(place).await.context("no configuration to start with")?;
    starts.retry.send_replace(refused.or(aside.take()));
    let text = read(&place.directory.config()).context("no configuration to start with")?;
    let process = Process::start(place, journal)
        .with_context(|| format!("cannot start {}", place.haproxy.display()))?;
    Ok((process, text.unwrap_or_default()))
}

/// Waits for HAProxy's end, and tells whether it served before. Once it does, what it was given is remembered.
async fn died(process: &mut Process, place: &Place, text: &str, starts: &Starts) -> bool {
    let socket = place.directory.master();
    let serves = patient(&socket, Instant::now() + START, |now| !now.workers.is_empty());
    let confirmed = tokio::select! {
        status = process.ended() => {
            tracing::error!(?status, "haproxy died");
            return false;
        }
        answer = serves => answer.is_ok(),
    };
    starts.running(text);
    if confirmed
        && text != EMPTY
        && let Err(error) = accept(place, text)
    {
        tracing::warn!(%error, "the configuration is not remembered");
    }
    let status = process.ended().await;
    tracing::error!(?status, "haproxy died");
    confirmed
}

/// Makes room for the last accepted configuration; returns what is worth another try.
fn put_aside(place: &Place, text: String) -> Option<String> {
    match fall_back(place, &text) {
        Ok(true) => {
            tracing::error!(
                "the configuration with which haproxy did not start gives way to the last accepted one"
            );
            Some(text)
        }
        Ok(false) => None,
        Err(error) => {
            tracing::warn!(%error, "the last accepted configuration is not brought back");
            None
        }
    }
}

async fn stop(process: Process, signal: &str, stop_after: Duration, ends: &mut Ends) {
    tracing::info!(signal, "stopping");
    let cut = async {
        tokio::select! {
            () = sleep(stop_after) => {}
            _ = ends.next() => {}
        }
    };
    if let Err(error) = process.stop(cut).await {
        tracing::error!(%error, "haproxy could not be stopped");
    }
}

/// The signals that end an ambassador.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    user: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // HAProxy's own word for a soft stop.
            user: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.user.recv() => "SIGUSR1",
        }
    }
}
