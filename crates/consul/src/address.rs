//! Reading the address of Consul, in all its spellings. Pure: no I/O, no clock, no async.

use std::path::PathBuf;

use url::Url;

use crate::{Secret, path};

/// Where an agent listens unless told otherwise.
const DEFAULT_HOST: &str = "127.0.0.1";
/// Consul's usual port for HTTP.
const HTTP_PORT: u16 = 8500;
/// Consul's usual port for HTTPS.
const HTTPS_PORT: u16 = 8501;

/// Where Consul's HTTP API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp {
        /// Whether to speak TLS.
        tls: bool,
        /// A host name or IP address, with brackets around one of version 6.
        host: String,
        /// The TCP port.
        port: u16,
        /// What comes before `/v1` in every path: empty, or `/some/prefix`, percent-encoded.
        prefix: String,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// What an address says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) address: Address,
    pub(crate) basic_auth: Option<Secret>,
    pub(crate) kv_prefix: Option<String>,
}

/// Reads an address; see [`crate::Config::from_uri`]. An error never repeats the text, which
/// may hold a password.
pub(crate) fn parse(text: &str) -> Result<Parsed, String> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err("there is a control character in it".into());
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None if text.starts_with('/') => ("unix".into(), text),
        None => (String::new(), text),
    };
    match scheme.as_str() {
        "" | "tcp" | "consul" => tcp(rest, false, Some(HTTP_PORT)),
        "http" => tcp(rest, false, None),
        "https" => tcp(rest, true, None),
        "consul-tls" => tcp(rest, true, Some(HTTPS_PORT)),
        "consulkv" => tcp(rest, false, Some(HTTP_PORT)).map(path_is_kv_prefix),
        "consulkv-tls" => tcp(rest, true, Some(HTTPS_PORT)).map(path_is_kv_prefix),
        "unix" | "consul-unix" => unix(rest, None),
        "consulkv-unix" => {
            let (socket, prefix) = rest.split_once(':').unwrap_or((rest, ""));
            unix(socket, Some(prefix.trim_matches('/').to_owned()))
        }
        _ => Err("its scheme is none of http, https, unix, consul, consul-tls, consul-unix, \
                  consulkv, consulkv-tls and consulkv-unix"
            .into()),
    }
}

fn tcp(rest: &str, tls: bool, usual_port: Option<u16>) -> Result<Parsed, String> {
    let authority_end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(authority_end);
    let (userinfo, host) = match authority.rsplit_once('@') {
        Some((userinfo, host)) => (Some(userinfo), host),
        None => (None, authority),
    };
    let host = if host.is_empty() { DEFAULT_HOST } else { host };
    if host.matches(':').count() > 1 && !host.starts_with('[') {
        return Err("an IPv6 address needs brackets around it, as in [::1]:8500".into());
    }
    let scheme = if tls { "https" } else { "http" };
    let url = Url::parse(&format!("{scheme}://{host}{after}")).map_err(|why| why.to_string())?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("`?` and `#` mean nothing in it".into());
    }
    let named_port = host.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())
    });
    let port = match usual_port {
        Some(port) if !named_port => port,
        _ => url.port_or_known_default().unwrap_or(HTTP_PORT),
    };
    if port == 0 {
        return Err("nothing can listen on port 0".into());
    }
    Ok(Parsed {
        address: Address::Tcp {
            tls,
            host: url.host_str().unwrap_or(DEFAULT_HOST).to_owned(),
            port,
            prefix: url.path().trim_end_matches('/').to_owned(),
        },
        basic_auth: userinfo.filter(|text| !text.is_empty()).map(|text| {
            let (user, password) = text.split_once(':').unwrap_or((text, ""));
            Secret::new(format!("{}:{}", path::decode(user), path::decode(password)))
        }),
        kv_prefix: None,
    })
}

fn unix(socket: &str, kv_prefix: Option<String>) -> Result<Parsed, String> {
    if !socket.starts_with('/') {
        return Err("a unix socket needs an absolute path, as in unix:///run/consul.sock".into());
    }
    Ok(Parsed { address: Address::Unix(PathBuf::from(socket)), basic_auth: None, kv_prefix })
}

