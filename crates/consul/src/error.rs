//! What can go wrong between a daemon and Consul. No variant ever holds a token or a password.

use std::path::PathBuf;

/// Why a call, or setting up a client, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, or its environment variable, makes no sense: a usage error.
    #[error("{flag}: {why}")]
    Usage {
        /// The flag, with its dashes, or what else the value was given as.
        flag: &'static str,
        /// What is wrong with its value.
        why: String,
    },
    /// A certificate or key file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key, or the set of them, cannot be used.
    #[error("cannot set up TLS to consul")]
    Tls(#[source] reqwest::Error),
    /// The name cannot be part of a URL's path: it has an empty segment, `.` or `..`.
    #[error("no request can carry the path {path:?}: a segment is empty, `.` or `..`")]
    Unaddressable {
        /// The path, below `/v1`.
        path: String,
    },
    /// No answer: the connection failed, broke, or took too long.
    #[error("consul at {server} did not answer {path}")]
    Request {
        /// Its address, as a URL without user and password.
        server: String,
        /// The path, below `/v1`.
        path: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Consul answered with an error.
    #[error("consul answered {status} to {path}: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The path, below `/v1`.
        path: String,
        /// The text of the answer, cut after a few hundred characters.
        message: String,
    },
    /// Consul's answer is not what this call expects.
    #[error("consul's answer to {path} cannot be understood")]
    Answer {
        /// The path, below `/v1`.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The request could not be put together.
    #[error("cannot build a request to {path}")]
    Build {
        /// The path, below `/v1`.
        path: String,
        /// What is wrong with it.
        #[source]
        source: rustify::errors::ClientError,
    },
}

impl Error {
    /// Tells whether the same call can succeed later without anyone changing it: Consul is away,
    /// busy, without a leader, or its access rules may change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Answer { .. } => true,
            // 403: a token may be granted more, and its file may change.
            Self::Status { status, .. } => matches!(status, 403 | 408 | 429 | 500..),
            Self::Usage { .. }
            | Self::File { .. }
            | Self::Tls(_)
            | Self::Unaddressable { .. }
            | Self::Build { .. } => false,
        }
    }

    /// Tells whether the call failed because its session no longer exists.
    #[must_use]
    pub fn is_session_gone(&self) -> bool {
        matches!(self, Self::Status { message, .. } if message.contains("invalid session"))
    }

    /// Tells whether the flags are to blame: a daemon then exits with status 2.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage { .. } | Self::File { .. } | Self::Tls(_))
    }

    /// Returns the HTTP status, if Consul answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns the path of the request, below `/v1`.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Unaddressable { path }
            | Self::Request { path, .. }
            | Self::Status { path, .. }
            | Self::Answer { path, .. }
            | Self::Build { path, .. } => Some(path),
            Self::Usage { .. } | Self::File { .. } | Self::Tls(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, message: &str) -> Error {
        Error::Status { status, path: "kv/a".into(), message: message.into() }
    }

    #[test]
    fn what_may_pass_by_itself_is_retryable() {
        for code in [403, 408, 429, 500, 502, 503, 504] {
            assert!(status(code, "").is_retryable(), "{code}");
        }
        for code in [301, 400, 401, 404, 405, 413] {
            assert!(!status(code, "").is_retryable(), "{code}");
        }
        assert!(!Error::Unaddressable { path: "kv//".into() }.is_retryable());
        assert!(!Error::Usage { flag: "--consul-addr", why: String::new() }.is_retryable());
    }

    #[test]
    fn an_error_says_what_was_asked_and_what_was_answered() {
        let error = status(500, "No cluster leader");
        assert_eq!(error.to_string(), "consul answered 500 to kv/a: No cluster leader");
        assert_eq!((error.status(), error.path()), (Some(500), Some("kv/a")));
        assert!(status(500, "invalid session \"1\"").is_session_gone());
    }
}
