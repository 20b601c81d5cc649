//! Which instances belong into a backend that is named after a port. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use consul::ServiceEntry;

use super::report::port_of;

/// Where an instance says at which of its container's ports it is.
const PORT: &str = "container-port";

/// The container's ports of all instances, by service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports(BTreeMap<String, BTreeSet<String>>);

impl Ports {
    /// Learns those of some instances.
    pub(crate) fn add(&mut self, instances: &[ServiceEntry]) {
        for entry in instances {
            let ports = self.0.entry(entry.service.name.clone()).or_default();
            ports.extend(entry.service.meta.get(PORT).cloned());
        }
    }

    /// Tells whether an instance belongs into a backend of its service: one that is for a port has the instances at that
    /// port, and all only if nobody says that it is at it.
    pub(crate) fn belongs(&self, entry: &ServiceEntry, backend: &str) -> bool {
        let service = &entry.service;
        let Some(wanted) = port_of(backend, &service.name) else { return true };
        let said = self.0.get(&service.name).is_some_and(|ports| ports.contains(wanted));
        !said || service.meta.get(PORT).is_some_and(|own| own == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(port: Option<&str>) -> ServiceEntry {
        let mut entry = ServiceEntry::default();
        entry.service.name = "web".into();
        entry.service.meta.extend(port.map(|port| (PORT.to_owned(), port.to_owned())));
        entry
    }

    #[test]
    fn a_backend_that_is_for_a_port_has_the_instances_at_it() {
        let all = [entry(Some("80")), entry(Some("443")), entry(None)];
        let mut ports = Ports::default();
        ports.add(&all);
        for (backend, belong) in [
            ("web_80", [true, false, false]),
            ("tcp_web_443", [false, true, false]),
            ("http_web", [true, true, true]),
            // Nobody is at that port, so all may be meant.
            ("web_9000", [true, true, true]),
            ("other_80", [true, true, true]),
        ] {
            assert_eq!(all.each_ref().map(|one| ports.belongs(one, backend)), belong, "{backend}");
        }
    }
}
