//! Finds the services without which a configuration is right. Pure: no I/O, no clock, no async.

/// Trials that a search may take: enough for one among a quarter of a million services, or for several among few.
const LIMIT: usize = 20;

/// A search for culprits among names: ask [`Search::question`], give it the [`Search::answer`], until there is none.
///
/// The first question leaves out nobody: a failure that does not come again was nobody's.
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
    /// Does it still fail with all of them? If not, nobody is to blame.
    All,
    /// Does it pass without any of them? If not, none of them is to blame.
    Nobody,
    /// Does it pass with more of them?
    More,
    /// Does it pass with all but the culprits?
    Rest,
    Over,
    /// It passes with all of them.
    Right,
}

impl Search {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let (culprits, failing) = (Vec::new(), names.len());
        Self { names, culprits, passing: 0, failing, stage: Stage::All, questions: 0 }
    }

    /// Returns the names to leave out; the answer is whether the rest passes. `None` at the end.
    pub(crate) fn question(&self) -> Option<Vec<String>> {
        let kept = match self.stage {
            _ if self.questions == LIMIT => return None,
            Stage::Nobody => 0,
            Stage::More => self.middle(),
            Stage::All | Stage::Rest => self.names.len(),
            Stage::Over | Stage::Right => return None,
        };
        let rest = kept..self.names.len();
        let without = self.culprits.iter().copied().chain(rest);
        Some(without.map(|index| self.names[index].clone()).collect())
    }

    pub(crate) fn answer(&mut self, passes: bool) {
        self.questions += 1;
        match (self.stage, passes) {
            (Stage::All, true) => self.stage = Stage::Right,
            (Stage::All, false) if !self.names.is_empty() => self.stage = Stage::Nobody,
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
            (Stage::All | Stage::Nobody, false) | (Stage::Rest, true) => self.stage = Stage::Over,
            (Stage::Over | Stage::Right, _) => {}
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

    /// Tells whether it passes as it is, after all.
    pub(crate) fn is_right(&self) -> bool {
        self.stage == Stage::Right
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
        assert_eq!(search(0, &[0].into()).0, [].into());
    }

    #[test]
    fn what_passes_when_it_is_asked_again_blames_nobody() {
        for names in [&[][..], &["a"], &["a", "b"]] {
            let mut search = Search::new(names.iter().map(|&name| name.to_owned()).collect());
            assert_eq!(search.question(), Some(Vec::new()), "the first question leaves out nobody");
            search.answer(true);
            assert_eq!((search.question(), search.is_right()), (None, true));
            assert_eq!(search.found().count(), 0);
        }
    }
}
