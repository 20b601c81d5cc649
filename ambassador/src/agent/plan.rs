//! Which ambassadors are missing and which are too many. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use crate::upstreams::Upstreams;

/// What an ambassador is for; written on it as labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    /// The client's ID.
    pub(crate) container: String,
    /// When the client started: a restart gives it a new network, of which the old ambassador
    /// knows nothing.
    pub(crate) started_at: String,
    /// The client's Compose project; empty where there is none.
    pub(crate) project: String,
    pub(crate) upstreams: String,
    /// What the agent makes ambassadors of.
    pub(crate) settings: String,
}

/// An ambassador that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ambassador {
    pub(crate) id: String,
    pub(crate) identity: Identity,
    pub(crate) running: bool,
}

/// A container that asks for upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) started_at: String,
    pub(crate) project: String,
    /// Its label, as it is written.
    pub(crate) asks: String,
    /// As in `docker run --network`.
    pub(crate) network: String,
    /// Whether it is a part of this system.
    pub(crate) system: bool,
}

/// A change that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    /// Remove this ambassador.
    Remove(&'a Ambassador),
    /// Create an ambassador, after its client's removals: it has the name of the one that it replaces.
    Create(&'a Identity),
}

impl<'a> Action<'a> {
    /// Returns what it is about.
    pub(crate) fn identity(&self) -> &'a Identity {
        match self {
            Self::Remove(ambassador) => &ambassador.identity,
            Self::Create(identity) => identity,
        }
    }
}

/// Returns what the client's ambassador must be, or why it cannot have one.
pub(crate) fn desired(client: &Client, settings: &str) -> Result<Identity, String> {
    if client.system {
        return Err("it is a part of the system: registrator, confd, Consul and ambassadors are nobody's clients".to_owned());
    }
    let upstreams: Upstreams =
        client.asks.parse().map_err(|error: crate::upstreams::Error| error.to_string())?;
    if upstreams.iter().next().is_none() {
        return Err("it asks for no upstream".to_owned());
    }
    if client.network == "host" || client.network.starts_with("container:") {
        return Err(format!("its network is not its own but {:?}", client.network));
    }
    Ok(Identity {
        container: client.id.clone(),
        started_at: client.started_at.clone(),
        project: client.project.clone(),
        upstreams: upstreams.to_string(),
        settings: settings.to_owned(),
    })
}

/// Returns the changes that turn `actual` into one running ambassador for each of `desired`.
pub(crate) fn plan<'a>(
    desired: &'a BTreeSet<Identity>,
    actual: &'a [Ambassador],
) -> Vec<Action<'a>> {
    let mut kept = BTreeSet::new();
    let mut actions = Vec::new();
    for ambassador in actual {
        let right = ambassador.running && desired.contains(&ambassador.identity);
        // The first one is kept, and no second one.
        if !right || !kept.insert(&ambassador.identity) {
            actions.push(Action::Remove(ambassador));
        }
    }
    let missing = desired.iter().filter(|identity| !kept.contains(identity));
    actions.extend(missing.map(Action::Create));
    actions
}

