//! What a check asks: the instance, or another port at its address. Pure.
//!
//! No error repeats the text: a URL may hold a password.

use crate::labels::yes_or_no;

/// Where the instance listens.
pub(crate) struct Target<'a> {
    /// Its address.
    pub(crate) address: &'a str,
    /// Its port; 0 for none.
    pub(crate) port: u16,
}

impl Target<'_> {
    /// Returns the URL of `/health`, of `true`, or of `:8081/health` at another port.
    pub(super) fn url(&self, scheme: &str, value: &str) -> Result<String, String> {
        let (endpoint, rest) = self.endpoint(value)?;
        Ok(format!("{scheme}://{endpoint}/{}", rest.trim_start_matches('/')))
    }

    /// Returns the endpoint of `true`, or of `:8081`, another port.
    pub(super) fn host_port(&self, value: &str) -> Result<String, String> {
        match self.endpoint(value)? {
            (endpoint, "") => Ok(endpoint),
            _ => Err("is neither true nor a port such as :8081".to_owned()),
        }
    }

    /// Returns the endpoint of `true`, or of `:8081`, with the service asked for behind it if one
    /// is named: `users` or `:8081/users`.
    pub(super) fn grpc(&self, value: &str) -> Result<String, String> {
        match self.endpoint(value)? {
            (endpoint, "") => Ok(endpoint),
            (endpoint, service) => Ok(format!("{endpoint}/{}", service.trim_start_matches('/'))),
        }
    }

    /// Puts the instance's endpoint where a command names it.
    pub(super) fn filled(&self, command: &str) -> String {
        command
            .replace("$SERVICE_IP", self.address)
            .replace("$SERVICE_PORT", &self.port.to_string())
    }

    /// Returns `host:port`, and what `value` says besides.
    fn endpoint<'v>(&self, value: &'v str) -> Result<(String, &'v str), String> {
        let value = value.trim();
        let said = if yes_or_no(value) == Some(true) { "" } else { value };
        let (port, rest) = match said.strip_prefix(':') {
            None => (self.port, said),
            Some(said) => {
                let (port, rest) = said.split_at(said.find('/').unwrap_or(said.len()));
                (port.parse().map_err(|_| "has no port behind its colon, such as :8081")?, rest)
            }
        };
        if port == 0 {
            return Err("there is no port to check; name one, such as :8081".to_owned());
        }
        if rest.contains("://") {
            return Err("is somewhere else; only the instance itself is checked".to_owned());
        }
        if rest.contains(char::is_whitespace) {
            return Err("has white space in it".to_owned());
        }
        let address = self.address;
        let bracketed =
            if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        Ok((format!("{bracketed}:{port}"), rest))
    }
}
