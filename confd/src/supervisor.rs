//! Keeps one worker per resource, and gives them new templates when files change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::error::chain;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use each::Each;

use crate::board::{FILES, Phase};
use crate::guard::Guard;
use crate::reload::{Reason, Reasons};
use crate::resource::{self, Resource};
use crate::template::{self, Templates};
use crate::worker::{Shared, Worker, at};

mod dest;
mod each;

/// After how long a worker that could not start, or broke, is started again.
const AGAIN: Duration = Duration::from_secs(5);

/// The name under which the board shows that the folder of the resources cannot be read.
const FOLDER: &str = "conf.d";

/// How a worker ended.
type Ended = Result<(Id, Guard), tokio::task::JoinError>;

/// A worker as the supervisor sees it.
struct Running {
    resource: Resource,
    templates: watch::Sender<Option<Arc<Templates>>>,
    /// What tells the templates that were read last from others; `None` where they could not be read.
    digest: Option<String>,
    token: CancellationToken,
    task: Id,
}

/// Keeps one worker per resource.
pub struct Supervisor {
    confdir: PathBuf,
    shared: Shared,
    token: CancellationToken,
    tasks: JoinSet<Guard>,
    running: BTreeMap<String, Running>,
    /// What the files say.
    resources: Vec<Resource>,
    /// The resources whose files are wrong.
    broken: BTreeSet<String>,
    each: Each,
    /// The resources that stand for several.
    each_names: BTreeSet<String>,
    /// What those held that had to give up their destination to others, and are about to go on with another one.
    moved: BTreeMap<String, Guard>,
    /// When workers that could not start, or broke, are started again.
    retry: Option<Instant>,
    /// When a folder that could not be read is read again.
    reread: Option<Instant>,
}

impl Supervisor {
    /// Prepares the work on the resources of `confdir` until `token` is cancelled.
    #[must_use]
    pub fn new(confdir: PathBuf, shared: Shared, token: CancellationToken) -> Self {
        Self {
            confdir,
            each: Each::new(shared.watches.snapshot()),
            shared,
            token,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            resources: Vec::new(),
            broken: BTreeSet::new(),
            each_names: BTreeSet::new(),
            moved: BTreeMap::new(),
            retry: None,
            reread: None,
        }
    }

