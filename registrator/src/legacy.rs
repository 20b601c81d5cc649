//! The command lines of older registrators. Pure: no I/O, no clock, no async.

use std::time::Duration;

use services::parse_duration;

/// The flags of older registrators, which could be written with one dash, and our names for them.
const FLAGS: [(&str, &str); 14] = [
    ("cleanup", "cleanup"),
    ("deregister", "deregister"),
    ("explicit", "explicit"),
    ("internal", "internal"),
    ("ip", "ip"),
    ("resync", "resync"),
    ("retry-attempts", "retry-attempts"),
    ("retry-interval", "retry-interval"),
    ("tags", "tags"),
    ("ttl", "ttl"),
    ("ttl-refresh", "ttl-refresh"),
    ("useIpFromLabel", "use-ip-from-label"),
    ("use-ip-from-label", "use-ip-from-label"),
    ("version", "version"),
];

/// Flags that are accepted and do nothing: we never give up.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Ignored {
    /// How often older registrators tried to reach Consul.
    #[arg(long, hide = true, allow_hyphen_values = true)]
    retry_attempts: Option<i64>,
    /// How long they waited in between.
    #[arg(long, hide = true, value_parser = parse_duration)]
    retry_interval: Option<Duration>,
}

impl Ignored {
    /// Tells whether one of them was given.
    #[must_use]
    pub(crate) fn given(&self) -> bool {
        self.retry_attempts.is_some() || self.retry_interval.is_some()
    }
}

/// Returns the command line in our spelling: `-internal` becomes `--internal`, and so on; other
/// words stay as they are.
pub(crate) fn rewrite(words: impl IntoIterator<Item = String>) -> Vec<String> {
    words.into_iter().map(|word| spelled(&word).unwrap_or(word)).collect()
}

fn spelled(word: &str) -> Option<String> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    let (name, value) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    };
    let (_, ours) = FLAGS.iter().find(|(old, _)| *old == name)?;
    Some(value.map_or_else(|| format!("--{ours}"), |value| format!("--{ours}={value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dash_is_as_good_as_two() {
        let words = ["-internal", "-ip=1.2.3.4", "--useIpFromLabel", "x", "-h", "-x", "consul://"];
        let rewritten = rewrite(words.map(String::from));
        let expected =
            ["--internal", "--ip=1.2.3.4", "--use-ip-from-label", "x", "-h", "-x", "consul://"];
        assert_eq!(rewritten, expected);
    }
}
