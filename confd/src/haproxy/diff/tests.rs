//! Plans reach what is wanted, on a model of HAProxy.

use proptest::prelude::*;

use super::*;

const FILE: &str = "frontend f\n bind :80\nbackend b\n balance roundrobin\n";

fn text(servers: &[&str]) -> String {
    let servers: String = servers.iter().flat_map(|server| [" server ", server, "\n"]).collect();
    format!("{FILE}{servers}")
}

fn described(accepted: &[&str], wanted: &[&str]) -> Vec<String> {
    describe(&diff(&text(accepted), &text(wanted)))
}

#[test]
fn servers_that_come_go_or_change_weight_need_no_reload() {
    assert_eq!(
        described(
            &["one 10.0.0.1:80 weight 2", "two 10.0.0.2:80", "three 10.0.0.3:80"],
            &[
                "four 10.0.0.4:80 check inter 1s weight 9",
                "one 10.0.0.1:80 weight 3",
                "three 10.0.0.3:80 disabled"
            ],
        ),
        [
            "add b/four 10.0.0.4:80 weight 0 check inter 1s",
            "weigh b/one 3",
            "disable b/three",
            "drain b/two, then delete it"
        ]
    );
    assert_eq!(
        described(&["one 10.0.0.1:80"], &["one 10.0.0.9:81"]),
        ["move b/one to 10.0.0.9:81"]
    );
}

#[test]
fn comments_and_order_are_no_change() {
    let (one, two) = ("one 10.0.0.1:80", "two 10.0.0.2:80 # second");
    assert_eq!(diff(&text(&[one, two]), &text(&[two, one])), Plan::Nothing);
    assert_eq!(diff(&text(&[one]), &format!("# new\n\n{}", text(&[one]))), Plan::Nothing);
}

#[test]
fn everything_else_is_a_reload_that_says_why() {
    let old = text(&["one 10.0.0.1:80 check", "two web:80"]);
    let reason = |new: String| match diff(&old, &new) {
        Plan::Reload(reason) => reason,
        plan => panic!("{plan:?}"),
    };
    assert_eq!(
        reason(old.replace(":80\nbackend", ":81\nbackend")),
        "the line \"bind :81\" is not a server's"
    );
    assert_eq!(reason(old.replace("check", "check inter 3s")), "server b/one: its options changed");
    assert_eq!(
        reason(old.replace("web:80", "other:80")),
        "server b/two: its address is not an IP address with a port"
    );
    assert_eq!(
        reason(format!("{old} server c 10.0.0.3:80 cookie c\n")),
        "server b/c: option \"cookie\""
    );
    assert_eq!(reason(format!("{old} .if 1\n")), "line 7: .if is only known to HAProxy itself");
    assert_eq!(
        reason(FILE.replace("balance", "cookie s\nbalance")),
        "the line \"cookie s\" is not a server's"
    );
    let fixed = |servers: &[&str]| text(servers).replace("roundrobin", "static-rr");
    assert!(
        matches!(diff(&fixed(&[]), &fixed(&["one 10.0.0.1:80"])), Plan::Reload(reason) if reason.contains("static-rr"))
    );
}

/// A server line of the model: which, where, its weight, and its flags.
#[derive(Debug, Clone)]
struct Line {
    name: u8,
    address: u8,
    weight: u8,
    disabled: bool,
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = (0..6u8, 1..4u8, 0..4u8, any::<bool>())
        .prop_map(|(name, address, weight, disabled)| Line { name, address, weight, disabled });
    prop::collection::vec(line, 0..6).prop_map(|mut lines| {
        lines.sort_by_key(|line| line.name);
        lines.dedup_by_key(|line| line.name);
        lines
    })
}

/// Odd servers have checks: whether one has is part of what it is, and never changes in the model.
fn config(lines: &[Line]) -> Config {
    let line = |line: &Line| {
        let Line { name, address, weight, disabled } = line;
        let check = if name % 2 == 1 { "check" } else { "" };
        let disabled = if *disabled { "disabled" } else { "" };
        format!("s{name} 10.0.0.{address}:80 weight {weight} {check} {disabled}")
    };
    let lines: Vec<String> = lines.iter().map(line).collect();
    Config::parse(&text(&lines.iter().map(String::as_str).collect::<Vec<_>>())).unwrap()
}