    /// Works until cancelled; returns when every worker has finished.
    pub async fn run(mut self, mut reasons: Reasons) {
        self.read(Reason::Edit).await;
        loop {
            tokio::select! {
                () = self.token.cancelled() => break,
                reason = reasons.next() => self.read(reason).await,
                () = self.each.changed() => self.settle(None).await,
                () = at(self.retry) => {
                    self.retry = None;
                    self.settle(None).await;
                }
                () = at(self.reread) => self.read(Reason::Edit).await,
                Some(ended) = self.tasks.join_next_with_id() => drop(self.ended(ended)),
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    /// Reads all resources and templates: starts, changes and ends workers accordingly.
    async fn read(&mut self, reason: Reason) {
        let (resources, errors) =
            resource::load_beside(&self.confdir, |resource| self.is_at_work(resource));
        self.reread = None;
        // The folder itself: it is being replaced, or the system has no more files for us. That is not the end of all.
        if let [error] = &errors[..]
            && error.resource().is_none()
        {
            return self.cannot_read(chain(error));
        }
        self.shared.board.forget(FOLDER);
        for error in &errors {
            let known = error.resource().and_then(|name| self.shared.board.phase(&files(&name)));
            if known != Some(Phase::Failing(chain(error))) {
                tracing::error!(
                    error = chain(error),
                    "left out a resource; what it was before stays"
                );
            }
            if matches!(error, resource::Error::Read { .. }) {
                self.reread = Some(Instant::now() + AGAIN);
            }
        }
        for name in std::mem::take(&mut self.broken) {
            self.shared.board.forget(&files(&name));
        }
        for error in &errors {
            if let Some(name) = error.resource() {
                self.shared.board.report(&files(&name), Phase::Failing(chain(error)));
                self.broken.insert(name);
            }
        }
        let broken = &self.broken;
        // Ambassadors come and go while a file is wrong: what it said before counts.
        self.resources.retain(|old| old.for_each.is_some() && broken.contains(&old.name));
        self.resources.extend(resources);
        self.settle(Some(reason)).await;
    }

    /// Keeps everything as it is for a while.
    fn cannot_read(&mut self, why: String) {
        if self.shared.board.phase(FOLDER) != Some(Phase::Failing(why.clone())) {
            tracing::error!(error = why, "what was before stays");
        }
        self.shared.board.report(FOLDER, Phase::Failing(why));
        self.reread = Some(Instant::now() + AGAIN);
    }

    /// Brings the workers in line with what the files say, and with the ambassadors that there are. Templates are read
    /// again if there is a reason.
    async fn settle(&mut self, reason: Option<Reason>) {
        let wanted = self.wanted();
        self.end(&wanted).await;
        for resource in &wanted {
            let known = self.running.get(&resource.name);
            if reason.is_some() || known.is_none_or(|running| running.resource != *resource) {
                let templates = Templates::load(&self.confdir, resource);
                match self.make_way(resource, templates.is_ok(), &wanted).await {
                    Ok(()) => self.take(resource.clone(), templates, reason).await,
                    Err(owner) => self.refuse(&resource.name, &owner),
                }
            }
        }
        self.moved.clear();
    }

    /// Brings the worker of `resource` up to date, starting it if there is none.
    async fn take(
        &mut self,
        resource: Resource,
        templates: Result<Templates, template::Error>,
        reason: Option<Reason>,
    ) {
        let name = resource.name.clone();
        let templates = match templates {
            Ok(templates) => {
                self.shared.board.forget(&files(&name));
                Some(Arc::new(templates))
            }
            Err(error) => {
                let why = chain(&error);
                if self.shared.board.phase(&files(&name)) != Some(Phase::Failing(why.clone())) {
                    tracing::error!(resource = name, "{why}");
                }
                self.shared.metrics.render_errors.get_or_create(&label(&name)).inc();
                // The worker goes on with the old ones and may say that all is well; this stays until they are good.
                self.shared.board.report(&files(&name), Phase::Failing(why.clone()));
                self.shared.board.report(&name, Phase::Failing(why));
                None
            }
        };
        let digest = templates.as_ref().map(|templates| templates.digest().to_owned());
        match self.running.get_mut(&name) {
            Some(running) if running.resource == resource => {
                let same = running.digest == digest && reason != Some(Reason::Hangup);
                running.digest = digest;
                if let Some(templates) = templates.filter(|_| !same) {
                    // Said first: the worker may be done before this line would be.
                    tracing::info!(resource = name, "read again");
                    running.templates.send_replace(Some(templates));
                }
            }
            Some(_) if templates.is_none() => {}
            Some(_) => {
                let guard = self.stop(&name).await;
                self.start(resource, templates, guard);
            }
            None => {
                let guard = self.moved.remove(&name);
                self.start(resource, templates, guard);
            }
        }
    }

    /// Starts the worker of `resource`, which goes on with the `guard` of the one before.
    fn start(
        &mut self,
        resource: Resource,
        templates: Option<Arc<Templates>>,
        guard: Option<Guard>,
    ) {
        let name = resource.name.clone();
        let digest = templates.as_ref().map(|templates| templates.digest().to_owned());
        let (sender, receiver) = watch::channel(templates);
        match Worker::new(resource.clone(), receiver, self.shared.clone()) {
            Ok(mut worker) => {
                if let Some(guard) = guard {
                    worker.go_on_with(guard);
                }
                let token = self.token.child_token();
                let task = self.tasks.spawn(worker.run(token.clone())).id();
                let running = Running { resource, templates: sender, digest, token, task };
                self.running.insert(name, running);
            }
            Err(error) => {
                let (why, phase) = (format!("{error:#}"), self.shared.board.phase(&name));
                if phase != Some(Phase::Failing(why.clone())) {
                    tracing::error!(resource = name, "{why}");
                }
                self.shared.board.report(&name, Phase::Failing(why));
                self.retry = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// Ends the worker `name`, and waits for it: two must never write one destination. Returns what it held.
    async fn stop(&mut self, name: &str) -> Option<Guard> {
        let running = self.running.remove(name)?;
        running.token.cancel();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let id = id(&ended);
            let guard = self.ended(ended);
            if id == running.task {
                return guard;
            }
        }
        None
    }

    /// A worker ends when it is told to; one that panicked is started again after a while.
    fn ended(&mut self, ended: Ended) -> Option<Guard> {
        let id = id(&ended);
        let name = self.running.iter().find(|(_, r)| r.task == id).map(|(name, _)| name.clone());
        if let Some(name) = &name {
            self.running.remove(name);
        }
        match (ended, name) {
            (Ok((_, guard)), _) => Some(guard),
            (Err(error), Some(name)) => {
                tracing::error!(resource = name, %error, "its worker broke");
                self.shared.board.report(&name, Phase::Failing("its worker broke".into()));
                self.retry = Some(Instant::now() + AGAIN);
                None
            }
            (Err(_), None) => None,
        }
    }
}

/// Returns the name under which the board shows that the files of a resource are wrong.
fn files(name: &str) -> String {
    format!("{name}{FILES}")
}

fn id(ended: &Ended) -> Id {
    match ended {
        Ok((id, _)) => *id,
        Err(error) => error.id(),
    }
}

fn label(name: &str) -> crate::metrics::OfResource {
    crate::metrics::OfResource { resource: name.to_owned() }
}
