//! The checks that labels ask for: `SERVICE_CHECK_HTTP=/health`, `SERVICE_CHECK_2_TCP=true` … Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clean;
use crate::duration;
use crate::labels::{Settings, short, yes_or_no};
use crate::model::{Check, CheckKind, Status};
use crate::warnings::Warnings;

/// How often a check runs unless it says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// The words that ask for a check, in the order in which checks are listed.
const KINDS: [&str; 7] = ["HTTP", "HTTPS", "TCP", "TTL", "GRPC", "SCRIPT", "CMD"];
/// The words that say more about one.
const OPTIONS: [&str; 9] = [
    "INTERVAL",
    "TIMEOUT",
    "METHOD",
    "HEADER",
    "BODY",
    "INITIAL_STATUS",
    "DEREGISTER_AFTER",
    "TLS_SKIP_VERIFY",
    "GRPC_USE_TLS",
];
/// The longest text that is passed on, in bytes; a command or a body may be longer than a Meta value.
const TEXT: usize = 4096;

/// Where the instance listens.
pub(crate) struct Target<'a> {
    /// Its address.
    pub(crate) address: &'a str,
    /// Its port.
    pub(crate) port: u16,
}

impl Target<'_> {
    fn host_port(&self) -> String {
        let (address, port) = (self.address, self.port);
        if address.contains(':') {
            format!("[{address}]:{port}")
        } else {
            format!("{address}:{port}")
        }
    }
}

/// Returns the checks of one instance; one that cannot be understood is a warning.
pub(crate) fn checks(
    settings: &Settings<'_>,
    target: &Target<'_>,
    warnings: &mut Warnings,
) -> Vec<Check> {
    let words = settings.checks();
    for key in words
        .keys()
        .filter(|key| !KINDS.contains(&split(key).1) && !OPTIONS.contains(&split(key).1))
    {
        let setting = format!("SERVICE_CHECK_{}", short(key));
        warnings.add(setting, "is no kind of check and no option of one");
    }
    let numbers: BTreeSet<Option<u16>> = words.keys().map(|key| split(key).0).collect();
    let mut checks = Vec::new();
    for number in numbers {
        let options = Numbered { words: &words, number };
        for kind in KINDS {
            let Some(value) = options.own(kind) else { continue };
            match check(kind, value, &options, target) {
                Ok(Some(check)) => checks.push(check),
                Ok(None) => {}
                Err(problem) => {
                    let setting = format!("SERVICE_CHECK_{}", options.key(kind));
                    warnings.add(setting, format!("{problem}; registered without this check"));
                }
            }
        }
    }
    checks
}

/// Splits `2_HTTP` into its number and the rest.
fn split(key: &str) -> (Option<u16>, &str) {
    match key.split_once('_').map(|(number, rest)| (number.parse(), rest)) {
        Some((Ok(number), rest)) => (Some(number), rest),
        _ => (None, key),
    }
}

/// The settings of one check: its own first, those without a number otherwise.
struct Numbered<'a> {
    words: &'a BTreeMap<&'a str, &'a str>,
    number: Option<u16>,
}

impl<'a> Numbered<'a> {
    fn key(&self, word: &str) -> String {
        self.number.map_or_else(|| word.to_owned(), |number| format!("{number}_{word}"))
    }

    fn own(&self, word: &str) -> Option<&'a str> {
        self.words.get(self.key(word).as_str()).copied()
    }

    fn option(&self, word: &str) -> Option<&'a str> {
        self.own(word).or_else(|| self.words.get(word).copied())
    }

    fn duration(&self, word: &str) -> Result<Option<Duration>, String> {
        let Some(text) = self.option(word) else { return Ok(None) };
        let parsed = duration::parse(text.trim()).filter(|duration| !duration.is_zero());
        parsed
            .map(Some)
            .ok_or_else(|| format!("{word} {:?} is no duration such as 10s", short(text)))
    }

    fn flag(&self, word: &str) -> Result<bool, String> {
        match self.option(word).map(yes_or_no) {
            None => Ok(false),
            Some(Some(flag)) => Ok(flag),
            Some(None) => Err(format!("{word} is neither true nor false")),
        }
    }

    fn text(&self, word: &str) -> Option<String> {
        self.option(word).map(|text| clean::limited(text, TEXT))
    }
}

