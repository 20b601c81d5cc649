use super::*;

#[test]
fn what_was_accepted_is_remembered_with_its_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), "web");
    assert_eq!(state.accepted().unwrap(), None);
    let inputs = vec![(Dependency::Datacenters, Data::Names(vec!["dc1".into()]))];
    let borrowed: Vec<_> = inputs.iter().map(|(asked, data)| (asked, data)).collect();
    assert_eq!(state.accept("one", &borrowed, None, &Newest::default()).unwrap(), 1);
    let again = State::open(folder.path(), "web");
    assert_eq!(again.accepted().unwrap().as_deref(), Some("one"));
    assert_eq!(again.generation(1).unwrap().unwrap().inputs, inputs);
    assert_eq!(again.generation(2).unwrap(), None);
}

#[test]
fn what_we_have_put_into_the_destination_is_told_from_what_others_have() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), "web");
    assert!(!state.is_written("a"), "nothing is known yet");
    state.about_to_write("a").unwrap();
    state.about_to_write("b").unwrap();
    assert!(state.is_written("b") && !state.is_written("a"));
}

#[test]
fn a_generation_that_stands_in_for_a_text_is_remembered_until_it_is_not_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), "web");
    assert_eq!(state.stands_in().unwrap(), None);
    state.accept("one", &[], None, &Newest::default()).unwrap();
    state.stand_in(Some((1, "abc"))).unwrap();
    let (generation, digest) = State::open(folder.path(), "web").stands_in().unwrap().unwrap();
    assert_eq!((generation.text.as_str(), digest.as_str()), ("one", "abc"));
    assert_eq!(state.pinned().unwrap(), None);
    state.stand_in(None).unwrap();
    state.stand_in(None).unwrap();
    assert_eq!(state.stands_in().unwrap(), None);
}

#[test]
fn what_is_remembered_is_for_nobody_else_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), "web");
    state.accept("secret", &[], None, &Newest::default()).unwrap();
    let mode = |path: &str| {
        std::fs::metadata(folder.path().join("web").join(path)).unwrap().permissions().mode()
    };
    assert_eq!((mode("") & 0o777, mode("generations") & 0o777), (0o700, 0o700));
    assert_eq!(mode("accepted") & 0o777, 0o600);
    assert_eq!(mode("generations/00000001.json") & 0o777, 0o600);
}

#[test]
fn only_the_last_ten_generations_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), "web");
    for n in 1..=25 {
        assert_eq!(state.accept(&n.to_string(), &[], None, &Newest::default()).unwrap(), n);
    }
    assert_eq!(state.numbers().unwrap(), (16..=25).collect::<Vec<_>>());
}

#[test]
fn a_generation_that_somebody_went_back_to_is_kept_however_old_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), "web");
    let accept = |n: u64| state.accept(&n.to_string(), &[], None, &Newest::default()).unwrap();
    (1..=10).for_each(|n| assert_eq!(accept(n), n));
    state.stand_in(Some((1, "abc"))).unwrap();
    // Its text is stored anew as soon as it is live again.
    accept(1);
    let stands_in = || State::open(folder.path(), "web").stands_in().unwrap().unwrap();
    assert_eq!((stands_in().0.text.as_str(), stands_in().1.as_str()), ("1", "abc"));
    // So it is with one that was only kept because it was pinned.
    state.pin(Some(3)).unwrap();
    state.stand_in(None).unwrap();
    (12..=25).for_each(|n| assert_eq!(accept(n), n));
    assert_eq!(state.numbers().unwrap()[..2], [3, 16]);
    state.stand_in(Some((3, "def"))).unwrap();
    state.pin(None).unwrap();
    accept(3);
    assert_eq!((stands_in().0.text.as_str(), stands_in().1.as_str()), ("3", "def"));
    state.stand_in(None).unwrap();
    accept(4);
    assert_eq!(state.numbers().unwrap().first(), Some(&18));
}

#[test]
fn a_note_that_names_a_generation_that_is_not_kept_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), "web");
    state.stand_in(Some((7, "abc"))).unwrap();
    state.pin(Some(8)).unwrap();
    let said = [state.stands_in().unwrap_err(), state.pinned().unwrap_err()].map(|e| e.to_string());
    assert_eq!(
        said,
        [
            "the file stands-in names generation 7, which is not kept",
            "the file pinned names generation 8, which is not kept"
        ]
    );
}
