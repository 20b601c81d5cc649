//! Keeps one worker per resource, and gives them new templates when files change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::board::Phase;
use crate::reload::Reasons;
use crate::resource::{self, Resource};
use crate::template::Templates;
use crate::worker::{Shared, Worker};

/// A worker as the supervisor sees it.
struct Running {
    resource: Resource,
    templates: watch::Sender<Option<Arc<Templates>>>,
    token: CancellationToken,
    task: Id,
}

/// Keeps one worker per resource.
pub struct Supervisor {
    confdir: PathBuf,
    shared: Shared,
    token: CancellationToken,
    tasks: JoinSet<()>,
    running: BTreeMap<String, Running>,
}

impl Supervisor {
    /// Prepares the work on the resources of `confdir` until `token` is cancelled.
    #[must_use]
    pub fn new(confdir: PathBuf, shared: Shared, token: CancellationToken) -> Self {
        Self { confdir, shared, token, tasks: JoinSet::new(), running: BTreeMap::new() }
    }

    /// Works until cancelled; returns when every worker has finished.
    pub async fn run(mut self, mut reasons: Reasons) {
        self.read().await;
        loop {
            tokio::select! {
                () = self.token.cancelled() => break,
                () = reasons.next() => self.read().await,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    /// Reads all resources and templates: starts, changes and ends workers accordingly.
    async fn read(&mut self) {
        let (resources, errors) = resource::load(&self.confdir);
        for error in &errors {
            tracing::error!(error = full(error), "left out a resource; what it was before stays");
        }
        let names: BTreeSet<&str> = resources.iter().map(|r| r.name.as_str()).collect();
        // A file that is wrong is not a file that is gone.
        let broken: BTreeSet<String> =
            errors.iter().filter_map(resource::Error::resource).collect();
        let gone: Vec<String> = self
            .running
            .keys()
            .filter(|name| !names.contains(name.as_str()) && !broken.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            tracing::info!(resource = name, "is gone: its destination stays as it is");
            self.stop(&name).await;
            self.shared.watches.forget(&name);
            self.shared.board.forget(&name);
        }
        for resource in resources {
            self.take(resource).await;
        }
    }

    /// Brings the worker of `resource` up to date, starting it if there is none.
    async fn take(&mut self, resource: Resource) {
        let name = resource.name.clone();
        let templates = match Templates::load(&self.confdir, &resource) {
            Ok(templates) => Some(Arc::new(templates)),
            Err(error) => {
                let why = full(&error);
                tracing::error!(resource = name, "{why}");
                self.shared.metrics.render_errors.get_or_create(&label(&name)).inc();
                self.shared.board.report(&name, Phase::Failing(why));
                None
            }
        };
        match self.running.get(&name) {
            Some(running) if running.resource == resource => {
                if let Some(templates) = templates {
                    running.templates.send_replace(Some(templates));
                    tracing::info!(resource = name, "read again");
                }
            }
            Some(_) if templates.is_none() => {}
            Some(_) => {
                self.stop(&name).await;
                self.start(resource, templates);
            }
            None => self.start(resource, templates),
        }
    }

    fn start(&mut self, resource: Resource, templates: Option<Arc<Templates>>) {
        let name = resource.name.clone();
        let (sender, receiver) = watch::channel(templates);
        match Worker::new(resource.clone(), receiver, self.shared.clone()) {
            Ok(worker) => {
                let token = self.token.child_token();
                let task = self.tasks.spawn(worker.run(token.clone())).id();
                self.running.insert(name, Running { resource, templates: sender, token, task });
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::error!(resource = name, "{why}");
                self.shared.board.report(&name, Phase::Failing(why));
            }
        }
    }

    /// Ends the worker `name`, and waits for it: two must never write one destination.
    async fn stop(&mut self, name: &str) {
        let Some(running) = self.running.remove(name) else { return };
        running.token.cancel();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let id = id(&ended);
            self.ended(ended);
            if id == running.task {
                return;
            }
        }
    }

    /// A worker ends when it is told to; one that panicked is started again when files change.
    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = id(&ended);
        let Some(name) =
            self.running.iter().find(|(_, r)| r.task == id).map(|(name, _)| name.clone())
        else {
            return;
        };
        self.running.remove(&name);
        if let Err(error) = ended {
            tracing::error!(resource = name, %error, "its worker broke");
            self.shared.board.report(&name, Phase::Failing("its worker broke".into()));
        }
    }
}

fn id(ended: &Result<(Id, ()), tokio::task::JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}

fn label(name: &str) -> crate::metrics::OfResource {
    crate::metrics::OfResource { resource: name.to_owned() }
}

fn full(error: &(dyn std::error::Error + 'static)) -> String {
    crate::pass::chain(error)
}
