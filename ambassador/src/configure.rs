//! Brings configurations into the running HAProxy, and remembers the accepted ones.

use std::io;
use std::time::Duration;

use daemon::backoff::{Delays, delays};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::args::Place;
use crate::bind::{obstacles, same_binds};
use crate::check::{Verdict, check};
use crate::control::{self, Outcome};
use crate::directory::{Version, read, version};
use crate::log_lines::Journal;
use crate::master::{Reload, processes, reload};
use crate::run::starts::{Phase, Starts};
use crate::settle::{EMPTY, accept};

/// How often to look whether somebody else has changed `haproxy.cfg`.
const LOOK: Duration = Duration::from_secs(2);
/// HAProxy's words arrive by another way than its answer.
const LAG: Duration = Duration::from_millis(20);
/// How long a start may take, as a reload: whoever asks wants an answer before that.
const START: Duration = Duration::from_secs(15);
const STARTING: &str = "haproxy has not started yet";

/// Whoever brings configurations into a running HAProxy.
pub(crate) struct Configurator<'a> {
    pub(crate) place: &'a Place,
    pub(crate) journal: &'a Journal,
    pub(crate) starts: &'a Starts,
}

impl Configurator<'_> {
    /// Serves until dropped: senders, signals, and changes made by others.
    pub(crate) async fn serve(&self, senders: &UnixListener) -> io::Result<()> {
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut user = signal(SignalKind::user_defined2())?;
        // What is there at the start has been judged by then.
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Seen::default();
        let mut attempts = Attempts { delays: delays(), due: Instant::now() };
        loop {
            let result = tokio::select! {
                sender = senders.accept() => self.take(sender).await,
                _ = hang_up.recv() => self.load().await,
                _ = user.recv() => self.load().await,
                _ = look.tick() => self.look(&mut seen, &mut attempts).await,
            };
            if let Err(error) = result {
                tracing::warn!(%error, "the configuration could not be looked after");
            }
        }
    }

    async fn take(&self, sender: io::Result<(UnixStream, SocketAddr)>) -> io::Result<()> {
        let (mut sender, _) = sender?;
        let text = control::receive(&mut sender).await?;
        let outcome = match self.apply(&text).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Rejected(error.to_string()),
        };
        match &outcome {
            Outcome::Applied => tracing::info!("new configuration applied"),
            Outcome::Rejected(message) => tracing::error!(%message, "new configuration refused"),
        }
        control::answer(&mut sender, &outcome).await
    }

    /// Brings in a text from elsewhere. A refused one is kept as `haproxy.cfg.rejected`.
    pub(crate) async fn apply(&self, text: &str) -> io::Result<Outcome> {
        let directory = &self.place.directory;
        if let Verdict::Bad(message) = check(self.place, text).await? {
            return self.reject(text, message);
        }
        // A start reads `haproxy.cfg`, and may put another one there.
        if timeout(START, self.starts.known()).await.is_err() {
            return self.reject(text, STARTING.to_owned());
        }
        let old = read(&directory.config())?;
        let loaded = read(&directory.accepted())?.unwrap_or_default();
        let obstacles = obstacles(text, &[old.as_deref().unwrap_or_default(), &loaded]);
        if !obstacles.is_empty() {
            return self.reject(text, obstacles.join("\n"));
        }
        directory.write(&directory.config(), text)?;
        let outcome = self.bring_in(text).await?;
        if let (Outcome::Rejected(_), Some(old)) = (&outcome, old) {
            directory.write(&directory.config(), &old)?;
        }
        Ok(outcome)
    }

    /// Makes HAProxy load `haproxy.cfg` as it is on disk.
    async fn load(&self) -> io::Result<()> {
        let text = read(&self.place.directory.config())?.unwrap_or_default();
        let outcome = match check(self.place, &text).await? {
            Verdict::Good => self.bring_in(&text).await?,
            Verdict::Bad(message) => self.reject(&text, message)?,
        };
        match outcome {
            Outcome::Applied => tracing::info!("configuration loaded"),
            Outcome::Rejected(message) => tracing::error!(%message, "configuration refused"),
        }
        Ok(())
    }

    /// Has HAProxy take `haproxy.cfg`, which is `text`: by a reload, or where it does not run by a start without further pause.
    async fn bring_in(&self, text: &str) -> io::Result<Outcome> {
        let from = self.journal.now();
        let next = async {
            match self.starts.known().await {
                Phase::Ended(_) => Some(self.starts.next().await),
                _ => None,
            }
        };
        match timeout(START, next).await {
            Ok(None) => self.reload(text).await,
            Ok(Some(Phase::Running(served))) if served == text => {
                accept(self.place, text)?;
                self.starts.retry.send_replace(None);
                Ok(Outcome::Applied)
            }
            Ok(Some(Phase::Ended(why))) => {
                sleep(LAG).await;
                let alerts = self.journal.alerts(from);
                self.reject(text, if alerts.is_empty() { why } else { alerts })
            }
            Ok(Some(_)) => self.reject(text, "haproxy was started with another one".to_owned()),
            Err(_) => self.reject(text, STARTING.to_owned()),
        }
    }

    async fn reload(&self, text: &str) -> io::Result<Outcome> {
        let from = self.journal.now();
        match reload(&self.place.directory.master()).await {
            Ok(Reload::Loaded) => {
                accept(self.place, text)?;
                self.starts.retry.send_replace(None);
                Ok(Outcome::Applied)
            }
            Ok(Reload::Failed) => {
                sleep(LAG).await;
                self.reject(text, self.journal.alerts(from))
            }
            Err(error) => self.reject(text, format!("haproxy did not reload: {error}")),
        }
    }

    fn reject(&self, text: &str, message: String) -> io::Result<Outcome> {
        self.place.directory.write(&self.place.directory.rejected(), text)?;
        Ok(Outcome::Rejected(message))
    }

    /// Remembers what others brought in, and tries again what was refused at the start.
    async fn look(&self, seen: &mut Seen, attempts: &mut Attempts) -> io::Result<()> {
        let config = self.place.directory.config();
        let now = version(&config);
        if now != seen.version {
            let text = read(&config)?.filter(|text| text != EMPTY);
            let judged = match text {
                Some(text) => self.remember(&text, &mut seen.reloads).await?,
                None => true,
            };
            if judged {
                seen.version = now;
            }
        }
        let refused = self.starts.retry.borrow().clone();
        if let Some(text) = refused
            && attempts.due <= Instant::now()
        {
            attempts.due = Instant::now() + attempts.delays.next_delay();
            if self.apply(&text).await? == Outcome::Applied {
                attempts.delays.reset();
                tracing::info!("the configuration that was refused at the start is accepted");
            }
        }
        Ok(())
    }

    /// Remembers what others brought in, once HAProxy has loaded it; tells whether that can be told by now.
    ///
    /// What listens on the same addresses as before may have been brought in by the runtime socket. New addresses may be in
    /// use, which no check tells, so a reload must have taken them.
    async fn remember(&self, text: &str, reloads: &mut u32) -> io::Result<bool> {
        let Ok(now) = processes(&self.place.directory.master()).await else { return Ok(false) };
        let accepted = read(&self.place.directory.accepted())?.unwrap_or_default();
        if accepted != text {
            let reloaded = now.reloads != *reloads;
            if now.failed > 0 || !(reloaded || same_binds(text, &accepted)) {
                return Ok(false);
            }
            match check(self.place, text).await? {
                Verdict::Good => {
                    self.starts.retry.send_replace(None);
                    accept(self.place, text)?;
                }
                Verdict::Bad(message) => {
                    tracing::warn!(%message, "haproxy.cfg has been changed and would be refused");
                }
            }
        }
        *reloads = now.reloads;
        Ok(true)
    }
}

/// What was judged last: which version of `haproxy.cfg`, and after how many reloads.
#[derive(Default)]
struct Seen {
    version: Option<Version>,
    reloads: u32,
}

/// When to try again what was refused at the start.
struct Attempts {
    delays: Delays,
    due: Instant,
}
