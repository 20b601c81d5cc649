//! What a pass does next. Pure: no I/O, no clock, no async.

/// What a pass knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The text that should be live.
    pub wanted: &'a str,
    /// The text in the destination.
    pub on_disk: Option<&'a str>,
    /// The text that all apply actions have brought to life.
    pub loaded: Option<&'a str>,
    /// A text that was refused, and would be again.
    pub refused: Option<&'a str>,
    /// The load balancer was asked, lately, whether it runs what it is said to have loaded.
    pub verified: bool,
    /// The load balancer takes the difference between what is loaded and what is wanted while it runs.
    pub at_runtime: bool,
}

/// What a pass does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything is as it should be.
    Done,
    /// The text was refused; only another text, or time, helps.
    Refused,
    /// Change the running load balancer, then look again.
    Runtime,
    /// Check the text and put it into the destination, then look again.
    Replace,
    /// Make the load balancer read the destination, then look again.
    Reload,
    /// Ask the load balancer what it runs, repair that, then look again.
    Verify,
}

/// Returns the next step.
///
/// What can be changed at runtime is changed first, because it is quick and each operation is
/// judged by the load balancer itself; the file follows. A reload comes after the file.
#[must_use]
pub fn next(facts: &Facts<'_>) -> Step {
    let wanted = Some(facts.wanted);
    match (facts.loaded == wanted, facts.on_disk == wanted) {
        (true, true) if facts.verified => Step::Done,
        // Only now: a repair may be a reload, which reads the destination.
        (true, true) => Step::Verify,
        _ if facts.refused == wanted => Step::Refused,
        (false, _) if facts.at_runtime => Step::Runtime,
        (_, false) => Step::Replace,
        (false, true) => Step::Reload,
    }
}

/// Tells whether `found` is what one reads of `text` while that is being written, in place or by a rename.
#[must_use]
pub fn is_begun(found: &str, text: &str) -> bool {
    // The last character may be there in part.
    text.starts_with(found.trim_end_matches(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts() -> impl Strategy<Value = Option<&'static str>> {
        prop_oneof![Just(None), Just(Some("a")), Just(Some("b")), Just(Some("c"))]
    }

    proptest! {
        #[test]
        fn the_steps_lead_to_the_wanted_text_on_disk_and_loaded(
            on_disk in texts(), loaded in texts(), at_runtime: bool,
        ) {
            let (mut on_disk, mut loaded, mut steps) = (on_disk, loaded, Vec::new());
            let mut verified = false;
            loop {
                let at_runtime = at_runtime && loaded.is_some();
                let facts = Facts { wanted: "a", on_disk, loaded, refused: None, verified, at_runtime };
                let step = next(&facts);
                steps.push(step);
                prop_assert!(steps.len() <= 4, "{steps:?}");
                match step {
                    Step::Done => break,
                    Step::Verify => {
                        prop_assert_eq!((on_disk, loaded), (Some("a"), Some("a")));
                        verified = true;
                    }
                    Step::Refused => prop_assert!(false, "nothing was refused"),
                    Step::Runtime => loaded = Some("a"),
                    Step::Replace => on_disk = Some("a"),
                    // A load balancer only ever reads what is on the disk.
                    Step::Reload => loaded = on_disk,
                }
            }
            prop_assert_eq!((on_disk, loaded), (Some("a"), Some("a")));
        }

        #[test]
        fn what_is_written_up_to_any_byte_is_begun(text: String, end: prop::sample::Index) {
            let bytes = &text.as_bytes()[..end.index(text.len() + 1)];
            prop_assert!(is_begun(&String::from_utf8_lossy(bytes), &text));
            let more = text.clone() + "more";
            prop_assert!(!is_begun(&more, &text));
        }

        #[test]
        fn a_refused_text_is_neither_written_nor_loaded(
            on_disk in texts(), loaded in texts(), at_runtime: bool,
        ) {
            let facts = Facts { wanted: "a", on_disk, loaded, refused: Some("a"), verified: true, at_runtime };
            prop_assert!(matches!(next(&facts), Step::Refused | Step::Done));
        }

        #[test]
        fn an_equal_file_that_was_never_loaded_is_loaded(loaded in texts()) {
            let facts = Facts { wanted: "a", on_disk: Some("a"), loaded, refused: None, verified: true, at_runtime: false };
            prop_assert_eq!(next(&facts), if loaded == Some("a") { Step::Done } else { Step::Reload });
        }
    }
}
