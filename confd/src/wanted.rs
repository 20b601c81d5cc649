//! What a worker wants to bring to life, and what it leaves out. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dependency::Dependency;
use crate::snapshot::{Data, Snapshot};

/// A text to bring to life, and where it comes from.
pub(crate) struct Wanted {
    pub(crate) text: Arc<str>,
    pub(crate) asked: BTreeSet<Dependency>,
    pub(crate) snapshot: Snapshot,
    /// The digest of the template that gave it.
    pub(crate) template: Option<String>,
    /// The services that it does without.
    pub(crate) left_out: BTreeSet<String>,
}

/// A service that is left out because the configuration is refused with it.
pub(crate) struct LeftOut {
    pub(crate) name: String,
    /// What was asked about it.
    pub(crate) asked: BTreeSet<Dependency>,
    /// What the source said of it then: another answer is another chance.
    pub(crate) known: Vec<Data>,
    /// Whether circumstances may be to blame, such as a port that somebody else has: it gets another chance by itself.
    pub(crate) for_now: bool,
}

/// A generation that is wanted instead of what the template gives.
pub(crate) struct Fixed {
    pub(crate) number: u64,
    /// Whatever changes.
    pub(crate) pinned: bool,
    /// The digest of the text it replaces: another one ends it.
    pub(crate) instead_of: Option<String>,
}
