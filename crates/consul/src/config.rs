//! Where Consul is, and how to speak to it.

use std::path::PathBuf;

use crate::address::{self, Address};
use crate::{Error, Secret};

/// Everything a client needs to know. `Debug` shows neither token nor password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where Consul's HTTP API is.
    pub address: Address,
    /// User and password of a proxy before Consul (`user:password`), from the address.
    pub basic_auth: Option<Secret>,
    /// The prefix of the keys, where the address was `consulkv://host/prefix`.
    pub kv_prefix: Option<String>,
    /// The ACL token.
    pub token: Option<Secret>,
    /// A file with the ACL token, which goes before `token`; read again when it changes.
    pub token_file: Option<PathBuf>,
    /// Certificates, and how to check Consul's.
    pub tls: Tls,
    /// The namespace of every request (Consul Enterprise).
    pub namespace: Option<String>,
}

/// Certificates, and how to check Consul's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities that Consul's certificate may come from, instead of the
    /// public ones.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our certificate.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub client_key: Option<PathBuf>,
    /// The name that Consul's certificate must have, instead of the address's host.
    pub server_name: Option<String>,
    /// Whether Consul's certificate is checked at all.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca_file: None, client_cert: None, client_key: None, server_name: None, verify: true }
    }
}

impl Config {
    /// Returns the configuration for an address and nothing else.
    ///
    /// Addresses are `host`, `host:port`, `http://…`, `https://…`, `unix:///path`, `/path`, and
    /// the registry addresses of old: `consul://…`, `consul-tls://…`, `consul-unix:///path`,
    /// `consulkv://host:port/prefix`, `consulkv-unix:///path:/prefix`. Without a port it is 8500
    /// (8501 with `consul-tls`), except that `http` and `https` mean their own. A path is a
    /// prefix of every request's path. Empty means `127.0.0.1:8500`.
    pub fn from_uri(uri: &str) -> Result<Self, Error> {
        Self::parse("the address of consul", uri)
    }

    /// The same, with the flag to name in an error.
    pub(crate) fn parse(flag: &'static str, uri: &str) -> Result<Self, Error> {
        let parsed = address::parse(uri).map_err(|why| Error::Usage { flag, why })?;
        Ok(Self {
            address: parsed.address,
            basic_auth: parsed.basic_auth,
            kv_prefix: parsed.kv_prefix,
            token: None,
            token_file: None,
            tls: Tls::default(),
            namespace: None,
        })
    }
}
