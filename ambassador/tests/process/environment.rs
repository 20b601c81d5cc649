//! Environment variables as Compose files leave them.

use std::process::{Command, Output};

/// Every variable that has a flag.
const VARIABLES: [&str; 20] = [
    "AMBASSADOR_DIR",
    "AMBASSADOR_HARD_STOP_AFTER",
    "AMBASSADOR_IMAGE",
    "AMBASSADOR_MODE",
    "AMBASSADOR_STATS",
    "AMBASSADOR_STOP_AFTER",
    "AMBASSADOR_TEMPLATE",
    "AMBASSADOR_VOLUME",
    "COMPOSE_FILE",
    "COMPOSE_PROJECT_NAME",
    "DOCKER_CERT_PATH",
    "DOCKER_REGISTRY",
    "DOCKER_TLS_VERIFY",
    "HAPROXY",
    "LISTEN",
    "LOG",
    "LOG_FORMAT",
    "REGISTRATOR_FLAGS",
    "VERSION",
    "CONSUL_HTTP_ADDR",
];

fn run(words: &[&str], empty: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ambassador"));
    for name in VARIABLES {
        if empty {
            command.env(name, "")
        } else {
            command.env_remove(name)
        };
    }
    command.args(words).env("DOCKER_HOST", "unix:///no/such.sock").output().unwrap()
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    for (words, code) in [
        (&["debugconfig", "80", "127.0.0.1:81"][..], 0),
        (&["nonsense"], 2),
        (&["create", "--project", "x"], 1),
        (&["create"], 2),
        (&["delete"], 2),
        (&["link"], 1),
        (&["push", "no-such-file"], 2),
        (&["push", "--registry", "r", "--version", "v", "no-such-file"], 1),
        (&["healthcheck"], 1),
        (&["explain", "rng", "--consul-addr", "http://127.0.0.1:1"], 1),
    ] {
        let (empty, unset) = (run(words, true), run(words, false));
        let said = String::from_utf8_lossy(&empty.stderr);
        assert_eq!(empty.status.code(), Some(code), "{words:?}: {said}");
        // The time stands before what is logged.
        let after = |output: &Output| {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            text.lines()
                .map(|line| line.trim_start_matches(|c| c != ' ').to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(after(&empty), after(&unset), "{words:?}");
        assert_eq!(empty.stdout, unset.stdout, "{words:?}");
    }
}