/// Carries out changes as HAProxy does, and then lets every check pass and every session end.
fn apply(state: &mut State, ops: &[Op]) {
    let pool = state.0.entry("b".to_owned()).or_default();
    for Op { server, change, .. } in ops {
        if let Change::Add { address, weight, checked, ready, .. } = change {
            let actual = Actual {
                id: 0,
                address: Some(*address),
                weight: *weight,
                maintenance: !ready,
                draining: false,
                health: Health::Unknown,
                up: *ready,
                sessions: Some(0),
            };
            assert!(pool.insert(server.clone(), actual).is_none(), "{server} is there already");
            assert!(
                *checked || *weight > 0 || !ready || state_weightless(ops, server),
                "{server} would never serve"
            );
            continue;
        }
        let actual = pool.get_mut(server).expect("changes are for servers that are there");
        match change {
            Change::Add { .. } => unreachable!("handled above"),
            Change::Address { address, unproven } => {
                actual.address = Some(*address);
                actual.up &= !unproven;
            }
            Change::Weight(weight) => actual.weight = *weight,
            Change::Ready => (actual.maintenance, actual.draining) = (false, false),
            Change::Maintenance => actual.maintenance = true,
            Change::Drain => actual.draining = true,
            Change::Kill => actual.sessions = Some(0),
            Change::Delete => {
                assert!(
                    actual.maintenance,
                    "{server} cannot be deleted while it takes connections"
                );
                // Refused as long as it is in use: not done, and no harm.
                if actual.sessions == Some(0) {
                    pool.remove(server);
                }
            }
        }
    }
    for actual in pool.values_mut() {
        actual.sessions = Some(0);
        actual.up = !actual.maintenance;
        if actual.up {
            actual.health = Health::Passed;
        }
    }
}

/// An added server without a check and without weight is one whose line says weight 0.
fn state_weightless(ops: &[Op], server: &str) -> bool {
    !ops.iter().any(|op| op.server == server && matches!(op.change, Change::Weight(_)))
}

proptest! {
    #[test]
    fn plans_reach_the_wanted_state_from_any_other(
        before in lines(), wanted in lines(), drained in prop::collection::vec(any::<bool>(), 6),
    ) {
        let (before, wanted) = (config(&before), config(&wanted));
        let mut state = State::of(&before);
        if let Some(pool) = state.0.get_mut("b") {
            for (actual, drained) in pool.values_mut().zip(drained) {
                (actual.draining, actual.sessions) = (drained, Some(3));
            }
        }
        for _ in 0..4 {
            let steps = steps(&wanted, &state, &BTreeSet::new());
            prop_assert_eq!(&steps.impossible, &None);
            apply(&mut state, &steps.ops);
        }
        let settled = steps(&wanted, &state, &BTreeSet::new());
        prop_assert_eq!(settled, Steps::default());
        let mut expected = State::of(&wanted);
        for (name, actual) in expected.0.entry("b".to_owned()).or_default().iter_mut() {
            let real = state.get("b", name).expect("it is wanted");
            (actual.health, actual.up, actual.sessions) = (real.health, real.up, real.sessions);
            // Maintenance is more than a drain, which may stay noted beneath it.
            actual.draining = real.draining && actual.maintenance;
        }
        prop_assert_eq!(state, expected);
    }

    #[test]
    fn a_server_with_connections_is_neither_cut_nor_deleted_before_its_time(before in lines()) {
        let mut state = State::of(&config(&before));
        for actual in state.0.values_mut().flat_map(|pool| pool.values_mut()) {
            (actual.sessions, actual.maintenance) = (Some(1), false);
        }
        let none = config(&[]);
        let gentle = |ops: &[Op]| ops.iter().all(|op| op.change == Change::Drain);
        prop_assert!(gentle(&steps(&none, &state, &BTreeSet::new()).ops));
        for actual in state.0.values_mut().flat_map(|pool| pool.values_mut()) {
            actual.draining = true;
        }
        let waiting = steps(&none, &state, &BTreeSet::new());
        prop_assert!(waiting.ops.is_empty());
        let cut = steps(&none, &state, &waiting.leaving);
        prop_assert_eq!(cut.ops.iter().filter(|op| op.change == Change::Kill).count(), waiting.leaving.len());
    }

    #[test]
    fn two_texts_that_differ_are_never_nothing_to_do(before in lines(), wanted in lines()) {
        let (before, wanted) = (config(&before), config(&wanted));
        prop_assert_eq!(between(&before, &wanted) == Plan::Nothing, before == wanted);
    }
}
