//! The checks that labels ask for: `SERVICE_CHECK_HTTP=/health`, `SERVICE_CHECK_2_TCP=true` … Pure.
//!
//! They are about the instance itself, never about an address of somebody else: the agent would ask
//! it in its own name, and show the answer to everybody.

mod command;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::clean;
use crate::duration;
use crate::labels::{Settings, short, yes_or_no};
use crate::model::{Check, CheckKind, Status};
use crate::warnings::Warnings;
pub(crate) use target::Target;

/// How often a check runs unless it says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// The durations that mean something, and that Consul can read.
const DURATIONS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(366 * 24);
/// The shortest TTL; a heartbeat more often than that is a load of its own.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// As many checks are taken for one instance.
const LIMIT: usize = 16;
/// The words that ask for a check, in the order in which checks are listed.
pub(crate) const KINDS: [&str; 7] = ["HTTP", "HTTPS", "TCP", "TTL", "GRPC", "SCRIPT", "CMD"];
/// The words that say more about one.
pub(crate) const OPTIONS: [&str; 11] = [
    "INTERVAL",
    "TIMEOUT",
    "METHOD",
    "HTTP_METHOD",
    "HTTPS_METHOD",
    "HEADER",
    "BODY",
    "INITIAL_STATUS",
    "DEREGISTER_AFTER",
    "TLS_SKIP_VERIFY",
    "GRPC_USE_TLS",
];
/// The longest text that is passed on, in bytes; a command or a body may be longer than a Meta value.
const TEXT: usize = 4096;

/// Returns the checks of one instance; one that cannot be understood is a warning.
pub(crate) fn checks(
    settings: &Settings<'_>,
    target: &Target<'_>,
    warnings: &mut Warnings,
) -> Vec<Check> {
    let words: Words<'_> =
        settings.checks().into_iter().map(|(key, value)| (split(key), value)).collect();
    for (number, word) in words.keys() {
        if !KINDS.contains(word) && !OPTIONS.contains(word) {
            warnings.add(setting(*number, word), "is no kind of check and no option of one");
        }
    }
    let numbers: BTreeSet<Option<u16>> = words.keys().map(|(number, _)| *number).collect();
    let mut checks = Vec::new();
    for (number, kind) in numbers.iter().flat_map(|number| KINDS.map(|kind| (*number, kind))) {
        let Some(value) = words.get(&(number, kind)) else { continue };
        if yes_or_no(value) == Some(false) {
            continue;
        }
        if checks.len() == LIMIT {
            let problem = format!("more than {LIMIT} checks; registered without the rest");
            warnings.add("SERVICE_CHECK_*", problem);
            break;
        }
        match (Asked { words: &words, number, kind, value: clean::limited(value, TEXT) })
            .check(target)
        {
            Ok(check) => checks.push(check),
            Err(problem) => {
                let problem = format!("{problem}; registered without this check");
                warnings.add(setting(number, kind), problem);
            }
        }
    }
    checks
}

/// The settings about checks, by number and word.
type Words<'a> = BTreeMap<(Option<u16>, &'a str), &'a str>;

/// Splits `2_HTTP` into its number and the rest.
fn split(key: &str) -> (Option<u16>, &str) {
    match key.split_once('_').map(|(number, rest)| (number.parse(), rest)) {
        Some((Ok(number), rest)) => (Some(number), rest),
        _ => (None, key),
    }
}

fn setting(number: Option<u16>, word: &str) -> String {
    let number = number.map(|number| format!("{number}_")).unwrap_or_default();
    format!("SERVICE_CHECK_{number}{}", short(word))
}

/// A check that is asked for. Its own options come first, those without a number otherwise.
struct Asked<'a> {
    words: &'a Words<'a>,
    number: Option<u16>,
    kind: &'a str,
    value: String,
}

