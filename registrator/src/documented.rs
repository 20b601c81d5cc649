//! Whether docs/registrator.md tells of every flag and metric, and of none that is not there.

use std::collections::BTreeSet;

use prometheus_client::encoding::text::encode;

use crate::args::grammar;
use crate::metrics::{EventLabels, Metrics};

const DOCS: &str = include_str!("../../docs/registrator.md");

/// Returns the words of the page that begin so, as far as they are names.
fn words(beginning: &str) -> BTreeSet<&'static str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let found = DOCS.match_indices(beginning).filter(|(at, _)| {
        // Not in the middle of a word, nor in a line of dashes.
        !DOCS[..*at].ends_with(is_part)
    });
    found
        .map(|(at, _)| {
            let word = &DOCS[at..];
            word.find(|c| !is_part(c)).map_or(word, |end| &word[..end])
        })
        .collect()
}

#[test]
fn the_page_tells_of_every_flag_and_of_its_environment_variable() {
    let command = grammar();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let flag = arg.get_long().map(|flag| format!("`--{flag}"));
        assert!(flag.as_ref().is_none_or(|flag| DOCS.contains(flag)), "{flag:?}");
        let variable = arg.get_env().map(|name| format!("`{}`", name.display()));
        assert!(variable.as_ref().is_none_or(|name| DOCS.contains(name)), "{variable:?}");
    }
}

#[test]
fn the_tables_of_the_page_tell_of_no_flag_that_is_not_there() {
    let command = grammar();
    let known: BTreeSet<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `--"));
    let flags: Vec<_> = rows.filter_map(|row| row.split(['`', ' ', '[']).next()).collect();
    assert!(flags.len() > 30, "{flags:?}");
    for flag in flags {
        assert!(known.contains(flag) || flag == "help", "--{flag}");
    }
    let variables: BTreeSet<_> = command.get_arguments().filter_map(clap::Arg::get_env).collect();
    for variable in words("REGISTRATOR_").into_iter().filter(|word| *word != "REGISTRATOR_") {
        assert!(variables.contains(std::ffi::OsStr::new(variable)), "{variable}");
    }
}

#[test]
fn the_page_tells_of_every_metric_and_of_none_that_is_not_there() {
    let metrics = Metrics::default();
    // What has labels is shown once there is something to show.
    metrics.count("register", true);
    metrics.set_up("docker", true);
    metrics.events.get_or_create(&EventLabels { event: "start".into() }).inc();
    let mut text = String::new();
    encode(&mut text, &metrics.registry()).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let names: BTreeSet<_> = names.collect();
    let documented = words("registrator_");
    let plain = |word: &'static str| {
        ["_total", "_info"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word)
    };
    assert_eq!(documented.into_iter().map(plain).collect::<BTreeSet<_>>(), names);
}
