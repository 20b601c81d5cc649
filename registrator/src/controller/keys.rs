//! The keys, as the loop sees them: it says what they must be, and waits for them only where something goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Controller;
use super::scope::Scope;
use crate::metrics::Metrics;
use crate::mirror::{self, Doubt, Layout, Mirror, Want, Wanted, Wants};

/// How long an instance that goes waits for its key to go first.
const PATIENCE: Duration = Duration::from_millis(500);

/// The keys, and the task that writes them.
pub(super) struct Keys {
    layout: Layout,
    wanted: Arc<Wanted>,
    /// How far what is known of them may be wrong; said with the next look at everything.
    doubt: Doubt,
    task: JoinSet<Mirror>,
    stop: CancellationToken,
}

impl Keys {
    /// Starts the task.
    pub(super) fn start(mirror: Mirror, renewal: Duration, metrics: Metrics) -> Self {
        let (layout, wanted) = (mirror.layout().clone(), Arc::<Wanted>::default());
        let (mut task, stop) = (JoinSet::new(), CancellationToken::new());
        task.spawn(mirror::keep(mirror, wanted.clone(), renewal, metrics, stop.clone()));
        // A run before this one may have left some.
        Self { layout, wanted, doubt: Doubt::All, task, stop }
    }

    /// Has what is known of the keys confirmed.
    pub(super) fn doubt(&mut self, doubt: Doubt) {
        self.doubt = self.doubt.max(doubt);
    }

    /// Returns how many are held.
    pub(super) fn held(&self) -> usize {
        self.wanted.progress().held
    }

    /// Waits a moment until they are what they must be.
    pub(super) async fn caught_up(&self) {
        self.wanted.caught_up(PATIENCE).await;
    }

    /// Ends the session, and with it the keys.
    pub(super) async fn end(&mut self) -> Result<(), consul::Error> {
        self.stop.cancel();
        match self.task.join_next().await {
            Some(Ok(mut mirror)) => mirror.end().await,
            _ => Ok(()),
        }
    }
}

impl Controller {
    /// Says what the keys must be once the instances in `gone` are no longer there.
    pub(super) fn want_keys(&mut self, scope: &Scope, gone: &BTreeSet<&str>) {
        let (Some(keys), Some(actual)) = (&mut self.keys, &self.actual) else { return };
        let (desired, host) = (&self.assembly.desired, &self.parts.node.name);
        let want = |id: &String| {
            let registered = actual.get(id).filter(|_| !gone.contains(id.as_str()))?;
            match desired.get(id) {
                Some(one) if registered.is_anothers(host, one) => None,
                Some(one) => {
                    let (key, value) = keys.layout.pair(one, &registered.service);
                    Some(Want::Is(key, value))
                }
                None => registered.is_owned_by(host).then_some(Want::Any),
            }
        };
        let (wants, everything): (Wants, bool) = match scope {
            Scope::Everything => (actual.keys().map(|id| (id.clone(), want(id))).collect(), true),
            Scope::Of(ids) => (ids.iter().map(|id| (id.clone(), want(id))).collect(), false),
        };
        let doubt = if everything { std::mem::take(&mut keys.doubt) } else { Doubt::No };
        keys.wanted.say(wants, everything, doubt);
    }
}
