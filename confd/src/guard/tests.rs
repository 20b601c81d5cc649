//! What is held, for how long, and what is not.

use proptest::prelude::*;

use super::*;
use crate::dependency::Service as Question;
use crate::units::Span;

fn rng() -> Dependency {
    Dependency::Service(Question::named("rng"))
}

fn instances(ids: impl IntoIterator<Item = u32>) -> Vec<Arc<Instance>> {
    let mut list: Vec<Arc<Instance>> = ids
        .into_iter()
        .map(|id| Instance { id: format!("i{id:03}"), node: "n".into(), ..Instance::default() })
        .map(Arc::new)
        .collect();
    list.sort_by(|one, other| one.order(other));
    list
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

struct World(Guard, Limits);

impl World {
    fn new(limits: Limits) -> Self {
        Self(Guard::default(), limits)
    }

    /// Shows the guard what is listed, and returns how many instances templates see.
    fn sees(&mut self, listed: Vec<Arc<Instance>>, doubt: Option<Doubt>, seconds: u64) -> usize {
        let mut snapshot = Snapshot::default();
        snapshot.update(&rng().into(), Data::Instances(listed), doubt, at(seconds));
        let guarded = self.0.filter(&BTreeSet::from([rng()]), &snapshot, &self.1, at(seconds));
        guarded.get(&rng()).unwrap().data.len()
    }
}

#[test]
fn what_vanishes_because_consul_lost_its_state_is_held_until_it_is_back() {
    let mut world = World::new(Limits::default());
    assert_eq!(world.sees(instances(0..10), None, 0), 10);
    assert_eq!(world.sees(instances([]), Some(Doubt::Restarted), 1), 10);
    // They register again one by one; the doubt is over for the source, the hold is not.
    assert_eq!(world.sees(instances(0..1), None, 2), 10);
    assert_eq!(world.sees(instances(0..6), None, 3), 10 - 4, "four may go");
    assert_eq!(world.sees(instances(0..10), None, 4), 10);
    assert!(world.0.holds().is_empty());
}

#[test]
fn a_mass_removal_without_doubt_is_followed_at_once() {
    let mut world = World::new(Limits::default());
    assert_eq!(world.sees(instances(0..10), None, 0), 10);
    assert_eq!(world.sees(instances(0..1), None, 1), 1);
    assert!(world.0.holds().is_empty());
}

#[test]
fn a_hold_ends_by_itself_or_because_someone_says_so() {
    let nodes = || Some(Doubt::Nodes(BTreeSet::from(["n".into()])));
    for accepted in [false, true] {
        let mut world = World::new(Limits::default());
        world.sees(instances(0..10), None, 0);
        assert_eq!(world.sees(instances([]), nodes(), 10), 10);
        assert_eq!(world.0.next_end(&world.1), Some(at(310)));
        assert_eq!(world.sees(instances([]), nodes(), 309), 10);
        if accepted {
            world.0.accept();
            assert_eq!(world.sees(instances([]), nodes(), 309), 0);
        } else {
            assert_eq!(world.sees(instances([]), nodes(), 310), 0);
        }
        assert!(world.0.holds().is_empty());
    }
}

#[test]
fn a_few_may_always_go_but_not_few_by_few() {
    let mut world = World::new(Limits::default());
    let doubt = || Some(Doubt::Restarted);
    world.sees(instances(0..4), None, 0);
    assert_eq!(world.sees(instances(0..1), doubt(), 1), 1, "three of four");
    let mut world = World::new(Limits::default());
    world.sees(instances(0..20), None, 0);
    assert_eq!(world.sees(instances(0..15), doubt(), 1), 15);
    assert_eq!(world.sees(instances(0..10), doubt(), 2), 10);
    assert_eq!(world.sees(instances(0..5), doubt(), 3), 10, "more than half within 30 s");
    assert_eq!(world.sees(instances(0..5), doubt(), 40), 5, "half of what is left, later");
}

#[test]
fn nothing_is_emptied_under_doubt_however_small_it_is() {
    let mut world = World::new(Limits::default());
    world.sees(instances(0..1), None, 0);
    assert_eq!(world.sees(instances([]), Some(Doubt::Restarted), 1), 1);
    assert_eq!(world.sees(instances([]), None, 301), 0, "nobody holds it for ever");
}

#[test]
fn the_smallest_number_of_instances_is_kept_under_doubt() {
    let mut world = World::new(Limits { min_instances: 2, ..Limits::default() });
    world.sees(instances(0..3), None, 0);
    assert_eq!(world.sees(instances(0..1), Some(Doubt::Restarted), 1), 3);
}

#[test]
fn what_an_earlier_process_served_is_guarded_too() {
    let mut world = World::new(Limits::default());
    world.0 = Guard::remembering(vec![(rng(), Data::Instances(instances(0..10)))]);
    assert_eq!(world.sees(instances([]), Some(Doubt::Restarted), 1), 10);
}

#[test]
fn names_of_services_are_held_like_instances() {
    let services = |names: &[&str]| {
        Data::Services(names.iter().map(|n| ((*n).to_owned(), BTreeSet::new())).collect())
    };
    let (question, limits) = (Dependency::Services { dc: None }, Limits::default());
    let asked = BTreeSet::from([question.clone()]);
    let (mut guard, mut snapshot) = (Guard::default(), Snapshot::default());
    let question = Arc::new(question);
    snapshot.update(&question, services(&["a", "b", "c", "d", "e"]), None, at(0));
    guard.note(&asked, &snapshot);
    snapshot.update(&question, services(&["a"]), Some(Doubt::Restarted), at(1));
    let guarded = guard.filter(&asked, &snapshot, &limits, at(1));
    assert_eq!(guarded.get(&question).unwrap().data.len(), 5);
}

#[test]
fn keys_that_vanish_under_doubt_stay_beside_those_that_come() {
    let keys = |pairs: &[(&str, &str)]| {
        Data::Keys(pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    };
    let question = Dependency::Prefix { path: "app".into() };
    let asked = BTreeSet::from([question.clone()]);
    let (limits, question) = (Limits::default(), Arc::new(question));
    let (mut guard, mut snapshot) = (Guard::default(), Snapshot::default());
    let mut sees = |guard: &mut Guard, data: Data, doubt: Option<Doubt>, seconds: u64| {
        snapshot.update(&question, data, doubt, at(seconds));
        let guarded = guard.filter(&asked, &snapshot, &limits, at(seconds));
        guarded.get(&question).unwrap().data.clone()
    };
    sees(&mut guard, keys(&[("a", "1"), ("b", "1")]), None, 0);
    let both = keys(&[("a", "1"), ("b", "1")]);
    assert_eq!(sees(&mut guard, keys(&[]), Some(Doubt::Restarted), 1), both);
    assert_eq!(guard.holds().len(), 1);
    let changed = keys(&[("a", "2"), ("b", "1")]);
    assert_eq!(sees(&mut guard, keys(&[("a", "2")]), None, 2), changed);
    guard.accept();
    assert_eq!(sees(&mut guard, keys(&[("a", "2")]), None, 3), keys(&[("a", "2")]));
    assert_eq!(sees(&mut guard, keys(&[]), None, 4), keys(&[]), "without doubt it is believed");
}

proptest! {
    #[test]
    fn what_is_listed_is_always_shown_and_nothing_is_held_for_ever(
        steps in prop::collection::vec((prop::collection::btree_set(0..30_u32, 0..30), any::<bool>(), 0..100_u64), 1..20),
    ) {
        let limits = Limits { hold: Span(Duration::from_mins(1)), ..Limits::default() };
        let (mut world, mut seconds) = (World::new(limits), 0);
        let mut last = Vec::new();
        for (ids, doubtful, pause) in steps {
            seconds += pause;
            last = instances(ids);
            let doubt = doubtful.then_some(Doubt::Restarted);
            prop_assert!(world.sees(last.clone(), doubt, seconds) >= last.len());
        }
        prop_assert_eq!(world.sees(last.clone(), None, seconds + 60), last.len());
    }
}
