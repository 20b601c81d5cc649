//! The words that say what to listen on and where to connect to. Pure: no I/O, no clock, no async.
//!
//! ```text
//! words    = frontend { "--" frontend }
//! frontend = [ADDR:]PORT { backend }
//! backend  = HOST:PORT | HOST PORT
//! ```

use std::fmt;
use std::net::IpAddr;

/// Separates one frontend from the next.
const NEXT: &str = "--";
/// The longest name that DNS knows.
const NAME: usize = 253;

/// Where to listen, and the servers behind it; none is a valid state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frontend {
    pub(crate) listen: Listen,
    pub(crate) backends: Vec<Backend>,
}

/// An address to listen on; without an IP address, on all IPv4 ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// What HAProxy connects to; it resolves a name when it loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Why words are no frontends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0:?} is no [ADDR:]PORT to listen on (ADDR is an IP address, IPv6 in brackets)")]
    Listen(String),
    #[error("{0:?} is no address or name of a backend (IPv6 goes in brackets)")]
    Host(String),
    #[error("{0:?} is no port: it must be a number from 1 to 65535")]
    Port(String),
    #[error("backend {0:?} has no port")]
    PortMissing(String),
    #[error("there is no [ADDR:]PORT before or after `--`")]
    Empty,
    #[error("{0} is listened on twice")]
    ListenTwice(Listen),
    #[error("backend {0} is given twice")]
    BackendTwice(Backend),
}

/// Reads frontends; no words are no frontends.
pub(crate) fn frontends(words: &[String]) -> Result<Vec<Frontend>, Error> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut frontends = Vec::<Frontend>::new();
    for words in words.split(|word| word == NEXT) {
        let frontend = frontend(words)?;
        if frontends.iter().any(|other| other.listen == frontend.listen) {
            return Err(Error::ListenTwice(frontend.listen));
        }
        frontends.push(frontend);
    }
    Ok(frontends)
}

fn frontend(words: &[String]) -> Result<Frontend, Error> {
    let (listen, rest) = words.split_first().ok_or(Error::Empty)?;
    let listen = self::listen(listen)?;
    let mut backends = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let (host, port) = match split(word) {
            (host, Some(port)) => (host, port),
            (host, None) => {
                (host, rest.next().ok_or_else(|| Error::PortMissing(word.clone()))?.as_str())
            }
        };
        let backend = Backend { host: self::host(host)?, port: self::port(port)? };
        if backends.contains(&backend) {
            return Err(Error::BackendTwice(backend));
        }
        backends.push(backend);
    }
    Ok(Frontend { listen, backends })
}

/// Reads `[ADDR:]PORT`; `*` stands for all IPv4 addresses.
pub(crate) fn listen(word: &str) -> Result<Listen, Error> {
    let wrong = || Error::Listen(word.to_owned());
    let (address, port) = match split(word) {
        (port, None) | ("*", Some(port)) => (None, port),
        (address, Some(port)) => match host(address) {
            Ok(Host::Ip(address)) => (Some(address), port),
            _ => return Err(wrong()),
        },
    };
    Ok(Listen { address, port: self::port(port).map_err(|_| wrong())? })
}

/// Splits at the colon before a port; colons within brackets belong to the address.
fn split(word: &str) -> (&str, Option<&str>) {
    let after = word.rfind(']').unwrap_or(0);
    match word[after..].rfind(':') {
        Some(colon) => (&word[..after + colon], Some(&word[after + colon + 1..])),
        None => (word, None),
    }
}

fn host(word: &str) -> Result<Host, Error> {
    let wrong = || Error::Host(word.to_owned());
    if let Some(inner) = word.strip_prefix('[') {
        let address = inner.strip_suffix(']').ok_or_else(wrong)?;
        return address.parse().map(|ip| Host::Ip(IpAddr::V6(ip))).map_err(|_| wrong());
    }
    if let Ok(address) = word.parse() {
        return Ok(Host::Ip(IpAddr::V4(address)));
    }
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let numeric = word.chars().all(|c| c.is_ascii_digit() || c == '.');
    if numeric || word.len() > NAME || !word.chars().all(ordinary) || word.starts_with(['-', '.']) {
        return Err(wrong());
    }
    Ok(Host::Name(word.to_owned()))
}

