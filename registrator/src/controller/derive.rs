//! From containers to instances, again whenever what shapes them has changed.

use services::NetworkMode;

use super::Controller;
use super::known::Known;

impl Controller {
    /// Works out the instances of a container.
    pub(super) fn derive(&mut self, id: &str) {
        let Some(known) = self.containers.get(id) else { return };
        let Some(container) = &known.container else { return };
        let mut options = self.parts.options.clone();
        options.tags.clone_from(&known.tags);
        let owner = |wanted: &str| {
            let named =
                |known: &&Known| known.container.as_ref().is_some_and(|one| one.name == wanted);
            let known = self.containers.get(wanted);
            known.or_else(|| self.containers.values().find(named))?.container.as_ref()
        };
        let derived = services::instances(container, &options, &self.parts.node, &owner);
        let name = container.name.clone();
        for warning in derived.warnings {
            self.warn(id, &name, warning.to_string());
        }
        if let Some(known) = self.containers.get_mut(id) {
            known.set_instances(derived.instances, self.without_commands);
        }
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
