//! How a worker begins: with what is on the disk, and with what was accepted before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Shared, Wanted, Worker};
use crate::arrivals::Arrivals;
use crate::check::Check;
use crate::damp::Damper;
use crate::disk::{self, Access};
use crate::guard::Guard;
use crate::haproxy::{Haproxy, Settings};
use crate::metrics::OfResource;
use crate::pass::is_absent;
use crate::persist::Destination;
use crate::resource::{Action, Resource};
use crate::snapshot::Snapshot;
use crate::state::{Generation, State};
use crate::template::Templates;
use crate::wait::Collecting;

impl Worker {
    /// Prepares the work on `resource`: looks at the disk, and at what was accepted before.
    pub fn new(
        resource: Resource,
        templates: watch::Receiver<Option<Arc<Templates>>>,
        shared: Shared,
    ) -> anyhow::Result<Self> {
        let state = State::open(&shared.state_dir, &resource.name);
        // A single run may be made beside the daemon, which may be about to finish just that.
        if shared.programs.is_none() {
            state.sweep();
            disk::sweep_beside(&resource.dest);
        }
        // What cannot be read is as if nothing had been accepted yet.
        let unread = |error: &std::io::Error| {
            tracing::error!(resource = resource.name, %error, "cannot read what was accepted before");
        };
        let remembered: Option<Arc<str>> =
            state.accepted().inspect_err(unread).ok().flatten().map(Into::into);
        let on_disk: Option<Arc<str>> = disk::read(&resource.dest)
            .with_context(|| format!("cannot read {}", resource.dest.display()))?
            .map(Into::into);
        let actions = resource.actions();
        // Whoever reads the destination may have read what somebody else has put there meanwhile.
        let ours = remembered == on_disk || on_disk.as_ref().is_some_and(|t| state.is_written(t));
        let loaded = remembered.clone().filter(|_| ours);
        let accepted = loaded.as_deref().map(ToOwned::to_owned);
        let haproxy = match &resource.haproxy {
            Some(haproxy) if actions.contains(&Action::HaProxy) => {
                let mut settings = Settings::new(haproxy.runtime.clone(), haproxy.master.clone());
                settings.drain_timeout = haproxy.drain_timeout.0;
                Some(Haproxy::new(settings, accepted))
            }
            _ => None,
        };
        let others = actions
            .into_iter()
            .filter(|action| *action != Action::HaProxy)
            // A program that an earlier process ran has ended with it.
            .map(|action| (action, loaded.clone().filter(|_| action != Action::Exec)))
            .collect();
        let destination = destination(&resource, &state)?;
        let newest = newest(&state, &resource.name);
        let generation = newest.as_ref().map_or(0, |generation| generation.number);
        let inputs = newest.as_ref().map(|generation| generation.inputs.clone());
        let inputs = inputs.unwrap_or_default();
        if let Some(generation) = &newest {
            shared.watches.remember(&inputs, &generation.newest);
        }
        let guard = Guard::remembering(inputs);
        let proven = newest.map(|generation| Arc::new(Wanted::from(generation)));
        let asked = guard.guarded();
        // Until the source has answered, what was accepted last is what is wanted.
        let wanted = remembered.clone().map(|text| {
            let (asked, snapshot) = (BTreeSet::new(), Snapshot::default());
            Arc::new(Wanted { text, asked, snapshot, template: None, left_out: BTreeSet::new() })
        });
        let pinned = state.pinned().inspect_err(unread).ok().flatten();
        let stands_in = state.stands_in().inspect_err(unread).ok().flatten();
        let patience = shared.patience;
        let mut worker = Self {
            orders: shared.workers.join(&resource.name),
            arrivals: Arrivals::since(SystemTime::now()),
            seen: SystemTime::now(),
            fixed: None,
            snapshot: shared.watches.snapshot(),
            label: OfResource { resource: resource.name.clone() },
            collecting: Collecting::default(),
            delays: daemon::backoff::delays(),
            jitter: rand::random(),
            job: None,
            writing: None,
            joining: 0,
            generation: (generation, None),
            latency: None,
            last_problem: None,
            is_forgetful: false,
            last_reload: None,
            not_at_runtime: None,
            reload_reason: None,
            refused: None,
            retry: None,
            // An ambassador of this node, or one that may only just be coming.
            beginning: (resource.ambassador.is_some() || is_absent(&resource))
                .then(|| Instant::now() + patience),
            verified: false,
            resource,
            templates,
            shared,
            state,
            destination,
            haproxy,
            others,
            program: None,
            wanted,
            rendered: None,
            unrendered: None,
            proven,
            guard,
            damper: Damper::default(),
            left_out: Vec::new(),
            good: None,
            distrusted: None,
            asked,
            on_disk,
            remembered,
        };
        if let Some(generation) = pinned {
            worker.fix(generation, true, None);
        } else if let Some((generation, instead_of)) = stands_in {
            worker.fix(generation, false, Some(instead_of));
        }
        Ok(worker)
    }

    /// Goes on with what an earlier worker of the resource held: an edit must not let it go.
    pub fn go_on_with(&mut self, guard: Guard) {
        self.asked = guard.guarded();
        self.guard = guard;
    }
}

fn destination(resource: &Resource, state: &State) -> std::io::Result<Destination> {
    Ok(Destination {
        path: resource.dest.clone(),
        access: Access::of(resource)?,
        check: Check::of(resource),
        limit: resource.timeout.0,
        state: state.clone(),
    })
}

/// Returns the generation that was accepted last, if it is of any use.
fn newest(state: &State, resource: &str) -> Option<Generation> {
    let read = || state.numbers()?.last().map_or(Ok(None), |newest| state.generation(*newest));
    read().unwrap_or_else(|error: std::io::Error| {
        tracing::warn!(resource, %error, "the newest generation is of no use");
        None
    })
}