fn port(word: &str) -> Result<u16, Error> {
    let wrong = || Error::Port(word.to_owned());
    if !word.chars().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    word.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.listen)?;
        self.backends.iter().try_for_each(|backend| write!(f, " {backend}"))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Some(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Ip(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn parsed(text: &str) -> String {
        match frontends(&words(text)) {
            Ok(frontends) => {
                frontends.iter().map(Frontend::to_string).collect::<Vec<_>>().join(" -- ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn backends_are_one_word_or_two_and_may_be_mixed() {
        for (text, same) in [
            ("80", "80"),
            ("80 10.0.0.1 8080", "80 10.0.0.1:8080"),
            ("80 10.0.0.1:8080 web 80 10.0.0.2 81", "80 10.0.0.1:8080 web:80 10.0.0.2:81"),
            ("127.127.0.2:80 [::1] 80 [fe80::1]:81", "127.127.0.2:80 [::1]:80 [fe80::1]:81"),
            ("[::]:80 a_b-c.d:1", "[::]:80 a_b-c.d:1"),
            ("*:80", "80"),
            ("80 a:1 -- 81 b 2 -- 82", "80 a:1 -- 81 b:2 -- 82"),
            ("", ""),
        ] {
            assert_eq!(parsed(text), same, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("0", "\"0\""),
            ("65536", "\"65536\""),
            ("+80", "\"+80\""),
            ("http", "\"http\""),
            ("web:80", "\"web:80\""),
            (":80", "\":80\""),
            ("80 web", "\"web\" has no port"),
            ("80 web:", "\"\" is no port"),
            ("80 10.0.0.1 web", "\"web\" is no port"),
            ("80 10.0.0.256:80", "\"10.0.0.256\""),
            ("80 81 82", "\"81\""),
            ("80 ::1:80", "\"::1\""),
            ("80 [10.0.0.1]:80", "\"[10.0.0.1]\""),
            ("80 [::1:80", "\"[::1\""),
            ("80 a;b:80", "\"a;b\""),
            ("80 -a:80", "\"-a\""),
            ("80 a:1 --", "no [ADDR:]PORT"),
            ("-- 80", "no [ADDR:]PORT"),
            ("80 a:1 -- 80 b:1", "80 is listened on twice"),
            ("80 a:1 a 1", "a:1 is given twice"),
        ] {
            assert!(parsed(text).contains(word), "{text}: {}", parsed(text));
        }
    }

    pub(crate) fn any_frontends() -> impl Strategy<Value = Vec<Frontend>> {
        let address = || {
            prop_oneof![
                any::<[u8; 4]>().prop_map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
                any::<[u8; 16]>().prop_map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
            ]
        };
        let listen = (proptest::option::of(address()), 1..=u16::MAX)
            .prop_map(|(address, port)| Listen { address, port });
        let host = prop_oneof![
            address().prop_map(Host::Ip),
            "[a-z_][a-zA-Z0-9_.-]{0,20}".prop_map(Host::Name),
        ];
        let backend = (host, 1..=u16::MAX).prop_map(|(host, port)| Backend { host, port });
        let backends = proptest::collection::vec(backend, 0..4).prop_map(|mut all| {
            let mut seen = Vec::new();
            all.retain(|one| {
                !seen.contains(one) && {
                    seen.push(one.clone());
                    true
                }
            });
            all
        });
        proptest::collection::vec((listen, backends), 0..4).prop_map(|all| {
            let mut frontends = Vec::<Frontend>::new();
            for (listen, backends) in all {
                if frontends.iter().all(|other| other.listen != listen) {
                    frontends.push(Frontend { listen, backends });
                }
            }
            frontends
        })
    }

    proptest! {
        #[test]
        fn printed_frontends_are_read_back_whichever_way_backends_are_split(
            all in any_frontends(),
            split in any::<bool>(),
        ) {
            let mut line = Vec::new();
            for frontend in &all {
                if !line.is_empty() {
                    line.push("--".to_owned());
                }
                line.push(frontend.listen.to_string());
                for backend in frontend.backends.iter().map(Backend::to_string) {
                    match backend.rsplit_once(':').filter(|_| split) {
                        Some((host, port)) => line.extend([host.to_owned(), port.to_owned()]),
                        None => line.push(backend),
                    }
                }
            }
            prop_assert_eq!(frontends(&line), Ok(all));
        }

        #[test]
        fn any_words_are_read_or_refused(words in proptest::collection::vec(".{0,12}", 0..6)) {
            if let Ok(read) = frontends(&words) {
                let printed = read.iter().map(Frontend::to_string).collect::<Vec<_>>().join(" -- ");
                let again: Vec<_> = printed.split_whitespace().map(str::to_owned).collect();
                prop_assert_eq!(frontends(&again), Ok(read));
            }
        }
    }
}
