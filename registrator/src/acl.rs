//! The smallest ACL policy that works. Pure: no I/O, no clock, no async.

use crate::mirror::Owner;

/// Returns the policy for a node, in Consul's language; `prefix` is that of the keys, if any.
/// Without the node's name it holds for any node.
#[must_use]
pub(crate) fn policy(owner: Option<&Owner>, prefix: Option<&str>) -> String {
    let node = owner.map(|owner| owner.node.as_str());
    let on_node = |resource: &str, access: &str| match node {
        Some(node) => rule(resource, node, access),
        None => rule(&format!("{resource}_prefix"), "", access),
    };
    let mut policy = String::from("# Who the agent is, and what it has.\n");
    policy += &on_node("agent", "read");
    policy += "\n# Any container may name its service as it likes.\n";
    policy += &rule("service_prefix", "", "write");
    if let Some(prefix) = prefix {
        policy += "\n# The keys, and the session that holds them.\n";
        policy += &on_node("session", "write");
        policy += &rule("key_prefix", &format!("{prefix}/"), "write");
        let (kind, journal) = match owner {
            Some(owner) => ("key", owner.journal(prefix)),
            None => ("key_prefix", format!("{prefix}-events/")),
        };
        policy += &rule(kind, &journal, "write");
    }
    policy
}

fn rule(resource: &str, name: &str, access: &str) -> String {
    format!("{resource} {name:?} {{\n  policy = \"{access}\"\n}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(host: &str) -> Owner {
        Owner { node: "node1".into(), host: host.into() }
    }

    #[test]
    fn without_keys_no_session_and_no_key_may_be_touched() {
        let policy = policy(Some(&owner("node1")), None);
        assert!(policy.contains("agent \"node1\"") && policy.contains("service_prefix"));
        assert!(!policy.contains("key") && !policy.contains("session"));
    }

    #[test]
    fn a_node_may_write_its_own_journal_only() {
        let policy = policy(Some(&owner("node1")), Some("shop"));
        assert!(
            policy.contains("key_prefix \"shop/\"") && policy.contains("key \"shop-events/node1\"")
        );
        let named = super::policy(Some(&owner("other")), Some("shop"));
        assert!(named.contains("agent \"node1\"") && named.contains("shop-events/node1:other"));
        assert!(super::policy(None, Some("shop")).contains("key_prefix \"shop-events/\""));
    }
}
