//! Shows things to people: differences in colour where that can be seen.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// Lines around a change that show where it is.
const CONTEXT: usize = 3;

/// Returns the unified difference between two texts, without colours; empty where there is none.
#[must_use]
pub(crate) fn difference(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    diff.unified_diff().context_radius(CONTEXT).header(old_name, new_name).to_string()
}

/// Returns a unified difference as it is shown: in colours where that can be seen.
#[must_use]
pub(crate) fn in_colours(difference: &str) -> String {
    let mut text = String::new();
    for line in difference.lines() {
        let colour = match line.chars().next() {
            Some('+') => Colour::Green,
            Some('-') => Colour::Red,
            Some('@') => Colour::Cyan,
            _ => Colour::Plain,
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", paint(colour, line));
    }
    text
}

/// What a text looks like on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// It is wrong, or goes.
    Red,
    /// It is well, or comes.
    Green,
    /// It is not well yet.
    Yellow,
    /// It says where something is.
    Cyan,
    /// It heads a table.
    Bold,
    /// Nothing special.
    Plain,
}

/// Returns `text` in a colour where that can be seen, else as it is.
#[must_use]
pub(crate) fn paint(colour: Colour, text: &str) -> String {
    let code = match colour {
        Colour::Red => "31",
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Cyan => "36",
        Colour::Bold => "1",
        Colour::Plain => return text.to_owned(),
    };
    if coloured() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
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
        "live" => Colour::Green,
        "failing" => Colour::Red,
        _ => Colour::Yellow,
    };
    paint(colour, phase)
}

/// Colours are for terminals, and for those who did not refuse them.
fn coloured() -> bool {
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
