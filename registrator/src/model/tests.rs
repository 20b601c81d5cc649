//! Instances for tests, and what holds of comparing them.

use super::*;
use consul::CheckDefinition;
use proptest::prelude::*;

/// The host of the tests.
pub(crate) const HOST: &str = "node1";

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Passing), Just(Status::Warning), Just(Status::Critical)]
}

fn reason() -> impl Strategy<Value = Option<String>> {
    prop_oneof![Just(None), Just(Some(format!("{DRAINING}stopping")))]
}

/// An instance of the service `web`, ours.
pub(crate) fn instance(id: &str) -> Desired {
    let meta = [(MANAGED_BY, OURSELVES), (super::HOST, HOST)];
    let mut desired = Desired {
        registration: Registration {
            id: id.into(),
            name: "web".into(),
            address: "10.0.0.1".into(),
            port: 80,
            meta: meta.map(|(key, value)| (key.into(), value.into())).into(),
            ..Registration::default()
        },
        container: "c".repeat(64),
        since: String::new(),
        maintenance: None,
        beats: BTreeMap::new(),
    };
    desired.seal();
    desired
}

/// Few different values, so that two often agree in some of them.
pub(crate) fn desired() -> impl Strategy<Value = Desired> {
    (0..6_u8, 1..3_u16, "[ab]{0,2}", reason(), prop::option::of((status(), "[xy]{0,1}"))).prop_map(
        |(id, port, tag, maintenance, beat)| {
            let id = format!("{HOST}:c{id}:80");
            let check = format!("{id}:docker-health");
            let ttl = Duration::from_mins(1);
            let beats: BTreeMap<_, _> = beat
                .map(|(status, note)| (check.clone(), Beat { status, note, ttl }))
                .into_iter()
                .collect();
            let checks = beats.iter().map(|(id, beat)| CheckDefinition {
                id: id.clone(),
                ttl: "60s".into(),
                status: Some(beat.status),
                ..CheckDefinition::default()
            });
            let mut desired = instance(&id);
            desired.registration.port = port;
            desired.registration.tags = vec![tag];
            desired.registration.checks = checks.collect();
            desired.maintenance = maintenance;
            desired.beats = beats;
            desired.seal();
            desired
        },
    )
}

/// Ours, another host's, or somebody else's, in any state.
pub(crate) fn actual() -> impl Strategy<Value = Actual> {
    let reason = prop_oneof![reason(), Just(Some("upgrade".to_owned()))];
    (desired(), 0..4_u8, reason, status()).prop_map(|(desired, owner, maintenance, status)| {
        let mut actual = Actual::of(&desired);
        actual.maintenance = maintenance;
        actual.checks.values_mut().for_each(|known| known.status = status);
        match owner {
            0 => drop(actual.service.meta.insert(super::HOST.into(), "node2".into())),
            1 => drop(actual.service.meta.remove(MANAGED_BY)),
            _ => {}
        }
        actual
    })
}

proptest! {
    #[test]
    fn what_was_told_matches_what_was_wanted(desired in desired()) {
        prop_assert!(Actual::of(&desired).matches(&desired));
    }

    #[test]
    fn the_times_of_the_event_and_of_the_registration_do_not_make_a_difference(
        desired in desired(), time: u64,
    ) {
        for key in [EVENT_TIME, REGISTERED_TIME] {
            let mut later = desired.clone();
            later.registration.meta.insert(key.into(), time.to_string());
            later.seal();
            prop_assert!(Actual::of(&desired).matches(&later));
            prop_assert!(Actual::of(&later).matches(&desired));
        }
    }
}

#[test]
fn a_change_in_a_check_is_a_difference_although_the_agent_does_not_tell_it() {
    let check = |interval: &str| {
        let check = CheckDefinition {
            id: "c".into(),
            tcp: "h:80".into(),
            interval: interval.into(),
            ..CheckDefinition::default()
        };
        let mut desired = instance("node1:a:80");
        desired.registration.checks = vec![check];
        desired.seal();
        desired
    };
    assert!(Actual::of(&check("10s")).matches(&check("10s")));
    let differences: Vec<_> = Actual::of(&check("10s")).differences(&check("20s")).collect();
    assert_eq!(differences, ["checks"]);
}

#[test]
fn an_unmarked_service_is_ours_where_it_has_our_name_as_the_ancestor_wrote_it() {
    for (name, ours, same) in [
        ("web", "web", true),
        ("my_app", "my-app", true),
        ("web-80", "web", true),
        ("web", "web-80", true),
        ("vault", "web", false),
        ("web-api", "web", false),
        ("", "web", false),
    ] {
        assert_eq!(super::was_called(name, ours), same, "{name} {ours}");
    }
}
