//! One worker for one destination: two would overwrite each other's text for ever.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{AGAIN, Running, Supervisor, files};
use crate::board::Phase;
use crate::resource::{self, Resource};
use crate::template::Templates;

impl Supervisor {
    /// Tells whether the worker of `resource`, or those of what it stands for, have the destination that its file says.
    pub(super) fn is_at_work(&self, resource: &Resource) -> bool {
        let same = |other: &Resource| other.name == resource.name && other.dest == resource.dest;
        if resource.for_each.is_some() {
            return self.resources.iter().any(same);
        }
        self.running.get(&resource.name).is_some_and(|running| same(&running.resource))
    }

    /// Ends a worker that has the destination of `resource` and moves to another; if it stays, returns its name. `loads`
    /// says whether `resource` has templates.
    pub(super) async fn make_way(
        &mut self,
        resource: &Resource,
        loads: bool,
        wanted: &[Resource],
    ) -> Result<(), String> {
        let Some(owner) = self.in_the_way(resource) else { return Ok(()) };
        // Its worker goes on where it is, and needs no other place.
        if !loads && self.running.contains_key(&resource.name) {
            return Ok(());
        }
        if !self.moves(&owner, resource, wanted) {
            return Err(owner);
        }
        if let Some(guard) = self.stop(&owner).await {
            self.moved.insert(owner, guard);
        }
        Ok(())
    }

    /// Returns whose worker has the destination of `resource`, if it is not its own.
    fn in_the_way(&self, resource: &Resource) -> Option<String> {
        let has = |(name, other): &(&String, &Running)| {
            **name != resource.name && other.resource.dest == resource.dest
        };
        self.running.iter().find(has).map(|(name, _)| name.clone())
    }

    /// Tells whether the worker `owner` goes on elsewhere when it leaves its destination to `resource`: a worker that is
    /// ended and cannot start again would be lost.
    fn moves(&self, owner: &str, resource: &Resource, wanted: &[Resource]) -> bool {
        let (mut owner, mut dest) = (owner.to_owned(), &resource.dest);
        let mut asked = BTreeSet::new();
        while asked.insert(owner.clone()) {
            // Whose file is wrong now is not among the wanted ones, and goes on as it was; so does who has no templates.
            let moved = wanted.iter().find(|other| other.name == owner && other.dest != *dest);
            let moved = moved.filter(|moved| Templates::load(&self.confdir, moved).is_ok());
            let Some(moved) = moved else { return false };
            match self.in_the_way(moved) {
                None => return true,
                // They change places.
                Some(next) if next == resource.name => return true,
                // It has to move first.
                Some(next) => (owner, dest) = (next, &moved.dest),
            }
        }
        false
    }

    /// Leaves a resource as it was, because its destination is that of `owner`.
    pub(super) fn refuse(&mut self, name: &str, owner: &str) {
        let file = |name: &str| resource::parts(name).map_or(name, |(of, _)| of).to_owned();
        let why = format!("{}.toml: {}", file(name), resource::taken(&file(owner)));
        let phase = Phase::Failing(why.clone());
        if self.shared.board.phase(&files(name)).as_ref() != Some(&phase) {
            tracing::error!(resource = name, "{why}");
        }
        // Where nothing runs under its name, it is what the resource itself is doing.
        if !self.running.contains_key(name) {
            self.shared.board.report(name, phase.clone());
        }
        self.shared.board.report(&files(name), phase);
        self.retry = Some(Instant::now() + AGAIN);
    }
}
