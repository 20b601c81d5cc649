//! One worker for one destination: two would overwrite each other's text for ever.

use tokio::time::Instant;

use super::{AGAIN, Supervisor, files};
use crate::board::Phase;
use crate::resource::{self, Resource};

impl Supervisor {
    /// Tells whether the worker of `resource`, or those of what it stands for, have the destination that its file says.
    pub(super) fn is_at_work(&self, resource: &Resource) -> bool {
        let same = |other: &Resource| other.name == resource.name && other.dest == resource.dest;
        if resource.for_each.is_some() {
            return self.resources.iter().any(same);
        }
        self.running.get(&resource.name).is_some_and(|running| same(&running.resource))
    }

    /// Ends a worker that has the destination of `resource` and is to move to another; if it is to stay, returns its name.
    pub(super) async fn make_way(
        &mut self,
        resource: &Resource,
        wanted: &[Resource],
    ) -> Result<(), String> {
        let in_the_way = self
            .running
            .iter()
            .find(|(name, other)| **name != resource.name && other.resource.dest == resource.dest);
        let Some(owner) = in_the_way.map(|(name, _)| name.clone()) else { return Ok(()) };
        // Whose file is wrong now is not among the wanted ones, and goes on as it was.
        let moves = wanted.iter().any(|other| other.name == owner && other.dest != resource.dest);
        if !moves {
            return Err(owner);
        }
        if let Some(guard) = self.stop(&owner).await {
            self.moved.insert(owner, guard);
        }
        Ok(())
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
