//! The keys of a pass: deleted before their instances go, written after they came.

use std::collections::BTreeSet;

use super::Controller;
use crate::mirror::Keys;
use crate::plan::Action;

impl Controller {
    /// Asks what the keys are, if that is not known; tells whether all must be compared.
    pub(super) async fn refresh_mirror(&mut self) -> Result<bool, consul::Error> {
        let Some(mirror) = &mut self.parts.mirror else { return Ok(false) };
        if !mirror.stale {
            return Ok(false);
        }
        let (desired, actual) = (&self.desired, &self.actual);
        let host = &self.parts.node.name;
        mirror
            .refresh(|id| {
                let owned = actual.as_ref().and_then(|actual| actual.get(id));
                desired.contains_key(id) || owned.is_some_and(|one| one.is_owned_by(host))
            })
            .await?;
        Ok(true)
    }

    /// Deletes the keys of instances that go, and (`everything`) of those that are not there.
    pub(super) async fn remove_keys(
        &mut self,
        removals: &[Action],
        everything: bool,
    ) -> Result<(), consul::Error> {
        let Some(mirror) = &mut self.parts.mirror else { return Ok(()) };
        let gone: BTreeSet<&str> = removals
            .iter()
            .filter_map(|action| match action {
                Action::Deregister(id) => Some(id.as_str()),
                _ => None,
            })
            .collect();
        let actual = self.actual.as_ref();
        let keys: Vec<_> = mirror
            .held()
            .keys()
            .filter(|key| {
                let id = mirror.id(key);
                match self.desired.get(id) {
                    Some(desired) => **key != mirror.key(desired),
                    // What is still registered is not yet looked at.
                    None => {
                        gone.contains(id)
                            || (everything && actual.is_some_and(|all| !all.contains_key(id)))
                    }
                }
            })
            .cloned()
            .collect();
        if keys.is_empty() { Ok(()) } else { mirror.delete(&keys).await }
    }

    /// Writes the keys of the instances that were touched, or of all.
    pub(super) async fn write_keys(
        &mut self,
        touched: &BTreeSet<String>,
        everything: bool,
    ) -> Result<(), consul::Error> {
        let (Some(mirror), Some(actual)) = (&mut self.parts.mirror, &self.actual) else {
            return Ok(());
        };
        let wanted = |id: &&String| everything || touched.contains(*id);
        let keys: Keys = self
            .desired
            .keys()
            .filter(wanted)
            .filter_map(|id| Some((&self.desired[id], actual.get(id)?)))
            .map(|(desired, actual)| (mirror.key(desired), mirror.value(desired, &actual.service)))
            .collect();
        let others = mirror.write(keys).await?;
        if others > 0 {
            tracing::warn!(keys = others, "another node holds keys of the same IDs, they stay its");
        }
        if mirror.stale {
            self.due = true;
        }
        Ok(())
    }
}
