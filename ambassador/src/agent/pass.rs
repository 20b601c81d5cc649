//! One pass: look at all clients and ambassadors, tell confd of them, and make what is missing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::come_up;
use super::early::{Early, End};
use super::metrics::Metrics;
use super::plan::{Action, Client, Identity, by_client, desired, plan};
use super::resources;
use super::sweep::sweep;
use crate::docker::{Ended, Engine, Error, Found, Recipe, Unknown};

/// Clients that are served at once; the engine does it one after the other in the end.
const AT_ONCE: usize = 8;

/// One engine's clients and ambassadors.
pub(crate) struct Pass<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) recipe: Recipe,
    pub(crate) project: Option<&'a str>,
    pub(crate) template: Option<&'a Path>,
    /// The volume, where the agent has it mounted.
    pub(crate) folder: &'a Path,
    pub(crate) metrics: &'a Metrics,
}

/// Warnings, each with its client's ID, so that each is given once.
type Warned = BTreeSet<(String, String)>;

/// What passes know of those before them. Nothing that matters: without it things are tried at once, and said again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    warned: Warned,
    pub(crate) early: Early,
}

/// How a pass ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// What could not be done, and is worth another try.
    pub(crate) failures: usize,
    /// Ambassadors that ended early, and are replaced after a pause.
    pub(crate) held: usize,
    /// Clients that cannot have an ambassador as they are.
    pub(crate) refused: usize,
    /// The ambassadors that there must be now.
    pub(crate) wanted: BTreeSet<Identity>,
}

impl Pass<'_> {
    /// Makes one pass.
    pub(crate) async fn once(&self, memory: &mut Memory) -> Result<Done, Error> {
        let found = self.engine.list().await?;
        self.sweep(&found);
        let Found { clients, ambassadors, unknown } = found;
        let ours = |project: &str| self.project.is_none_or(|only| only == project);
        // Those of other projects are left alone, and those of whom nothing is known now.
        let others = clients.iter().filter(|one| !ours(&one.project)).map(|one| one.id.clone());
        let others: BTreeSet<_> = others.chain(unknown.keys().cloned()).collect();
        let clients: Vec<_> = clients.into_iter().filter(|client| ours(&client.project)).collect();
        let ambassadors: Vec<_> = ambassadors
            .into_iter()
            .filter(|one| ours(&one.identity.project) && !others.contains(&one.identity.container))
            .collect();
        let unknown: Vec<_> = unknown.iter().filter(|(_, one)| ours(&one.project)).collect();
        for (id, Unknown { why, .. }) in &unknown {
            tracing::warn!(client = id, %why, "its ambassador stays as it is");
        }
        self.metrics.looked(clients.len(), ambassadors.len());
        let wanted = self.wanted(&clients, &mut memory.warned);
        let others = others.iter().map(String::as_str).collect();
        let untold = self.publish(&wanted, &others);
        let mut actions = plan(&wanted, &ambassadors);
        self.judge(&clients, &actions, &mut memory.early).await;
        let now = Instant::now();
        memory.early.forget(&wanted, &ambassadors, now);
        let held = wanted.iter().filter(|identity| memory.early.holds(identity, now)).count();
        // What has ended stays until it is replaced, and its log with it.
        actions.retain(|action| !memory.early.holds(action.identity(), now));
        let failed = carry_out(self.engine, Some(&self.recipe), self.metrics, &actions).await;
        // Of what is only removed the passes' own pauses take care.
        for identity in failed.iter().filter(|identity| wanted.contains(**identity)) {
            memory.early.failed(identity, Instant::now());
        }
        let refused = clients.len() - wanted.len();
        Ok(Done { failures: failed.len() + untold + unknown.len(), held, refused, wanted })
    }

    /// Finds out which ambassadors that are to be replaced ended soon after their starts, and says so once for each client.
    async fn judge(&self, clients: &[Client], actions: &[Action<'_>], early: &mut Early) {
        let created: BTreeSet<_> = actions
            .iter()
            .filter(|action| matches!(action, Action::Create(_)))
            .map(Action::identity)
            .collect();
        let ended = actions.iter().filter_map(|action| match action {
            Action::Remove(one) if !one.running && created.contains(&one.identity) => Some(*one),
            _ => None,
        });
        let new: Vec<_> = ended.filter(|one| early.is_new(one)).collect();
        let mut asked = futures_util::stream::iter(new)
            .map(async |one| (one, self.engine.ended(&one.id).await))
            .buffer_unordered(AT_ONCE);
        while let Some((one, ended)) = asked.next().await {
            let Some(Ended { ran, exit_code }) = ended else { continue };
            let end = early.judge(one, ran, Instant::now());
            if end == End::Late {
                continue;
            }
            self.metrics.action_failed();
            if end == End::First {
                let id = &one.identity.container;
                let name =
                    clients.iter().find(|client| client.id == *id).map(|client| &client.name);
                let log = self.engine.last_lines(&one.id).await;
                tracing::warn!(
                    client = name.unwrap_or(id),
                    exit_code,
                    ?ran,
                    log,
                    "its ambassador ended soon after its start, and is replaced ever more slowly"
                );
            }
        }
    }

    /// Returns what there must be, and says which clients cannot have it.
    fn wanted(&self, clients: &[Client], warned: &mut Warned) -> BTreeSet<Identity> {
        let settings = self.recipe.settings();
        let mut wanted = BTreeSet::new();
        for client in clients {
            match desired(client, &settings) {
                Ok(identity) => drop(wanted.insert(identity)),
                Err(reason) => {
                    if warned.insert((client.id.clone(), reason.clone())) {
                        let name = &client.name;
                        tracing::warn!(client = name, %reason, "no ambassador for this client");
                    }
                }
            }
        }
        warned.retain(|(id, _)| clients.iter().any(|client| client.id == *id));
        wanted
    }

    /// Tells confd of the ambassadors; returns how often that failed.
    fn publish(&self, wanted: &BTreeSet<Identity>, others: &BTreeSet<&str>) -> usize {
        let failures = resources::publish(self.folder, self.template, wanted, others);
        for error in &failures {
            tracing::warn!("confd is not told of ambassadors: {error:#}");
            self.metrics.action_failed();
        }
        failures.len()
    }

    /// Returns how many ambassadors are out of confd's reach although they had time to come up, and says so if there were
    /// none `before`.
    pub(crate) fn unseen(&self, wanted: &BTreeSet<Identity>, before: usize) -> usize {
        let absent = |identity: &&Identity| !come_up::socket(self.folder, identity).exists();
        let unseen = wanted.iter().filter(absent).count();
        if unseen > 0 && before == 0 {
            tracing::warn!(
                "{unseen} of {} ambassadors cannot be seen in {}, and confd cannot configure them: is the volume {:?} mounted there?",
                wanted.len(),
                self.folder.display(),
                self.recipe.volume
            );
        }
        unseen
    }

    /// Tidies the volume up; what is left over does no harm.
    fn sweep(&self, found: &Found) {
        let clients = found.clients.iter().map(|client| &client.id).chain(found.unknown.keys());
        let served = found.ambassadors.iter().map(|one| &one.identity.container);
        let wanted = clients.chain(served).map(String::as_str).collect();
        if let Err(error) = sweep(self.folder, &wanted, SystemTime::now()) {
            tracing::warn!(%error, "the directories of clients that have gone are left");
        }
    }
}

