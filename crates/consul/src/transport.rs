//! The wire: reqwest with rustls, over TCP or a unix socket.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use http::{HeaderValue, Request, Response};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustify::errors::ClientError;

use crate::address::Address;
use crate::config::{Config, Tls};
use crate::error::Error;
use crate::middleware::Limit;

/// How long a connection may take to come about: an agent is on this node or near it.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// After how long a silence the system asks whether the other side is still there, and how long
/// it waits between asking again: a dead peer of a blocking query is found within a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How often it asks in vain before the connection is given up.
const KEEP_ALIVE_RETRIES: u32 = 2;
/// What a request may take that says nothing about it.
const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

/// A pool of connections to one Consul.
pub(crate) struct Transport {
    http: reqwest::Client,
    /// Everything before `/v1/` in a URL.
    pub(crate) root: String,
    /// Where it listens, for messages.
    pub(crate) server: String,
    /// What rustify puts before its own idea of the URL, which the middleware replaces.
    base: String,
    /// The `Host` of requests whose URL names the certificate's name instead.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Transport {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let builder = reqwest::Client::builder()
            // A proxy for the internet must not get to see the agent's token.
            .no_proxy()
            // Consul redirects names it would clean; a PUT would silently become a GET.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .tcp_keepalive(KEEP_ALIVE)
            .tcp_keepalive_interval(KEEP_ALIVE)
            .tcp_keepalive_retries(KEEP_ALIVE_RETRIES)
            .http1_only();
        let mut host_header = None;
        let server = match &config.address {
            Address::Unix(socket) => format!("unix://{}", socket.display()),
            Address::Tcp { tls, host, port, prefix } => {
                format!("http{}://{host}:{port}{prefix}", if *tls { "s" } else { "" })
            }
        };
        let (builder, base, prefix) = match &config.address {
            Address::Unix(socket) => {
                (builder.unix_socket(socket.as_path()), "http://localhost".to_owned(), "")
            }
            Address::Tcp { tls: false, host, port, prefix } => {
                (builder, format!("http://{host}:{port}"), prefix.as_str())
            }
            Address::Tcp { tls: true, host, port, prefix } => {
                let mut builder = secure(builder, &config.tls)?;
                let mut named = host.as_str();
                if let Some(name) = &config.tls.server_name {
                    named = dns_name(name)?;
                    let target = format!("{host}:{port}");
                    host_header = HeaderValue::from_str(&target).ok();
                    builder = builder.dns_resolver(Arc::new(Alias(target)));
                }
                (builder, format!("https://{named}:{port}"), prefix.as_str())
            }
        };
        Ok(Self {
            http: builder.build().map_err(Error::Tls)?,
            root: format!("{base}{prefix}"),
            server,
            base,
            host: host_header,
            authorization: config.basic_auth.as_ref().and_then(|auth| {
                let code = base64::prelude::BASE64_STANDARD.encode(auth.reveal());
                let mut value = HeaderValue::from_str(&format!("Basic {code}")).ok()?;
                value.set_sensitive(true);
                Some(value)
            }),
        })
    }
}

#[async_trait]
impl rustify::client::Client for Transport {
    fn base(&self) -> &str {
        &self.base
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        let Limit(limit) = request.extensions().get().copied().unwrap_or(Limit(DEFAULT_LIMIT));
        let (parts, body) = request.into_parts();
        let failed = |source: reqwest::Error| ClientError::RequestError {
            source: source.without_url().into(),
            url: parts.uri.path().to_owned(),
            method: parts.method.to_string(),
        };
        let method = parts.method.as_str().parse().unwrap_or_default();
        let mut sending =
            self.http.request(method, parts.uri.to_string()).timeout(limit).body(body);
        for (name, value) in &parts.headers {
            // The two libraries differ in the version of the crate that defines headers.
            let mut copy = reqwest::header::HeaderValue::from_bytes(value.as_bytes())
                .expect("a valid value of the older version is one of the newer");
            copy.set_sensitive(value.is_sensitive());
            sending = sending.header(name.as_str(), copy);
        }
        let answer = sending.send().await.map_err(failed)?;
        let mut response = Response::builder().status(answer.status().as_u16());
        for (name, value) in answer.headers() {
            response = response.header(name.as_str(), value.as_bytes());
        }
        let body = answer.bytes().await.map_err(failed)?;
        response
            .body(body.into())
            .map_err(|error| ClientError::ResponseError { source: error.into() })
    }

    /// Passes every answer on, whatever its status: a 404 has an index to wait with.
    async fn execute(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.send(request).await
    }
}

/// Answers every name with the addresses of one host: the URL holds the name that the
/// certificate must have, the connection goes to where Consul is.
struct Alias(String);

impl Resolve for Alias {
    fn resolve(&self, _: Name) -> Resolving {
        let target = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host(target).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn secure(mut builder: reqwest::ClientBuilder, tls: &Tls) -> Result<reqwest::ClientBuilder, Error> {
    if !tls.verify {
        builder = builder.danger_accept_invalid_certs(true);
    }
    if let Some(file) = &tls.ca_file {
        let authorities =
            reqwest::Certificate::from_pem_bundle(&read(file)?).map_err(Error::Tls)?;
        if authorities.is_empty() {
            let why = format!("there is no certificate in {}", file.display());
            return Err(Error::Usage { flag: "--consul-ca-file", why });
        }
        builder = builder.tls_built_in_root_certs(false);
        builder =
            authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    if let (Some(cert), Some(key)) = (&tls.client_cert, &tls.client_key) {
        let pem = [read(key)?, b"\n".to_vec(), read(cert)?].concat();
        builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(Error::Tls)?);
    }
    Ok(builder)
}

/// A name is needed, because addresses are not looked up, and so could not be told apart.
fn dns_name(name: &str) -> Result<&str, Error> {
    match url::Host::parse(name) {
        Ok(url::Host::Domain(_)) => Ok(name),
        _ => Err(Error::Usage {
            flag: "--consul-tls-server-name",
            why: "it must be a host name".into(),
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
