//! What can go wrong between a rendered file and a running HAProxy.

use std::io;
use std::path::PathBuf;

use super::state::Unexpected;

/// Why a change did not reach HAProxy; each leaves the last accepted text as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be used: HAProxy is away, or not ours to command. Worth another try later.
    #[error("haproxy did not answer on {}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What happened to it.
        #[source]
        source: io::Error,
    },
    /// An answer of another form than HAProxy 2.6 and 3.0 give.
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    /// A command was refused in the background; [`Haproxy::drift`](super::Haproxy::drift) repairs by a reload.
    #[error("haproxy refused to {operation}: {answer}")]
    Refused {
        /// What was tried.
        operation: String,
        /// What HAProxy said.
        answer: String,
    },
    /// The reload failed: HAProxy runs on with the configuration it had.
    #[error("haproxy kept its old configuration: {}", lines.join("; "))]
    Reload {
        /// What HAProxy said.
        lines: Vec<String>,
    },
}

impl Error {
    /// Whether the HAProxy that did not answer may be there all the same, with connections that nobody knows of.
    pub(crate) fn may_serve(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        !matches!(self, Self::Unreachable { source, .. } if matches!(source.kind(), ConnectionRefused | NotFound))
    }
}

/// Why `haproxy -c` did not accept a file.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file is wrong.
    #[error("haproxy rejected the configuration: {}", lines.join("; "))]
    Rejected {
        /// What HAProxy said.
        lines: Vec<String>,
    },
    /// The program could not be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The check was ended by somebody else, such as a system that has no memory left: that says nothing of the file.
    #[error("{} -c did not end by itself: {status}", program.display())]
    Killed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The check did not end in time, and was killed.
    #[error("{} -c did not end in {limit:?}", program.display())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// The time it had.
        limit: std::time::Duration,
    },
}