/// Carries the actions out, those of several clients at once; returns what those that failed were about.
pub(crate) async fn carry_out<'a>(
    engine: &Engine,
    recipe: Option<&Recipe>,
    metrics: &Metrics,
    actions: &[Action<'a>],
) -> Vec<&'a Identity> {
    let done = futures_util::stream::iter(by_client(actions))
        .map(async |actions| {
            let mut failed = Vec::new();
            for action in &actions {
                if !carry_out_one(engine, recipe, metrics, action).await {
                    failed.push(action.identity());
                }
            }
            failed
        })
        .buffer_unordered(AT_ONCE);
    done.concat().await
}

async fn carry_out_one(
    engine: &Engine,
    recipe: Option<&Recipe>,
    metrics: &Metrics,
    action: &Action<'_>,
) -> bool {
    let began = Instant::now();
    let (done, verb, container) = match (action, recipe) {
        (Action::Remove(ambassador), _) => {
            (engine.remove(&ambassador.id).await, "removed", &ambassador.identity.container)
        }
        (Action::Create(identity), Some(recipe)) => {
            (engine.create(recipe, identity).await, "created", &identity.container)
        }
        (Action::Create(_), None) => return false,
    };
    match done {
        Ok(()) => {
            tracing::info!(client = container, "ambassador {verb}");
            match action {
                Action::Create(_) => metrics.created(began.elapsed()),
                Action::Remove(_) => metrics.removed(),
            }
            true
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::warn!(client = container, "ambassador not {verb}: {error:#}");
            metrics.action_failed();
            false
        }
    }
}