impl Asked<'_> {
    fn check(&self, target: &Target<'_>) -> Result<Check, String> {
        let number = self.number.map(|number| format!("{number}-")).unwrap_or_default();
        Ok(Check {
            name: format!("{number}{}", self.kind.to_ascii_lowercase()),
            kind: self.kind(target)?,
            interval: self.duration("INTERVAL")?.unwrap_or(INTERVAL),
            timeout: self.duration("TIMEOUT")?,
            initial_status: self.status("INITIAL_STATUS")?,
            deregister_after: self.duration("DEREGISTER_AFTER")?,
        })
    }

    fn kind(&self, target: &Target<'_>) -> Result<CheckKind, String> {
        let value = self.value.as_str();
        match self.kind {
            "HTTP" => self.http(target.url("http", value)?),
            "HTTPS" => self.http(target.url("https", value)?),
            "TCP" => Ok(CheckKind::Tcp { target: target.host_port(value)? }),
            "GRPC" => Ok(CheckKind::Grpc {
                target: target.grpc(value)?,
                tls: self.flag("GRPC_USE_TLS")?,
                tls_skip_verify: self.flag("TLS_SKIP_VERIFY")?,
            }),
            "TTL" => match parsed("TTL", value)? {
                ttl if ttl >= SHORTEST_TTL => Ok(CheckKind::Ttl { ttl }),
                _ => Err(format!("{:?} is shorter than 1s", short(value))),
            },
            // The user wrote a shell's line: it goes to a shell, as it always did.
            "SCRIPT" => Ok(CheckKind::Command {
                args: vec!["/bin/sh".into(), "-c".into(), target.filled(value)],
            }),
            _ => Ok(CheckKind::Command { args: command::words(&target.filled(value))? }),
        }
    }

    fn http(&self, url: String) -> Result<CheckKind, String> {
        let method =
            self.option("METHOD").or_else(|| self.option(&format!("{}_METHOD", self.kind)));
        let method = method.map(|method| method.trim().to_ascii_uppercase());
        let is_method = |method: &str| method.chars().all(|c| c.is_ascii_uppercase());
        if let Some(bad) = method.as_deref().filter(|method| !is_method(method)) {
            return Err(format!("METHOD {:?} is no method", short(bad)));
        }
        Ok(CheckKind::Http {
            url,
            method: method.map(|method| clean::limited(&method, TEXT)),
            headers: self.headers()?,
            body: self.option("BODY").map(|body| clean::limited(body, TEXT)),
            tls_skip_verify: self.flag("TLS_SKIP_VERIFY")?,
        })
    }

    /// Reads `Name: value|Other: value`. An error repeats nothing of it: one who forgets the colon shows a secret.
    fn headers(&self) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let text = self.option("HEADER").map(|text| clean::limited(text, TEXT));
        for (place, header) in text.iter().flat_map(|text| text.split('|')).enumerate() {
            let (name, value) = header.split_once(':').unwrap_or_default();
            let name = name.trim();
            let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`~".contains(c);
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(format!("HEADER, number {} of it, is not Name: value", place + 1));
            }
            headers.entry(name.to_owned()).or_default().push(value.trim().to_owned());
        }
        Ok(headers)
    }

    fn option(&self, word: &str) -> Option<&str> {
        let own = self.words.get(&(self.number, word));
        own.or_else(|| self.words.get(&(None, word))).copied()
    }

    fn duration(&self, word: &str) -> Result<Option<Duration>, String> {
        self.option(word).map(|text| parsed(word, text)).transpose()
    }

    fn flag(&self, word: &str) -> Result<bool, String> {
        self.option(word).map_or(Ok(false), |text| {
            yes_or_no(text)
                .ok_or_else(|| format!("{word} {:?} is neither true nor false", short(text)))
        })
    }

    fn status(&self, word: &str) -> Result<Option<Status>, String> {
        let Some(text) = self.option(word) else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "passing" => Ok(Some(Status::Passing)),
            "warning" => Ok(Some(Status::Warning)),
            "critical" => Ok(Some(Status::Critical)),
            _ => Err(format!("{word} {:?} is none of passing, warning, critical", short(text))),
        }
    }
}

fn parsed(word: &str, text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text).ok().filter(|duration| DURATIONS.contains(duration));
    duration.ok_or_else(|| format!("{word} {:?} is no duration such as 10s", short(text)))
}
