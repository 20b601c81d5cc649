//! The flags that say where the engine is, by Docker's own environment variables, and the connection they mean.
#![allow(
    clippy::doc_markdown,
    reason = "these comments are the programs' help, which shows no Markdown"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};

use crate::Error;

/// Where the engine is unless told otherwise.
const DEFAULT: &str = "unix:///var/run/docker.sock";

/// Where the engine is, and how to speak to it. An empty value counts as not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Docker")]
pub struct Endpoint {
    /// Where the engine is: unix:///path, or tcp://host:port (with TLS if --docker-tls-verify)
    #[arg(
        id = "docker_host",
        long = "docker-host",
        alias = "docker",
        value_name = "URL",
        env = "DOCKER_HOST",
        default_value = DEFAULT,
        global = true
    )]
    host: String,
    /// The folder with ca.pem, cert.pem and key.pem for TLS [default: ~/.docker]
    #[arg(
        id = "docker_cert_path",
        long = "docker-cert-path",
        value_name = "FOLDER",
        env = "DOCKER_CERT_PATH",
        global = true
    )]
    certificates: Option<PathBuf>,
    /// Speak TLS to a tcp:// address, and check the engine's certificate: any value but nothing
    #[arg(
        id = "docker_tls_verify",
        long = "docker-tls-verify",
        value_name = "BOOL",
        env = "DOCKER_TLS_VERIFY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        global = true
    )]
    tls: Option<String>,
}

impl Endpoint {
    /// Returns the engine at this address, to be spoken to without certificates.
    #[must_use]
    pub fn at(host: impl Into<String>) -> Self {
        Self { host: host.into(), ..Self::default() }
    }

    /// Returns the engine's address.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.host.is_empty() { DEFAULT } else { &self.host }
    }

    /// Takes the engine at this socket if none was named, the usual one is not there and this one is; tells whether it does.
    pub fn fall_back(&mut self, socket: &str) -> bool {
        let is_missing = |url: &str| !Path::new(url.trim_start_matches("unix://")).exists();
        let falls = self.host() == DEFAULT && is_missing(DEFAULT) && !is_missing(socket);
        if falls {
            self.host = format!("unix://{socket}");
        }
        falls
    }

    /// Tells whether the address is of a kind that is spoken here.
    pub fn check(&self) -> Result<(), Error> {
        match self.host().split_once("://") {
            Some(("unix" | "tcp" | "http" | "https", rest)) if !rest.is_empty() => Ok(()),
            _ => Err(Error::Address(self.host().to_owned())),
        }
    }

    /// Connects; `limit` is rounded up to seconds.
    pub(crate) fn client(&self, limit: Duration) -> Result<Docker, Error> {
        self.check()?;
        let (host, seconds) = (self.host(), limit.as_secs() + u64::from(limit.subsec_nanos() > 0));
        let client = match self.folder() {
            _ if host.starts_with("unix://") => {
                Docker::connect_with_unix(host, seconds, API_DEFAULT_VERSION)
            }
            Some(folder) => {
                let [key, cert, ca] =
                    ["key.pem", "cert.pem", "ca.pem"].map(|name| folder.join(name));
                Docker::connect_with_ssl(host, &key, &cert, &ca, seconds, API_DEFAULT_VERSION)
            }
            None => Docker::connect_with_http(host, seconds, API_DEFAULT_VERSION),
        };
        client.map_err(|source| Error::Connect { host: host.to_owned(), source })
    }

    /// Returns the folder of the certificates, if TLS is to be spoken.
    fn folder(&self) -> Option<PathBuf> {
        let verify = self.tls.as_deref().is_some_and(|value| !value.is_empty());
        let wanted = verify && self.host().starts_with("tcp://");
        let given = self.certificates.clone().filter(|folder| !folder.as_os_str().is_empty());
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".docker");
        (wanted || self.host().starts_with("https://")).then(|| given.unwrap_or_else(home))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, tls: Option<&str>) -> Endpoint {
        let tls = tls.map(str::to_owned);
        Endpoint { host: host.to_owned(), certificates: Some("/certs".into()), tls }
    }

    #[test]
    fn an_address_of_another_kind_is_refused_by_the_flags_name() {
        for bad in ["ssh://host", "npipe:////./pipe/docker", "/var/run/docker.sock", "tcp://"] {
            let error = endpoint(bad, None).check().unwrap_err().to_string();
            assert!(error.contains("--docker-host") && error.contains(bad), "{error}");
        }
        assert!(endpoint("", None).check().is_ok(), "nothing means the usual socket");
    }

    #[test]
    fn tls_is_spoken_where_the_address_or_the_flag_says_so() {
        for (host, tls, spoken) in [
            ("tcp://h:2376", Some("1"), true),
            ("tcp://h:2376", Some(""), false),
            ("tcp://h:2375", None, false),
            ("https://h:2376", None, true),
            ("http://h:2375", Some("1"), false),
        ] {
            assert_eq!(endpoint(host, tls).folder().is_some(), spoken, "{host} {tls:?}");
        }
    }

    #[test]
    fn certificates_that_are_not_there_are_an_error_with_the_address() {
        let error = endpoint("https://h:2376", None).client(Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("https://h:2376"), "{error}");
    }
}
