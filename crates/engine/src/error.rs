//! Why the engine could not be asked, with its address and what was asked.

/// Why the engine could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is of a kind that is not spoken here.
    #[error(
        "--docker-host (DOCKER_HOST): {0:?} is none of unix://PATH, tcp://HOST:PORT, http://HOST:PORT and https://HOST:PORT"
    )]
    Address(String),
    /// There is no socket, or the certificates cannot be used.
    #[error("cannot use docker at {host}")]
    Connect {
        /// The engine's address.
        host: String,
        /// What is wrong.
        #[source]
        source: bollard::errors::Error,
    },
    /// The engine could not be reached, or answered with an error.
    #[error("docker at {host} did not {what}")]
    Request {
        /// The engine's address.
        host: String,
        /// What it was asked to do.
        what: String,
        /// What happened.
        #[source]
        source: bollard::errors::Error,
    },
    /// The engine did not answer in time.
    #[error("docker at {host} did not {what} in time")]
    Slow {
        /// The engine's address.
        host: String,
        /// What it was asked to do.
        what: String,
    },
    /// The events came to an end without an error.
    #[error("docker's events ended")]
    Ended,
    /// An answer is not JSON as expected.
    #[error("docker's answer cannot be understood")]
    Answer(#[from] serde_json::Error),
}

impl Error {
    /// Returns the engine's status code, if it answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Request {
                source: bollard::errors::Error::DockerResponseServerError { status_code, .. },
                ..
            } => Some(*status_code),
            _ => None,
        }
    }
}
