//! The client: one method per call, all of them through [`Client::ask`].

mod agent;
mod catalog;
mod kv;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use rustify::endpoint::Endpoint;
use rustify::errors::ClientError;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::error::Error;
use crate::middleware::Envelope;
use crate::path;
use crate::query::{Answer, Query};
use crate::token::Tokens;
use crate::transport::Transport;

/// How much of an error's text is kept: enough for Consul's sentences, not for a proxy's page.
const MESSAGE_LIMIT: usize = 300;

/// A connection to Consul. Clones share one pool of sockets.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    transport: Transport,
    tokens: Tokens,
    namespace: Option<String>,
}

impl Client {
    /// Sets up a client; Consul itself is not asked anything yet.
    ///
    /// Fails where a certificate cannot be read or the configuration cannot work. A token file
    /// that is missing is waited for instead.
    pub fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self(Arc::new(Shared {
            transport: Transport::new(config)?,
            tokens: Tokens::new(config)?,
            namespace: config.namespace.clone(),
        })))
    }

    /// Sends a request and returns the answer, whatever its status.
    async fn send(&self, request: impl Endpoint, query: &Query) -> Result<Raw, Error> {
        let path = request.path();
        if !path::is_addressable(&path) {
            return Err(Error::Unaddressable { path });
        }
        let Shared { transport, tokens, namespace } = &*self.0;
        let namespace = namespace.iter().map(|name| ("ns", name.clone()));
        let token = tokens.current();
        let envelope = Envelope {
            root: &transport.root,
            host: transport.host.as_ref(),
            authorization: transport.authorization.as_ref(),
            token: token.clone(),
            parameters: query.parameters().into_iter().chain(namespace).collect(),
            features: Some(query.features()),
            limit: query.limit(),
        };
        match request.with_middleware(&envelope).exec(transport).await {
            Ok(result) => Ok(Raw { path, response: result.response, token }),
            Err(ClientError::RequestError { source, url, method }) => {
                Err(match source.downcast::<reqwest::Error>() {
                    Ok(source) => Error::Request { server: transport.server.clone(), path, source },
                    Err(source) => Error::Build {
                        path,
                        source: ClientError::RequestError { source, url, method },
                    },
                })
            }
            Err(source) => Err(Error::Build { path, source }),
        }
    }

    /// Sends a request whose answer is a JSON value; any status but success is an error.
    async fn ask<T>(&self, request: impl Endpoint, query: &Query) -> Result<Answer<T>, Error>
    where
        T: DeserializeOwned,
    {
        self.send(request, query).await?.success()?.json()
    }

    /// Sends a request whose answer does not matter but for its success.
    async fn tell(&self, request: impl Endpoint) -> Result<(), Error> {
        self.send(request, &Query::default()).await?.success().map(drop)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("root", &self.0.transport.root).finish_non_exhaustive()
    }
}

/// An answer as it came.
struct Raw {
    path: String,
    response: Response<Vec<u8>>,
    /// The token it was asked with, which the text of an error must not repeat.
    token: Option<http::HeaderValue>,
}

impl Raw {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Returns an error unless the status says success.
    fn success(self) -> Result<Self, Error> {
        if self.response.status().is_success() {
            return Ok(self);
        }
        let mut text = String::from_utf8_lossy(self.response.body()).trim().to_owned();
        if let Some(token) = self.token.as_ref().and_then(|token| token.to_str().ok()) {
            text = text.replace(token, "***");
        }
        let message = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MESSAGE_LIMIT)
            .collect();
        Err(Error::Status { status: self.status(), path: self.path, message })
    }

    /// Reads the body as JSON.
    fn json<T: DeserializeOwned>(self) -> Result<Answer<T>, Error> {
        match serde_json::from_slice(self.response.body()) {
            Ok(value) => Ok(self.answer(value)),
            Err(source) => Err(Error::Answer { path: self.path, source }),
        }
    }

    /// Returns `value` with what the headers say.
    fn answer<T>(&self, value: T) -> Answer<T> {
        Answer {
            index: self.header("x-consul-index"),
            value,
            known_leader: self.header("x-consul-knownleader"),
            last_contact: self.header("x-consul-lastcontact").map(Duration::from_millis),
        }
    }

    fn header<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.response.headers().get(name)?.to_str().ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_error_is_short_and_repeats_no_token() {
        let text = format!("token sesame\nis unknown {}", "x".repeat(10_000));
        let response = Response::builder().status(403).body(text.into_bytes()).unwrap();
        let token = Some(http::HeaderValue::from_static("sesame"));
        let raw = Raw { path: "kv/a".into(), response, token };
        let error = raw.success().err().unwrap().to_string();
        assert!(error.starts_with("consul answered 403 to kv/a: token *** is unknown xxx"));
        assert!(error.len() < MESSAGE_LIMIT + 100, "{error}");
    }
}