fn check(
    kind: &str,
    value: &str,
    options: &Numbered<'_>,
    target: &Target<'_>,
) -> Result<Option<Check>, String> {
    let value = clean::limited(value, TEXT);
    if yes_or_no(&value) == Some(false) {
        return Ok(None);
    }
    if target.port == 0
        && matches!(kind, "HTTP" | "HTTPS" | "TCP" | "GRPC")
        && yes_or_no(&value) == Some(true)
    {
        return Err("there is no port to check".to_owned());
    }
    let kind_of_check = match kind {
        "HTTP" | "HTTPS" => http(&kind.to_ascii_lowercase(), &value, options, target)?,
        "TCP" => CheckKind::Tcp { target: host_port(&value, target)? },
        "TTL" => CheckKind::Ttl {
            ttl: duration::parse(value.trim())
                .filter(|ttl| !ttl.is_zero())
                .ok_or_else(|| format!("{:?} is no duration such as 30s", short(&value)))?,
        },
        "GRPC" => grpc(&value, options, target)?,
        "SCRIPT" => {
            // The user wrote a shell's line: it goes to a shell, as it always did.
            CheckKind::Command { args: vec!["/bin/sh".into(), "-c".into(), filled(&value, target)] }
        }
        "CMD" => CheckKind::Command { args: arguments(&filled(&value, target))? },
        other => return Err(format!("{other} is no kind of check")),
    };
    let initial_status = match options.option("INITIAL_STATUS").map(str::trim) {
        None => None,
        Some("passing") => Some(Status::Passing),
        Some("warning") => Some(Status::Warning),
        Some("critical") => Some(Status::Critical),
        Some(other) => {
            return Err(format!(
                "INITIAL_STATUS {:?} is none of passing, warning, critical",
                short(other)
            ));
        }
    };
    Ok(Some(Check {
        name: options.key(kind).to_lowercase().replace('_', "-"),
        kind: kind_of_check,
        interval: options.duration("INTERVAL")?.unwrap_or(INTERVAL),
        timeout: options.duration("TIMEOUT")?,
        initial_status,
        deregister_after: options.duration("DEREGISTER_AFTER")?,
    }))
}

fn http(
    scheme: &str,
    value: &str,
    options: &Numbered<'_>,
    target: &Target<'_>,
) -> Result<CheckKind, String> {
    let url = if value.starts_with("http://") || value.starts_with("https://") {
        value.to_owned()
    } else {
        let path = if yes_or_no(value) == Some(true) { "/" } else { value };
        if target.port == 0 {
            return Err("there is no port to check".to_owned());
        }
        format!("{scheme}://{}/{}", target.host_port(), path.trim_start_matches('/'))
    };
    if url.contains(char::is_whitespace) {
        return Err(format!("{:?} has white space in it", short(&url)));
    }
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for header in options.text("HEADER").iter().flat_map(|text| text.split('|')) {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| format!("HEADER {:?} is not Name: value", short(header)))?;
        headers.entry(name.trim().to_owned()).or_default().push(value.trim().to_owned());
    }
    let method = options.text("METHOD").map(|method| method.to_ascii_uppercase());
    if let Some(bad) = method.as_ref().filter(|m| !m.chars().all(|c| c.is_ascii_uppercase())) {
        return Err(format!("METHOD {:?} is no method", short(bad)));
    }
    let tls_skip_verify = options.flag("TLS_SKIP_VERIFY")?;
    Ok(CheckKind::Http { url, method, headers, body: options.text("BODY"), tls_skip_verify })
}

fn grpc(value: &str, options: &Numbered<'_>, target: &Target<'_>) -> Result<CheckKind, String> {
    let (tls, tls_skip_verify) = (options.flag("GRPC_USE_TLS")?, options.flag("TLS_SKIP_VERIFY")?);
    let target = match yes_or_no(value) {
        Some(_) => target.host_port(),
        None if value.contains(':') => value.to_owned(),
        None => format!("{}/{value}", target.host_port()),
    };
    if target.contains(char::is_whitespace) {
        return Err(format!("{:?} has white space in it", short(&target)));
    }
    Ok(CheckKind::Grpc { target, tls, tls_skip_verify })
}

fn host_port(value: &str, target: &Target<'_>) -> Result<String, String> {
    if yes_or_no(value) == Some(true) {
        return Ok(target.host_port());
    }
    let good = value.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if good && !value.contains(char::is_whitespace) {
        Ok(value.to_owned())
    } else {
        Err(format!("{:?} is neither true nor host:port", short(value)))
    }
}

/// Puts the instance's endpoint where a command names it.
fn filled(command: &str, target: &Target<'_>) -> String {
    command
        .replace("$SERVICE_IP", target.address)
        .replace("$SERVICE_PORT", &target.port.to_string())
}

/// Splits a command into words as a shell does with quotes, and without anything else a shell does.
fn arguments(command: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == c => quote = None,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match (quote, words.is_empty()) {
        (Some(_), _) => Err("a quote is not closed".to_owned()),
        (None, true) => Err("an empty command".to_owned()),
        (None, false) => Ok(words),
    }
}
