//! How much a pass is about: what an event concerns, or everything.

use std::collections::{BTreeMap, BTreeSet};

use itertools::Either;

/// What is to be compared.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// All there is.
    pub(super) everything: bool,
    /// The instances of these containers, by full ID.
    pub(super) containers: BTreeSet<String>,
}

impl Due {
    /// Tells whether there is anything to compare.
    pub(super) fn is_any(&self) -> bool {
        self.everything || !self.containers.is_empty()
    }
}

/// The instances that a pass is about.
#[derive(Debug)]
pub(super) enum Scope {
    /// All.
    Everything,
    /// Those with these IDs.
    Of(BTreeSet<String>),
}

impl Scope {
    /// Returns those of `all` that the pass is about.
    pub(super) fn of<'a, V>(
        &'a self,
        all: &'a BTreeMap<String, V>,
    ) -> impl Iterator<Item = (&'a String, &'a V)> {
        match self {
            Self::Everything => Either::Left(all.iter()),
            Self::Of(ids) => Either::Right(ids.iter().filter_map(|id| all.get_key_value(id))),
        }
    }
}
