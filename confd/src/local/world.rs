//! What one node's containers offer, and how it answers the questions that Consul answers elsewhere. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::dependency::{Dependency, Service};
use crate::instance::Instance;
use crate::snapshot::{Check, Data, Node};

/// Consul's name for the only datacenter there is.
pub(super) const DATACENTER: &str = "dc1";

/// What this node offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct World {
    pub(super) node: Node,
    pub(super) instances: Vec<Arc<Instance>>,
    pub(super) checks: Vec<Check>,
}

/// Tells why a question has no answer where there is only this node's engine.
pub(crate) fn unanswerable(question: &Dependency) -> Option<&'static str> {
    let dc = match question {
        Dependency::Service(Service { filter: Some(_), .. }) => {
            return Some("there is no `filter`; use the filters by_tag and by_meta");
        }
        Dependency::Service(Service { dc, .. })
        | Dependency::Services { dc }
        | Dependency::Nodes { dc }
        | Dependency::Node { dc, .. } => dc.as_deref(),
        _ => None,
    };
    dc.is_some_and(|dc| dc != DATACENTER).then_some("there is no other `dc` than this node's")
}

impl World {
    /// Answers a question as Consul would if this node were all there is.
    pub(crate) fn answer(&self, question: &Dependency) -> Data {
        match question {
            Dependency::Services { .. } => {
                let mut services = BTreeMap::<_, BTreeSet<_>>::new();
                for instance in &self.instances {
                    let tags = services.entry(instance.name.clone()).or_default();
                    tags.extend(instance.tags.iter().cloned());
                }
                Data::Services(services)
            }
            Dependency::Service(service) => Data::Instances(self.of(service)),
            Dependency::Nodes { .. } => Data::Nodes(vec![self.node.clone()]),
            Dependency::Node { name, .. } => Data::Node(
                (*name == self.node.name).then(|| (self.node.clone(), self.instances.clone())),
            ),
            Dependency::Datacenters => Data::Names(vec![DATACENTER.to_owned()]),
            Dependency::Key { .. } => Data::Key(None),
            Dependency::Prefix { .. } => Data::Keys(BTreeMap::new()),
            Dependency::Checks { state } => {
                let wanted = |check: &&Check| state == "any" || check.status == *state;
                Data::Checks(self.checks.iter().filter(wanted).cloned().collect())
            }
            Dependency::Ambassadors => Data::Ambassadors(Vec::new()),
        }
    }

    /// Returns a line for each instance that gets no traffic, and why.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let idle = self.instances.iter().filter(|one| one.status != "passing");
        let lines = idle.map(|one| {
            let check = self.checks.iter().find(|check| check.service_id == one.id);
            let why = check.map_or("its container is about to stop", |check| check.notes.as_str());
            format!("{} gets no traffic: {why}", one.id)
        });
        lines.collect()
    }

    pub(super) fn of(&self, service: &Service) -> Vec<Arc<Instance>> {
        let wanted = |instance: &&Arc<Instance>| {
            instance.name == service.name
                && service.tag.as_ref().is_none_or(|tag| instance.tags.contains(tag))
                && (!service.passing || instance.status == "passing")
        };
        self.instances.iter().filter(wanted).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_consul_can_answer_is_refused() {
        let service = |dc: Option<&str>, filter: Option<&str>| {
            let (dc, filter) = (dc.map(Into::into), filter.map(Into::into));
            Dependency::Service(Service { dc, filter, ..Service::named("rng") })
        };
        assert!(unanswerable(&service(None, Some("Checks is empty"))).unwrap().contains("filter"));
        assert!(unanswerable(&service(Some("elsewhere"), None)).unwrap().contains("dc"));
        assert!(unanswerable(&Dependency::Services { dc: Some("dc2".into()) }).is_some());
        assert_eq!(unanswerable(&service(Some(DATACENTER), None)), None);
    }
}
