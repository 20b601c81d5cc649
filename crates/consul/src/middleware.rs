//! What every request gets besides what it asks: its full URL, the token, a time limit.

use std::time::Duration;

use consulrs::api::Features;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, Response};
use rustify::endpoint::{Endpoint, MiddleWare};
use rustify::errors::ClientError;

use crate::path;

/// How long a request may take, handed to the transport in the request's extensions.
#[derive(Clone, Copy)]
pub(crate) struct Limit(pub(crate) Duration);

/// The envelope of one request.
pub(crate) struct Envelope<'a> {
    /// Scheme, host, port and prefix: everything before `/v1/`.
    pub(crate) root: &'a str,
    /// The host that the request is for, where the URL names another.
    pub(crate) host: Option<&'a HeaderValue>,
    pub(crate) authorization: Option<&'a HeaderValue>,
    pub(crate) token: Option<HeaderValue>,
    pub(crate) parameters: Vec<(&'static str, String)>,
    pub(crate) features: Option<Features>,
    pub(crate) limit: Duration,
}

impl MiddleWare for Envelope<'_> {
    /// Writes the URL anew from the endpoint's plain path: rustify encodes some characters only,
    /// and a second encoding would change the name.
    fn request<E: Endpoint>(
        &self,
        endpoint: &E,
        request: &mut Request<Vec<u8>>,
    ) -> Result<(), ClientError> {
        let mut uri = format!("{}/v1/{}", self.root, path::encode(&endpoint.path()));
        let own = request.uri().query().filter(|query| !query.is_empty());
        let parameters = self.parameters.iter();
        let parameters = parameters.map(|(name, value)| format!("{name}={}", path::encode(value)));
        for (part, parameter) in own.map(str::to_owned).into_iter().chain(parameters).enumerate() {
            uri.push(if part == 0 { '?' } else { '&' });
            uri.push_str(&parameter);
        }
        *request.uri_mut() = uri.parse().map_err(|source| ClientError::UrlBuildError { source })?;
        if let Some(features) = &self.features {
            features.process(request);
        }
        let headers = request.headers_mut();
        for (name, value) in [(HOST, self.host), (AUTHORIZATION, self.authorization)] {
            headers.extend(value.map(|value| (name, value.clone())));
        }
        if let Some(token) = &self.token {
            headers.insert("x-consul-token", token.clone());
        }
        request.extensions_mut().insert(Limit(self.limit));
        Ok(())
    }

    fn response<E: Endpoint>(&self, _: &E, _: &mut Response<Vec<u8>>) -> Result<(), ClientError> {
        Ok(())
    }
}
