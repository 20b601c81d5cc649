//! Shows things to people: differences in colour where that can be seen.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// Lines around a change that show where it is.
const CONTEXT: usize = 3;

/// Returns the unified difference between two texts; empty where there is none.
#[must_use]
pub(crate) fn difference(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    let plain = diff.unified_diff().context_radius(CONTEXT).header(old_name, new_name).to_string();
    if !coloured() {
        return plain;
    }
    let mut text = String::new();
    for line in plain.lines() {
        let colour = match line.chars().next() {
            Some('+') => "32",
            Some('-') => "31",
            Some('@') => "36",
            _ => "0",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "\u{1b}[{colour}m{line}\u{1b}[0m");
    }
    text
}

/// Returns how many lines were removed and added.
#[must_use]
pub(crate) fn counts(old: &str, new: &str) -> (usize, usize) {
    let diff = TextDiff::from_lines(old, new);
    diff.iter_all_changes().fold((0, 0), |(removed, added), change| match change.tag() {
        ChangeTag::Delete => (removed + 1, added),
        ChangeTag::Insert => (removed, added + 1),
        ChangeTag::Equal => (removed, added),
    })
}

/// Returns a duration as people say it.
#[must_use]
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86400),
    }
}

/// Returns the word for how a resource is doing, in its colour.
#[must_use]
pub(crate) fn phase(phase: &str) -> String {
    let colour = match phase {
        "live" => "32",
        "failing" => "31",
        _ => "33",
    };
    if coloured() { format!("\u{1b}[{colour}m{phase}\u{1b}[0m") } else { phase.to_owned() }
}

/// Colours are for terminals, and for those who did not refuse them.
pub(crate) fn coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_goes_and_what_comes() {
        let text = difference("a\nb\n", "a\nc\n", "old", "new");
        assert!(text.contains("--- old\n+++ new\n") && text.contains("-b\n+c\n"), "{text}");
        assert_eq!(difference("a\n", "a\n", "old", "new"), "");
        assert_eq!(counts("a\nb\n", "a\nc\nd\n"), (1, 2));
    }
}
