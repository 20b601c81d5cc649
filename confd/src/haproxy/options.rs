//! Which options of a `server` line can change at run time. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;

use super::words::Word;

/// The options of a server by name, with the value of those that have one; later ones replace earlier ones.
pub(crate) type Options = BTreeMap<String, Option<String>>;

/// How an option is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Present or not; `no-NAME` takes it away.
    Flag,
    /// Followed by one argument.
    Value,
}

/// What it takes to bring in a server with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// The runtime socket, in HAProxy 2.6 and in 3.0.
    RunTime,
    /// A reload: the option is refused at run time, or needs files that are read at the start only.
    Reload,
}

use Form::{Flag, Value};
use Needs::{Reload, RunTime};

/// The one table of what can change at run time, after "add server" in HAProxy's management guide.
///
/// A server line with an option that is not here is left alone at run time: any change to it needs a reload.
const OPTIONS: &[(&str, Form, Needs)] = &[
    ("addr", Value, RunTime),
    ("alpn", Value, Reload),
    ("backup", Flag, RunTime),
    ("ca-file", Value, Reload),
    ("check", Flag, RunTime),
    ("check-send-proxy", Flag, RunTime),
    ("check-sni", Value, Reload),
    ("check-ssl", Flag, Reload),
    ("ciphers", Value, Reload),
    ("cookie", Value, Reload),
    ("crt", Value, Reload),
    ("disabled", Flag, RunTime),
    ("downinter", Value, RunTime),
    ("error-limit", Value, RunTime),
    ("fall", Value, RunTime),
    ("fastinter", Value, RunTime),
    ("id", Value, Reload),
    ("init-addr", Value, Reload),
    ("inter", Value, RunTime),
    ("maxconn", Value, RunTime),
    ("maxqueue", Value, RunTime),
    ("minconn", Value, RunTime),
    ("observe", Value, RunTime),
    ("on-error", Value, RunTime),
    ("on-marked-down", Value, RunTime),
    ("on-marked-up", Value, RunTime),
    ("pool-low-conn", Value, RunTime),
    ("pool-max-conn", Value, RunTime),
    ("pool-purge-delay", Value, RunTime),
    ("port", Value, RunTime),
    ("proto", Value, RunTime),
    ("resolve-prefer", Value, Reload),
    ("resolvers", Value, Reload),
    ("rise", Value, RunTime),
    ("send-proxy", Flag, RunTime),
    ("send-proxy-v2", Flag, RunTime),
    ("slowstart", Value, RunTime),
    ("sni", Value, Reload),
    ("ssl", Flag, Reload),
    ("track", Value, Reload),
    ("verify", Value, Reload),
    ("verifyhost", Value, Reload),
    ("weight", Value, RunTime),
];

/// Returns every option, and whether a server with it can come in at run time.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, bool)> {
    OPTIONS.iter().map(|(name, _, needs)| (*name, *needs == RunTime))
}

/// The options that a change at run time reaches on a server that is already there.
const CHANGEABLE: &[&str] = &["disabled", "weight"];

/// Reads options into `options`; the error says which cannot be understood.
pub(crate) fn read(words: &[Word], options: &mut Options) -> Result<(), String> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        // `enabled` is the one flag whose opposite is not spelled `no-`.
        let (name, present) = match word.text.as_str() {
            "enabled" => ("disabled", false),
            word => word.strip_prefix("no-").map_or((word, true), |name| (name, false)),
        };
        match OPTIONS.iter().find(|(known, ..)| *known == name) {
            Some((_, Flag, _)) if present => {
                options.insert(name.to_owned(), None);
            }
            Some((_, Flag, _)) => {
                options.remove(name);
            }
            Some((_, Value, _)) if present => {
                let value = words.next().ok_or_else(|| format!("{name} without a value"))?;
                if value.expands || !is_plain(&value.text) {
                    return Err(format!("{name} with the value {:?}", value.text));
                }
                options.insert(name.to_owned(), Some(value.text.clone()));
            }
            _ => return Err(format!("option {:?}", word.text)),
        }
    }
    Ok(())
}

/// Returns the first option that a server added at run time cannot have.
pub(crate) fn obstacle(options: &Options) -> Option<&'static str> {
    let reload = OPTIONS.iter().filter(|(.., needs)| *needs == Reload).map(|(name, ..)| *name);
    reload.into_iter().find(|name| options.contains_key(*name))
}

/// Returns whether two servers differ in nothing but what commands can change on a server that is there.
pub(crate) fn same(one: &Options, other: &Options) -> bool {
    let fixed = |options: &Options| -> Options {
        let fixed = options.iter().filter(|(name, _)| !CHANGEABLE.contains(&name.as_str()));
        fixed.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    fixed(one) == fixed(other)
}

/// Returns what `add server` takes after the address: everything but weight and state, which are set by commands.
pub(crate) fn arguments(options: &Options) -> String {
    let fixed = options.iter().filter(|(name, _)| !CHANGEABLE.contains(&name.as_str()));
    let words = fixed.map(|(name, value)| match value {
        Some(value) => format!("{name} {value}"),
        None => name.clone(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns whether a word stands for itself on HAProxy's command line: no separator, quote, escape or variable.
pub(crate) fn is_plain(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-/@+,%[]*=~!".contains(&byte);
    !word.is_empty() && word.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        let mut options = Options::new();
        read(&words::split(line).unwrap(), &mut options).map(|()| options)
    }

    #[test]
    fn later_options_replace_earlier_ones_and_no_takes_them_away() {
        let read = options("check inter 1s disabled inter 2s no-check enabled backup").unwrap();
        assert_eq!(arguments(&read), "backup inter 2s");
    }

    #[test]
    fn weight_and_state_are_not_arguments_of_a_new_server() {
        let read = options("weight 10 disabled check").unwrap();
        assert_eq!(arguments(&read), "check");
    }

    #[test]
    fn what_needs_a_reload_is_named() {
        assert_eq!(obstacle(&options("check cookie a weight 3").unwrap()), Some("cookie"));
        assert_eq!(obstacle(&options("check inter 1s backup").unwrap()), None);
    }

    #[test]
    fn what_is_not_in_the_table_is_not_guessed() {
        assert_eq!(options("check frobnicate").unwrap_err(), "option \"frobnicate\"");
        assert_eq!(options("no-weight").unwrap_err(), "option \"no-weight\"");
        assert_eq!(options("inter").unwrap_err(), "inter without a value");
        assert!(options("inter '1s;quit'").is_err());
        assert!(options("inter \"$INTER\"").is_err());
    }

    #[test]
    fn weight_and_state_do_not_make_another_server() {
        assert!(same(
            &options("check weight 1").unwrap(),
            &options("weight 2 check disabled").unwrap()
        ));
        assert!(!same(&options("check inter 1s").unwrap(), &options("check inter 2s").unwrap()));
    }
}
