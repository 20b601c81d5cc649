//! The tables of a resource that say whom to tell about a new file.

use std::time::Duration;

use serde::Deserialize;

use crate::units::{SignalName, Span};

/// Containers of this node that are told through Docker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containers {
    /// The label that they have: `key`, or `key=value`.
    pub label: String,
    /// The signal that their main process gets.
    pub signal: Option<SignalName>,
    /// Whether they are restarted instead.
    #[serde(default)]
    pub restart: bool,
}

impl Containers {
    /// Returns what contradicts itself in this table.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        match (self.label.is_empty(), self.signal, self.restart) {
            (true, ..) => Some("[template.containers] needs a `label`"),
            (_, Some(_), true) => Some("`signal` and `restart` exclude each other"),
            (_, None, false) => Some("[template.containers] needs a `signal`, or `restart = true`"),
            _ => None,
        }
    }
}

/// A program that confd runs beside itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program: a line for a shell, or a list of words without one.
    pub command: Line,
    /// The signal after which it reads the destination again; without one it is restarted.
    pub reload_signal: Option<SignalName>,
    /// The signal that ends it; default TERM.
    #[serde(default = "term")]
    pub kill_signal: SignalName,
    /// How long it may take to end, before it is killed.
    #[serde(default = "ten_seconds")]
    pub kill_timeout: Span,
    /// A change is passed on after a random time of at most this, so that the nodes of a cluster do not act in step.
    #[serde(default)]
    pub splay: Span,
}

/// A command, in one of two spellings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// `command = "nginx -g 'daemon off;'"`, run by `/bin/sh -c`.
    Shell(String),
    /// `command = ["nginx", "-g", "daemon off;"]`, run as it is.
    Words(Vec<String>),
}

impl Line {
    /// Returns the program and its arguments; `None` if there is none.
    pub(crate) fn words(&self) -> Option<(String, Vec<String>)> {
        match self {
            Self::Shell(line) if line.trim().is_empty() => None,
            Self::Shell(line) => Some(("/bin/sh".to_owned(), vec!["-c".to_owned(), line.clone()])),
            Self::Words(words) => {
                let (program, arguments) = words.split_first()?;
                Some((program.clone(), arguments.to_vec())).filter(|(name, _)| !name.is_empty())
            }
        }
    }
}

fn term() -> SignalName {
    SignalName(nix::sys::signal::Signal::SIGTERM)
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}
