//! The keys of a pass: deleted before their instances go, written after they came.

use std::collections::BTreeSet;

use super::Controller;
use crate::mirror::Keys;
use crate::plan::Action;

impl Controller {
    /// Deletes the keys of what goes; tells whether all must be compared afterwards, or `None` if the keys are to be
    /// left alone until they are tried again.
    pub(super) async fn prepare_keys(&mut self, actions: &[Action]) -> Option<bool> {
        if self.clock.keys.is_some() {
            return None;
        }
        let prepared = async {
            let everything = self.refresh_mirror().await?;
            self.remove_keys(actions, everything).await?;
            Ok(everything)
        };
        match prepared.await {
            Ok(everything) => Some(everything),
            Err(error) => {
                self.keys_done(Err(error));
                None
            }
        }
    }

    /// Asks what the keys are, if that is not known; tells whether all must be compared.
    async fn refresh_mirror(&mut self) -> Result<bool, consul::Error> {
        let Some(mirror) = &mut self.parts.mirror else { return Ok(false) };
        if !mirror.is_doubted() {
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

    /// Deletes the keys of instances that go or change their name, and (`everything`) of those that
    /// are not there.
    async fn remove_keys(
        &mut self,
        actions: &[Action],
        everything: bool,
    ) -> Result<(), consul::Error> {
        let Some(mirror) = &mut self.parts.mirror else { return Ok(()) };
        let concerned: BTreeSet<&str> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Deregister(id) => Some(id.as_str()),
                Action::Register(desired) => Some(desired.registration.id.as_str()),
                _ => None,
            })
            .collect();
        if concerned.is_empty() && !everything {
            return Ok(());
        }
        let actual = self.actual.as_ref();
        let keys: Vec<_> = mirror
            .held()
            .keys()
            .filter(|key| {
                let id = mirror.id(key);
                let concerned = concerned.contains(id);
                if !concerned && !everything {
                    return false;
                }
                match self.desired.get(id) {
                    Some(desired) => **key != mirror.key(desired),
                    // What is still registered is not yet looked at.
                    None => concerned || actual.is_some_and(|all| !all.contains_key(id)),
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
        let all = self.desired.keys().filter(|_| everything);
        let keys: Keys = all
            .chain(touched.iter().filter(|_| !everything))
            .filter_map(|id| Some((self.desired.get(id)?, actual.get(id)?)))
            .map(|(desired, actual)| (mirror.key(desired), mirror.value(desired, &actual.service)))
            .collect();
        let others = mirror.write(keys).await?;
        if others > 0 {
            tracing::warn!(keys = others, "another node holds keys of the same IDs, they stay its");
        }
        if mirror.is_doubted() {
            self.due = true;
        }
        Ok(())
    }
}
