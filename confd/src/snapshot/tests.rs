//! What counts as a change, and what is remembered of what went.

use super::*;
use crate::dependency::Service;

fn instances(ids: &[&str]) -> Data {
    Data::Instances(
        ids.iter()
            .map(|id| Instance {
                id: (*id).into(),
                status: "passing".into(),
                ..Instance::default()
            })
            .map(Arc::new)
            .collect(),
    )
}

fn after(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn an_equal_answer_is_no_change() {
    let mut snapshot = Snapshot::default();
    let rng = Arc::new(Dependency::Service(Service::named("rng")));
    assert!(snapshot.update(&rng, instances(&["a"]), None, after(0)));
    assert!(!snapshot.update(&rng, instances(&["a"]), None, after(1)));
    assert!(snapshot.update(&rng, instances(&["a", "b"]), None, after(2)));
}

#[test]
fn a_replaced_instance_counts_as_shrinking_and_an_added_one_does_not() {
    assert!(instances(&["b"]).shrank(&instances(&["a"])));
    assert!(!instances(&["a", "b"]).shrank(&instances(&["a"])));
    assert!(Data::Key(None).shrank(&Data::Key(Some("x".into()))));
}

#[test]
fn the_last_instances_of_an_empty_service_are_remembered_for_a_while() {
    let full = Entry::following(None, instances(&["a", "b"]), after(0));
    let empty = Entry::following(Some(&full), instances(&[]), after(10));
    let still = Entry::following(Some(&empty), instances(&[]), after(20));
    let keep = Duration::from_mins(1);
    let list = still.value_with_former(keep, after(30));
    assert_eq!(list.len(), Some(2));
    assert_eq!(list.as_array().unwrap()[0].get_from_path("status").unwrap().as_str(), Some(GONE));
    assert_eq!(still.value_with_former(keep, after(70)).len(), Some(0));
    assert_eq!(still.value().len(), Some(0));
    let back = Entry::following(Some(&still), instances(&["c"]), after(40));
    assert_eq!(back.value_with_former(keep, after(41)).len(), Some(1));
}

#[test]
fn vanished_services_are_remembered_one_by_one() {
    let services = |names: &[&str]| {
        Data::Services(names.iter().map(|n| ((*n).to_owned(), BTreeSet::new())).collect())
    };
    let first = Entry::following(None, services(&["a", "b", "c"]), after(0));
    let second = Entry::following(Some(&first), services(&["a", "b"]), after(10));
    let third = Entry::following(Some(&second), services(&["a"]), after(50));
    let keep = Duration::from_mins(1);
    assert_eq!(third.value_with_former(keep, after(60)).len(), Some(3));
    assert_eq!(third.value_with_former(keep, after(70)).len(), Some(2));
    assert_eq!(third.value().len(), Some(1));
}