/// Returns the actions of each client, its removals first: a client is cut off while it is between these, and waits for no
/// other one's. Those who only lose come first, for that is soon done.
pub(crate) fn by_client<'a>(actions: &[Action<'a>]) -> Vec<Vec<Action<'a>>> {
    let mut clients = BTreeMap::<&str, Vec<Action>>::new();
    for action in actions {
        clients.entry(&action.identity().container).or_default().push(*action);
    }
    let creates = |action: &Action| matches!(action, Action::Create(_));
    let mut clients: Vec<_> = clients.into_values().collect();
    for actions in &mut clients {
        actions.sort_by_key(creates);
    }
    clients.sort_by_key(|actions| actions.iter().any(creates));
    clients
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identities() -> impl Strategy<Value = Identity> {
        ("[ab]", "[12]", "[p]?", "[uv]", "[st]").prop_map(
            |(container, started_at, project, upstreams, settings)| Identity {
                container,
                started_at,
                project,
                upstreams,
                settings,
            },
        )
    }

    fn world() -> impl Strategy<Value = Vec<Ambassador>> {
        proptest::collection::vec((identities(), any::<bool>()), 0..8).prop_map(|all| {
            let ambassador = |(id, (identity, running))| Ambassador {
                id: usize::to_string(&id),
                identity,
                running,
            };
            all.into_iter().enumerate().map(ambassador).collect()
        })
    }

    fn apply(actions: &[Action], actual: &[Ambassador]) -> Vec<Ambassador> {
        let mut world = actual.to_vec();
        for action in actions {
            match action {
                Action::Remove(gone) => world.retain(|ambassador| ambassador.id != gone.id),
                Action::Create(identity) => world.push(Ambassador {
                    id: format!("new {}", world.len()),
                    identity: (*identity).clone(),
                    running: true,
                }),
            }
        }
        world
    }

    proptest! {
        #[test]
        fn applying_a_plan_gives_each_client_one_running_ambassador_and_leaves_no_other(
            desired in proptest::collection::btree_set(identities(), 0..6),
            actual in world(),
        ) {
            let actions = plan(&desired, &actual);
            let reached = apply(&actions, &actual);
            prop_assert!(reached.iter().all(|ambassador| ambassador.running));
            prop_assert_eq!(reached.len(), desired.len());
            let served: BTreeSet<_> =
                reached.iter().map(|ambassador| ambassador.identity.clone()).collect();
            prop_assert_eq!(&served, &desired);
            prop_assert_eq!(plan(&desired, &reached), []);
        }

        #[test]
        fn each_client_has_its_own_removals_and_then_its_creation_and_nothing_is_lost(
            desired in proptest::collection::btree_set(identities(), 0..6),
            actual in world(),
        ) {
            let actions = plan(&desired, &actual);
            let clients = by_client(&actions);
            let mut names = BTreeSet::new();
            for own in &clients {
                let name = &own[0].identity().container;
                prop_assert!(names.insert(name), "{name} comes twice");
                prop_assert!(own.iter().all(|action| action.identity().container == *name));
                let creates = |action: &Action| matches!(action, Action::Create(_));
                prop_assert!(own.is_sorted_by_key(creates), "{own:?}");
            }
            let all = clients.concat();
            prop_assert_eq!(all.len(), actions.len());
            let reached = apply(&all, &actual);
            prop_assert_eq!(plan(&desired, &reached), []);
        }

        #[test]
        fn what_is_right_already_is_left_alone(
            desired in proptest::collection::btree_set(identities(), 0..6),
            others in world(),
        ) {
            let right = desired.iter().enumerate().map(|(id, identity)| Ambassador {
                id: format!("right {id}"),
                identity: identity.clone(),
                running: true,
            });
            let actual: Vec<_> = right.chain(others).collect();
            let actions = plan(&desired, &actual);
            let spared = |action: &Action| match action {
                Action::Remove(ambassador) => !ambassador.id.starts_with("right"),
                Action::Create(_) => false,
            };
            prop_assert!(actions.iter().all(spared), "{actions:?}");
        }
    }

    #[test]
    fn a_client_without_a_network_of_its_own_or_with_a_bad_label_and_a_part_of_the_system_get_none()
    {
        let client = |asks: &str, network: &str| Client {
            id: "1".into(),
            name: "worker".into(),
            started_at: "now".into(),
            project: String::new(),
            asks: asks.into(),
            network: network.into(),
            system: false,
        };
        let system = Client { system: true, ..client("rng:80", "bridge") };
        assert!(desired(&system, "s").unwrap_err().contains("part of the system"));
        assert_eq!(desired(&client("rng:80, a:1", "bridge"), "s").unwrap().upstreams, "rng:80,a:1");
        for (asks, network) in
            [("rng", "bridge"), ("", "bridge"), ("rng:80", "host"), ("rng:80", "container:2")]
        {
            assert!(desired(&client(asks, network), "s").is_err(), "{asks} {network}");
        }
    }
}
