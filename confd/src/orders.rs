//! What a worker does when it is asked or told something.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;

use crate::board::Phase;
use crate::control::{Answer, Message, Order};
use crate::snapshot::Snapshot;
use crate::state::Generation;
use crate::text::sha256;
use crate::wanted::{Fixed, Wanted};
use crate::worker::Worker;

impl Worker {
    /// Does what it is told, and answers.
    pub(crate) async fn obey(&mut self, (order, reply): Message) {
        let answer = match order {
            Order::Status => Ok(self.status().await),
            Order::Accept => Ok(self.accept().await),
            Order::Rollback { number, pin } => self.roll_back(number, pin).await,
            Order::Unpin => self.unpin().await,
        };
        // Who asked may be gone.
        drop(reply.send(answer));
    }

    async fn status(&self) -> serde_json::Value {
        let document = self.document().await;
        let (phase, why) = match self.shared.board.phase(&self.resource.name) {
            Some(Phase::Live(0)) => ("live", None),
            Some(Phase::Live(n)) => {
                ("live", Some(format!("{n} servers wait for their first check")))
            }
            Some(Phase::Waiting(why)) => ("waiting", Some(why)),
            Some(Phase::Failing(why)) => ("failing", Some(why)),
            None => ("starting", None),
        };
        let now = SystemTime::now();
        let holds: Vec<_> = self
            .guard
            .holds()
            .into_iter()
            .map(|(question, hold)| {
                json!({
                    "question": question.to_string(),
                    "held": hold.held.iter().map(|i| &i.id).collect::<Vec<_>>(),
                    "because": hold.doubt.to_string(),
                    "seconds": now.duration_since(hold.since).unwrap_or_default().as_secs(),
                })
            })
            .collect();
        json!({
            "phase": phase,
            "why": why,
            "dest": self.resource.dest,
            "generation": self.state.numbers().ok().and_then(|numbers| numbers.last().copied()),
            "pinned": self.fixed.as_ref().filter(|fixed| fixed.pinned).map(|fixed| fixed.number),
            "questions": self.asked.len(),
            "data_age_seconds": self.shared.metrics.data_age().map(|age| age.as_secs()),
            "held": holds,
            "damped": self.damper.held(),
            "event_to_serving_ms": document["event_to_serving_ms"],
            "backends": document["backends"],
            "left_out": self.left_out.iter().map(|left_out| &left_out.name).collect::<Vec<_>>(),
        })
    }

    async fn accept(&mut self) -> serde_json::Value {
        let count = self.guard.holds().len();
        self.guard.accept();
        self.render();
        self.pass().await;
        json!(format!("{count} holds let go"))
    }

    async fn roll_back(&mut self, number: u64, pin: bool) -> Answer {
        let failed = |error: std::io::Error| error.to_string();
        let generation = self.state.generation(number).map_err(failed)?;
        let generation = generation.ok_or_else(|| format!("generation {number} is not kept"))?;
        // What is wanted may be another generation already, which nobody renders.
        let digest = |text: &Arc<str>| sha256(text.as_bytes());
        let rendered = self.rendered.as_ref().map(digest);
        let before = self.fixed.as_ref().and_then(|fixed| fixed.instead_of.clone());
        let wanted = || self.wanted.as_ref().map(|wanted| digest(&wanted.text));
        let instead_of = rendered.or(before).or_else(wanted);
        let stands_in = instead_of.as_deref().filter(|_| !pin).map(|digest| (number, digest));
        // A job may be about to forget old generations: at no time is this one named by nothing.
        if pin {
            self.state.pin(Some(number)).map_err(failed)?;
        }
        self.state.stand_in(stands_in).map_err(failed)?;
        if !pin {
            self.state.pin(None).map_err(failed)?;
        }
        self.fix(generation, pin, instead_of);
        tracing::info!(resource = self.resource.name, generation = number, pin, "rolled back");
        self.refused = None;
        // Who goes back does so because something fails, and does not want to wait for its next try.
        self.retry = None;
        self.pass().await;
        match self.shared.board.phase(&self.resource.name) {
            Some(Phase::Failing(why)) if self.retry.is_some() || self.refused.is_some() => {
                Err(format!("generation {number} is wanted, and not live: {why}"))
            }
            Some(Phase::Failing(_)) if self.job.is_some() => {
                Ok(json!(format!("at generation {number} again, as soon as it is written")))
            }
            _ => Ok(json!(format!(
                "at generation {number} again{}",
                if pin { ", pinned" } else { "" }
            ))),
        }
    }

    /// Makes a generation what is wanted, until the rendered text has another digest than `instead_of`.
    pub(crate) fn fix(&mut self, generation: Generation, pinned: bool, instead_of: Option<String>) {
        self.fixed = Some(Fixed { number: generation.number, pinned, instead_of });
        self.wanted = Some(Arc::new(generation.into()));
    }

    async fn unpin(&mut self) -> Answer {
        self.state.pin(None).map_err(|error| error.to_string())?;
        self.state.stand_in(None).map_err(|error| error.to_string())?;
        let was = self.fixed.take();
        self.render();
        self.pass().await;
        Ok(json!(if was.is_some() { "follows the source again" } else { "was not pinned" }))
    }
}

impl From<Generation> for Wanted {
    fn from(generation: Generation) -> Self {
        let mut snapshot = Snapshot::default();
        let mut asked = std::collections::BTreeSet::new();
        for (dependency, data) in generation.inputs {
            asked.insert(dependency.clone());
            snapshot.update(&Arc::new(dependency), data, None, SystemTime::now());
        }
        let (text, template) = (generation.text.into(), generation.template);
        Self { text, asked, snapshot, template, left_out: std::collections::BTreeSet::new() }
    }
}