/// In `consulkv://host:port/prefix` the path is no part of the API's.
fn path_is_kv_prefix(mut parsed: Parsed) -> Parsed {
    if let Address::Tcp { prefix, .. } = &mut parsed.address {
        parsed.kv_prefix = Some(path::decode(std::mem::take(prefix).trim_matches('/')));
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> (bool, String, u16, String) {
        match parse(text).unwrap().address {
            Address::Tcp { tls, host, port, prefix } => (tls, host, port, prefix),
            Address::Unix(path) => panic!("{text} is no TCP address: {path:?}"),
        }
    }

    #[test]
    fn a_host_alone_means_consuls_usual_port() {
        let tcp = |tls, host: &str, port, prefix: &str| (tls, host.into(), port, prefix.into());
        for (text, expected) in [
            ("", tcp(false, "127.0.0.1", 8500, "")),
            ("consul", tcp(false, "consul", 8500, "")),
            ("consul:8600", tcp(false, "consul", 8600, "")),
            ("[::1]:9", tcp(false, "[::1]", 9, "")),
            ("[fd00::5]", tcp(false, "[fd00::5]", 8500, "")),
            ("tcp://10.0.0.1:1", tcp(false, "10.0.0.1", 1, "")),
            ("http://h", tcp(false, "h", 80, "")),
            ("http://h:80", tcp(false, "h", 80, "")),
            ("HTTPS://h", tcp(true, "h", 443, "")),
            ("https://h:8501/consul/api/", tcp(true, "h", 8501, "/consul/api")),
            ("consul://", tcp(false, "127.0.0.1", 8500, "")),
            ("consul:///x", tcp(false, "127.0.0.1", 8500, "/x")),
            ("consul://h:80", tcp(false, "h", 80, "")),
            ("consul-tls://h", tcp(true, "h", 8501, "")),
            ("consul-tls://h:443", tcp(true, "h", 443, "")),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
    }

    #[test]
    fn sockets_are_absolute_paths() {
        for text in ["unix:///run/c.sock", "/run/c.sock", "consul-unix:///run/c.sock"] {
            assert_eq!(parse(text).unwrap().address, Address::Unix("/run/c.sock".into()));
        }
        assert!(parse("unix://c.sock").unwrap_err().contains("absolute"));
        assert!(parse("consul-unix://").unwrap_err().contains("absolute"));
    }

    #[test]
    fn the_path_of_a_kv_address_is_the_keys_prefix() {
        let kv = parse("consulkv://h:8500/a/b%20c/").unwrap();
        assert_eq!(kv.kv_prefix.as_deref(), Some("a/b c"));
        assert_eq!(at("consulkv://h:8500/a/b").3, "");
        assert_eq!(parse("consulkv://h").unwrap().kv_prefix.as_deref(), Some(""));
        let socket = parse("consulkv-unix:///run/c.sock:/a/b").unwrap();
        assert_eq!(socket.kv_prefix.as_deref(), Some("a/b"));
        assert_eq!(socket.address, Address::Unix("/run/c.sock".into()));
        assert_eq!(parse("consulkv-unix:///c").unwrap().kv_prefix.as_deref(), Some(""));
    }

    #[test]
    fn a_password_is_taken_out_of_the_address_and_never_shown() {
        let parsed = parse("http://us%40er:p%3Ass@h:1/x").unwrap();
        assert_eq!(parsed.basic_auth.as_ref().unwrap().reveal(), "us@er:p:ss");
        assert!(!format!("{parsed:?}").contains("er:p"), "{parsed:?}");
        for bad in ["ftp://user:sesame@h", "http://user:sesame@h:99999", "http://u:sesame@[h"] {
            assert!(!parse(bad).unwrap_err().contains("sesame"), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (text, reason) in [
            ("ftp://h", "scheme"),
            ("h:99999", "port"),
            ("h:0", "port 0"),
            ("h:eight", "port"),
            ("http://h?dc=x", "`?`"),
            ("h h", "invalid"),
            ("::1", "brackets"),
            ("http://fd00::5:8500", "brackets"),
            ("h\tx", "control"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(reason), "{text:?}: {why}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|((consul|consulkv|http|https|unix)(-tls|-unix)?:?/{0,3}[a-z0-9:@%/.?#\\[\\]\\\\]*)") {
            if let Ok(Parsed { address: Address::Tcp { tls, host, port, prefix }, .. }) = parse(&text) {
                prop_assert!(port > 0 && !host.is_empty() && !host.contains('@'));
                let scheme = if tls { "https" } else { "http" };
                let url = format!("{scheme}://{host}:{port}{prefix}/v1/");
                prop_assert!(Url::parse(&url).is_ok(), "{}", url);
            }
        }
    }
}
