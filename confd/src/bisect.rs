//! Finds the services without which a configuration is right. Pure: no I/O, no clock, no async.

/// Trials that a search may take: enough for one among a quarter of a million services, or for several among few.
const LIMIT: usize = 20;

/// A search for culprits among names: ask [`Search::question`], give it the [`Search::answer`], until there is none.
///
/// What is wrong with some services is wrong with more of them, too. So the first names are kept, as many as pass; the
/// next one is to blame, and the search goes on without it. Where there are too many trials, those who are found are to
/// blame all the same, and the next search finds more.
#[derive(Debug)]
pub(crate) struct Search {
    names: Vec<String>,
    culprits: Vec<usize>,
    /// With so many of the first names, but without the culprits, it passes.
    passing: usize,
    /// With so many it does not.
    failing: usize,
    stage: Stage,
    questions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Does it pass without any of them? If not, none of them is to blame.
    Nobody,
    /// Does it pass with more of them?
    More,
    /// Does it pass with all but the culprits?
    Rest,
    Over,
}

impl Search {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let stage = if names.is_empty() { Stage::Over } else { Stage::Nobody };
        let (culprits, failing) = (Vec::new(), names.len());
        Self { names, culprits, passing: 0, failing, stage, questions: 0 }
    }

    /// Returns the names to leave out; the answer is whether the rest passes. `None` at the end.
    pub(crate) fn question(&self) -> Option<Vec<String>> {
        let kept = match self.stage {
            _ if self.questions == LIMIT => return None,
            Stage::Nobody => 0,
            Stage::More => self.middle(),
            Stage::Rest => self.names.len(),
            Stage::Over => return None,
        };
        let rest = kept..self.names.len();
        let without = self.culprits.iter().copied().chain(rest);
        Some(without.map(|index| self.names[index].clone()).collect())
    }

    pub(crate) fn answer(&mut self, passes: bool) {
        self.questions += 1;
        match (self.stage, passes) {
            (Stage::Nobody, true) => self.narrow(),
            (Stage::More, true) => {
                self.passing = self.middle();
                self.narrow();
            }
            (Stage::More, false) => {
                self.failing = self.middle();
                self.narrow();
            }
            (Stage::Rest, false) => {
                self.failing = self.names.len();
                self.narrow();
            }
            (Stage::Nobody, false) | (Stage::Rest, true) | (Stage::Over, _) => {
                self.stage = Stage::Over;
            }
        }
    }

    fn middle(&self) -> usize {
        usize::midpoint(self.passing, self.failing)
    }

    fn narrow(&mut self) {
        if self.failing - self.passing > 1 {
            self.stage = Stage::More;
            return;
        }
        self.culprits.push(self.passing);
        self.passing += 1;
        self.stage = if self.passing == self.names.len() { Stage::Over } else { Stage::Rest };
    }

    /// Returns the culprits that the search has found.
    pub(crate) fn found(&self) -> impl Iterator<Item = &str> {
        self.culprits.iter().map(|index| self.names[*index].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn search(count: usize, bad: &BTreeSet<usize>) -> (BTreeSet<usize>, usize) {
        let mut search = Search::new((0..count).map(|n| n.to_string()).collect());
        while let Some(without) = search.question() {
            let passes = bad.iter().all(|bad| without.contains(&bad.to_string()));
            search.answer(passes);
        }
        (search.found().map(|name| name.parse().unwrap()).collect(), search.questions)
    }

    proptest! {
        #[test]
        fn one_culprit_is_found_with_few_questions(
            (count, bad) in (1..10_000_usize).prop_flat_map(|count| (Just(count), 0..count))
        ) {
            let bad = BTreeSet::from([bad]);
            let (found, questions) = search(count, &bad);
            prop_assert_eq!(found, bad);
            prop_assert!(questions <= LIMIT);
        }

        #[test]
        fn several_are_found_and_never_one_who_is_not_to_blame(
            (count, bad) in (1..1000_usize)
                .prop_flat_map(|count| (Just(count), prop::collection::btree_set(0..count, 1..6)))
        ) {
            let (mut left, mut searches) = (bad.clone(), 0);
            // As the caller does: each search leaves out whom the ones before have found.
            while !left.is_empty() {
                let (found, questions) = search(count, &left);
                prop_assert!(questions <= LIMIT && !found.is_empty() && found.is_subset(&left));
                left.retain(|one| !found.contains(one));
                searches += 1;
            }
            prop_assert!(searches <= bad.len());
        }
    }

    #[test]
    fn a_template_that_is_wrong_by_itself_blames_nobody() {
        assert_eq!(search(5, &[7].into()).0, [].into());
        assert_eq!(search(0, &[].into()).0, [].into());
    }
}
