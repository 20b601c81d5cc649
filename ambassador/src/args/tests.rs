//! What command lines mean, in the forms of the workshop and of today.

use super::*;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(["ambassador"].into_iter().chain(line.split_whitespace()))
}

#[test]
fn the_page_for_users_has_every_command_and_every_flag() {
    let page = include_str!("../../../docs/ambassadors.md");
    let named =
        |word: &str| page.contains(&format!("`{word}")) || page.contains(&format!(" {word}"));
    for command in Cli::command().get_subcommands().filter(|one| one.get_name() != "help") {
        assert!(named(&format!("ambassador {}", command.get_name())), "{}", command.get_name());
        let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
        for flag in flags.filter(|flag| flag.get_help_heading() != Some("Consul")) {
            let Some(long) = flag.get_long() else { continue };
            assert!(named(&format!("--{long}")), "{} --{long}", command.get_name());
        }
    }
}

#[test]
fn the_flags_of_all_commands_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_of_every_command_ends_with_examples_that_are_understood() {
    let help = |name: &str| match parse(&format!("{name} --help")) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => error.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    for subcommand in Cli::command().get_subcommands() {
        let name = subcommand.get_name();
        let help = help(name);
        let examples = help.split_once("\nExample").expect(name).1.lines();
        let examples: Vec<_> =
            examples.filter_map(|line| line.strip_prefix("  ambassador ")).collect();
        assert!((1..=2).contains(&examples.len()), "{help}");
        for example in examples {
            assert_eq!(example.split(' ').next(), Some(name), "{help}");
            if let Err(error) = parse(example) {
                panic!("{example}: {error}");
            }
        }
    }
}

#[test]
fn the_bare_form_is_run() {
    for words in ["80 10.0.0.1 80 [::1]:81", "127.127.0.2:80", "80 a:1 -- 81 b:1"] {
        let task = |line: &str| format!("{:?}", parse(line).unwrap().task);
        assert_eq!(task(words), task(&format!("run {words}")));
    }
    for words in ["--mode http 80 a:80", "--stop-after 1s --dir /d 80 a:1 -- 81 b:1"] {
        let task = |line: &str| format!("{:?}", parse(line).unwrap().task);
        assert_eq!(task(words), task(&format!("run {words}")));
    }
    assert_eq!(parse("--mode http explain").unwrap_err().exit_code(), 2);
    let args = parse("--dir /d 80 a:1").unwrap();
    assert_eq!(args.place.directory.path(), std::path::Path::new("/d"));
}

#[test]
fn several_frontends_are_separated_by_two_dashes() {
    let Task::Run { config: Some(config), .. } = parse("run 80 a:1 -- 81 b 1").unwrap().task else {
        panic!("no configuration")
    };
    assert!(config.contains("listen in-80\n"), "{config}");
    assert!(config.contains("listen in-81\n"), "{config}");
}

#[test]
fn run_and_debugconfig_need_no_words() {
    assert!(matches!(parse("run").unwrap().task, Task::Run { config: None, .. }));
    assert!(matches!(parse("debugconfig").unwrap().task, Task::Debugconfig { config: None }));
}

#[test]
fn wrong_grammar_shows_the_usage_and_exits_with_2() {
    for line in [
        "reconfigure",
        "reconfigure 80 web",
        "run web",
        "nonsense",
        "80 81 82",
        "run 80 a:1 --",
        "showconfig 80",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains("Usage: ambassador"), "{line}: {error}");
    }
}

#[test]
fn wrong_values_of_flags_exit_with_2() {
    for line in ["run --mode udp 80", "run --stats nowhere 80", "run --stop-after soon"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}
