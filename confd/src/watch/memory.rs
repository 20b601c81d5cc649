//! What an earlier process knew of the source, until the source has answered: the first answer has nothing else to be
//! compared with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dependency::Dependency;
use crate::newest::Newest;
use crate::snapshot::Data;

/// An answer, and the source's newest index at that time.
pub(super) type Memory = (Data, Option<u64>);

/// What an earlier process knew, and how new what we know is.
#[derive(Default)]
pub(super) struct Memories {
    answers: Mutex<BTreeMap<Dependency, Arc<Memory>>>,
    newest: Mutex<Newest>,
}

impl Memories {
    pub(super) fn add(&self, dependency: &Dependency, data: &Data, index: Option<u64>) {
        self.answers().insert(dependency.clone(), Arc::new((data.clone(), index)));
    }

    pub(super) fn get(&self, dependency: &Dependency) -> Option<Arc<Memory>> {
        self.answers().get(dependency).cloned()
    }

    /// Forgets what the source has answered.
    pub(super) fn forget(&self, dependency: &Dependency) {
        self.answers().remove(dependency);
    }

    pub(super) fn newest(&self) -> Newest {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes an answer's index; one that `went_back` tells of a source that begins anew.
    pub(super) fn saw(&self, dependency: &Dependency, index: u64, went_back: bool) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.saw(dependency, index, went_back);
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<Dependency, Arc<Memory>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
