//! From containers to instances, again whenever what shapes them has changed.

use services::{Container, NetworkMode};

use super::Controller;
use super::known::Known;

impl Controller {
    /// Works out the instances of a container.
    pub(super) fn derive(&mut self, id: &str) {
        let Some(known) = self.containers.get(id) else { return };
        let Some(container) = &known.container else { return };
        self.due.containers.insert(id.to_owned());
        if self.awaits_owner(container) {
            self.guests.insert(id.to_owned());
            return;
        }
        let mut options = self.parts.options.clone();
        options.tags.clone_from(&known.tags);
        let owner = |wanted: &str| self.owner(wanted);
        let derived = services::instances(container, &options, &self.parts.node, &owner);
        let name = container.name.clone();
        self.guests.remove(id);
        if derived.is_system {
            tracing::debug!(
                container = name,
                "left out as a part of this system; SERVICE_NAME registers it all the same"
            );
        }
        for warning in derived.warnings {
            self.warn(id, &name, warning.to_string());
        }
        if let Some(known) = self.containers.get_mut(id) {
            known.set_instances(derived.instances, self.without_commands);
        }
    }

    /// Returns the container whose network another one uses, by its ID or name.
    fn owner(&self, wanted: &str) -> Option<&Container> {
        let named = |known: &&Known| known.container.as_ref().is_some_and(|one| one.name == wanted);
        let known = self.containers.get(wanted);
        known.or_else(|| self.containers.values().find(named))?.container.as_ref()
    }

    /// Tells whether a container uses the network of one that has yet to be looked at.
    fn awaits_owner(&self, container: &Container) -> bool {
        let NetworkMode::Container(owner) = &container.network_mode else { return false };
        self.owner(owner).is_none() && (!self.look.listed || self.look.is_pending(owner))
    }

    /// Works out again the instances of all containers that use this one's network.
    pub(super) fn derive_guests(&mut self, id: &str, name: &str) {
        let guests: Vec<_> = self
            .containers
            .iter()
            .filter(|(_, known)| {
                known.container.as_ref().is_some_and(|guest| {
                    matches!(&guest.network_mode, NetworkMode::Container(host) if host == id || host == name)
                })
            })
            .map(|(guest, _)| guest.clone())
            .collect();
        for guest in guests {
            self.derive(&guest);
        }
    }

    /// Works out all instances again, after what shapes them has changed.
    pub(crate) fn derive_all(&mut self) {
        for id in self.containers.keys().cloned().collect::<Vec<_>>() {
            self.derive(&id);
        }
    }

    /// Says what is wrong with a container, once.
    pub(crate) fn warn(&mut self, id: &str, name: &str, problem: String) {
        let Some(known) = self.containers.get_mut(id) else { return };
        if known.warnings.contains(&problem) {
            return;
        }
        self.parts.metrics.warnings.inc();
        tracing::warn!(container = name, problem, "a setting cannot be used");
        known.warnings.insert(problem);
    }
}
