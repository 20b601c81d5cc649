//! What each command's `--help` ends with: examples, and exit codes where there is more than failure.

use clap::Command;

/// Commands, their examples (without the program's name), and what their exit codes mean.
const EXAMPLES: [(&str, &[&str], &str); 17] = [
    (
        "run",
        &["run 80 10.0.0.11:8080 10.0.0.12:8080", "run --mode http 80 a:80 -- 6379 redis:6379"],
        "",
    ),
    (
        "reconfigure",
        &["reconfigure 80 10.0.0.12:8080", "reconfigure 127.127.0.2:80 10.0.0.12 8080"],
        "0 when HAProxy serves it, 1 when HAProxy refused it or nobody answered",
    ),
    ("showconfig", &["showconfig"], ""),
    (
        "debugconfig",
        &["debugconfig", "debugconfig 80 10.0.0.12:8080"],
        "0 when HAProxy would load it, 1 when not",
    ),
    ("healthcheck", &["healthcheck"], "0 when HAProxy serves or the agent answers, 1 when not"),
    ("link", &["link docker-compose.yml converted.yml"], ""),
    (
        "push",
        &["push --registry localhost:5000 --version v2 docker-compose.yml"],
        "0 when every image was built and pushed, 1 when not: no file is written then",
    ),
    ("agent", &["agent", "agent --docker-host tcp://10.0.0.11:2376 --docker-tls-verify"], ""),
    ("create", &["create --project shop"], "0, or 1 when a client could not be given its own"),
    ("configure", &["configure --internal --network shop_default"], "those of confd --once"),
    ("delete", &["delete --project shop"], "0, or 1 when one could not be removed"),
    (
        "wait",
        &["wait rng", "wait shop-rng-1 --timeout 10"],
        "0 when all serve it, 1 when not in time",
    ),
    (
        "explain",
        &["explain rng", "explain rng --json"],
        "0 when there are instances and all are served, 1 when not",
    ),
    ("status", &["status", "status --json"], ""),
    (
        "stop",
        &["stop shop-rng-1", "stop shop-rng-1 shop-rng-2 --timeout 300"],
        "0 when all are stopped, 1 when one goes on",
    ),
    ("weight", &["weight web --tag v1=90 --tag v2=10", "weight web --clear"], ""),
    (
        "drain-node",
        &["drain-node node2", "drain-node node2 --back"],
        "0 when no ambassador has the node's instances any more, 1 when not in time",
    ),
];

/// Returns the command with an end to each subcommand's help.
pub(crate) fn with_examples(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (name, examples, codes)| {
        command.mut_subcommand(name, |subcommand| subcommand.after_help(end(examples, codes)))
    })
}

fn end(examples: &[&str], codes: &str) -> String {
    let lines: Vec<_> = examples.iter().map(|line| format!("\n  ambassador {line}")).collect();
    let title = if lines.len() == 1 { "Example" } else { "Examples" };
    let codes = if codes.is_empty() { String::new() } else { format!("\n\nExit codes: {codes}.") };
    format!("{title}:{}{codes}", lines.concat())
}
