//! Frontends → HAProxy's configuration. Pure: no I/O, no clock, no async.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use crate::grammar::{Backend, Frontend, Host, Listen};

/// What is said of every frontend alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    /// Where statistics and metrics are shown; on loopback unless an address is given.
    pub(crate) stats: Option<Listen>,
}

/// What HAProxy understands of the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Connections
    #[default]
    Tcp,
    /// Requests: each may go to another server, and a lost GET is sent again
    Http,
}

/// A refused connection goes to another server at once; one that nobody answers, after 2 s.
/// A dead server is found out within 1.1 s, one that is back within half a second. An idle link
/// may stay open for a day, while keep-alives tell whether the other side still exists.
const DEFAULTS: &str = "\
defaults
    balance roundrobin
    retries 3
    option redispatch 1
    option clitcpka
    option srvtcpka
    timeout connect 2s
    timeout client 1d
    timeout server 1d
    default-server check inter 1s fastinter 100ms downinter 100ms fall 2 rise 1
";

/// Only what may be sent twice is sent again when a server dies over it.
const HTTP: &str = "    mode http
    timeout http-request 10s
    timeout http-keep-alive 1m
    retry-on conn-failure empty-response
";
const HTTP_LISTEN: &str = "    http-request disable-l7-retry unless METH_GET
";

/// Returns the configuration that serves these frontends, in their order.
pub(crate) fn generate(frontends: &[Frontend], options: Options) -> String {
    let mut text = "# Written by `ambassador`; see `ambassador debugconfig --help`.\n".to_owned();
    text += DEFAULTS;
    text += match options.mode {
        Mode::Tcp => "    mode tcp\n",
        Mode::Http => HTTP,
    };
    for frontend in frontends {
        text += &section(frontend, options.mode);
    }
    if let Some(listen) = options.stats {
        text += &stats(listen);
    }
    text
}

fn section(frontend: &Frontend, mode: Mode) -> String {
    let listen = frontend.listen;
    if frontend.backends.is_empty() {
        return format!("\n# {listen} has no backend: nothing listens, connections are refused.\n");
    }
    let mut text = format!("\nlisten in-{}\n    bind {}\n", name(listen), bind(listen));
    if mode == Mode::Http {
        text += HTTP_LISTEN;
    }
    for backend in &frontend.backends {
        // Writing to a string does not fail.
        let _ = writeln!(text, "    server {} {backend}", server(backend));
    }
    text
}

fn stats(listen: Listen) -> String {
    let address = listen.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let bind = bind(Listen { address: Some(address), ..listen });
    format!(
        "\nfrontend stats\n    \
         mode http\n    \
         bind {bind}\n    \
         http-request use-service prometheus-exporter if {{ path /metrics }}\n    \
         stats enable\n    \
         stats uri /\n    \
         stats refresh 5s\n"
    )
}

fn bind(listen: Listen) -> String {
    match listen.address {
        Some(_) => listen.to_string(),
        None => format!("*:{}", listen.port),
    }
}

/// Names of sections and servers may not hold brackets; the last colon stands before the port.
fn name(listen: Listen) -> String {
    listen.to_string().replace(['[', ']'], "")
}

fn server(backend: &Backend) -> String {
    match &backend.host {
        Host::Ip(address) => format!("{address}:{}", backend.port),
        Host::Name(name) => format!("{name}:{}", backend.port),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grammar::{frontends, tests::any_frontends};

    fn text(words: &str, options: Options) -> String {
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        generate(&frontends(&words).unwrap(), options)
    }

    #[test]
    fn a_frontend_is_a_section_with_its_servers() {
        let text = text("127.127.0.2:80 10.0.0.1 8080 [fe80::1]:81", Options::default());
        let section = "\nlisten in-127.127.0.2:80\n    bind 127.127.0.2:80\n    \
            server 10.0.0.1:8080 10.0.0.1:8080\n    server fe80::1:81 [fe80::1]:81\n";
        assert!(text.ends_with(section), "{text}");
        assert!(text.contains("    mode tcp\n"), "{text}");
    }

    #[test]
    fn without_backends_nothing_listens() {
        let text = text("80", Options::default());
        assert!(!text.contains("bind"), "{text}");
        assert!(text.contains("# 80 has no backend"), "{text}");
    }

    #[test]
    fn statistics_stay_on_loopback_unless_an_address_is_given() {
        let at = |word| {
            let stats = Some(crate::grammar::listen(word).unwrap());
            text("", Options { stats, ..Options::default() })
        };
        assert!(at("8404").contains("bind 127.0.0.1:8404\n"));
        assert!(at("0.0.0.0:8404").contains("bind 0.0.0.0:8404\n"));
        assert!(at("[::1]:8404").contains("bind [::1]:8404\n"));
    }

    proptest! {
        #[test]
        fn each_backend_is_one_server_line_and_each_frontend_with_backends_one_bind(
            all in any_frontends(),
        ) {
            let text = generate(&all, Options::default());
            let lines = |word| text.lines().filter(|line| line.trim_start().starts_with(word)).count();
            let servers: usize = all.iter().map(|frontend| frontend.backends.len()).sum();
            let binds = all.iter().filter(|frontend| !frontend.backends.is_empty()).count();
            prop_assert_eq!(lines("server "), servers);
            prop_assert_eq!(lines("bind "), binds);
        }
    }
}
