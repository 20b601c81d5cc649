//! What templates see of a service: its instances, cleaned and in a stable order.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::meta::Meta;
use crate::text;

/// One running instance of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// Unique among the instances of its node.
    pub id: String,
    /// The service it belongs to.
    pub name: String,
    /// The node it runs on.
    pub node: String,
    /// The node's own address.
    pub node_address: String,
    /// Where it is reached: its own address, or its node's where it has none.
    pub address: String,
    /// The port it is reached at; 0 where it has none.
    pub port: u16,
    /// Tags, in the order they were given.
    pub tags: Vec<String>,
    /// Meta data.
    pub meta: Meta,
    /// Its share of the traffic, in relation to the others'.
    pub weight: u32,
    /// `passing`, `warning`, `critical` or `maintenance`: the worst of its checks.
    pub status: String,
    /// Its datacenter.
    pub datacenter: String,
}

impl Instance {
    /// Returns this instance with every control character gone, or why it cannot be used.
    pub fn cleaned(self) -> Result<Self, String> {
        let address = if self.address.is_empty() { &self.node_address } else { &self.address };
        let address = address.trim();
        if !text::is_address(address) {
            return Err(format!("{address:?} is neither an IP address nor a host name"));
        }
        let clean = |value: &String| text::clean(value);
        Ok(Self {
            address: address.to_owned(),
            id: clean(&self.id),
            name: clean(&self.name),
            node: clean(&self.node),
            node_address: clean(&self.node_address),
            tags: self.tags.iter().map(clean).collect(),
            meta: self
                .meta
                .iter()
                .map(|(key, value)| (text::clean(key), text::clean(value)))
                .collect(),
            datacenter: clean(&self.datacenter),
            status: clean(&self.status),
            ..self
        })
    }

    /// Returns what it is called among all instances of its service.
    #[must_use]
    pub fn key(&self) -> Cow<'_, str> {
        consul::instance_key(&self.node, &self.id)
    }

    /// The order of every list of instances: by node, then by id.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        (&self.node, &self.id).cmp(&(&other.node, &other.id))
    }
}

/// Cleans and sorts `instances`; those that cannot be used are left out, with a warning each.
#[must_use]
pub fn normalised(instances: impl IntoIterator<Item = Instance>) -> Vec<Arc<Instance>> {
    let mut usable: Vec<Arc<Instance>> = instances
        .into_iter()
        .filter_map(|instance| {
            let (id, node) = (text::clean(&instance.id), text::clean(&instance.node));
            let cleaned = instance.cleaned();
            if let Err(reason) = &cleaned {
                tracing::warn!(%id, %node, %reason, "left out an instance");
            }
            cleaned.ok().map(Arc::new)
        })
        .collect();
    // What they were made from is collected in place, and took a hundred times the room.
    usable.shrink_to_fit();
    usable.sort_by(|one, other| one.order(other));
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(node: &str, id: &str, address: &str) -> Instance {
        Instance {
            node: node.into(),
            id: id.into(),
            address: address.into(),
            node_address: "10.0.0.9".into(),
            ..Instance::default()
        }
    }

    #[test]
    fn instances_are_sorted_by_node_and_id() {
        let list = [instance("b", "1", ""), instance("a", "2", ""), instance("a", "1", "")];
        let order: Vec<_> =
            normalised(list).into_iter().map(|i| format!("{}{}", i.node, i.id)).collect();
        assert_eq!(order, ["a1", "a2", "b1"]);
    }

    #[test]
    fn an_instance_without_an_address_has_its_nodes() {
        assert_eq!(normalised([instance("a", "1", "")])[0].address, "10.0.0.9");
    }

    #[test]
    fn one_with_a_bad_address_is_left_out_and_the_others_stay() {
        let list =
            [instance("a", "1", "10.0.0.1\n server evil"), instance("a", "2", "web.internal")];
        assert_eq!(normalised(list).len(), 1);
    }

    #[test]
    fn no_control_character_survives() {
        let mut hostile = instance("no\nde", "i\rd", "10.0.0.1");
        hostile.tags = vec!["a\nb".into()];
        hostile.meta = Meta::from_iter([("k\0".into(), "v\u{85}".into())]);
        let text = serde_json::to_string(&normalised([hostile])).unwrap();
        assert!(text::is_clean(&text) && !text.contains("\\n") && !text.contains("\\u"), "{text}");
    }
}
