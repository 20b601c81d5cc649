//! Finds the one service without which a configuration is right. Pure: no I/O, no clock, no async.

/// Checks that a search may take: enough for a quarter of a million services.
const LIMIT: usize = 20;

/// A search for the culprit among names: ask [`Search::question`], give it the [`Search::answer`], until there is none.
#[derive(Debug)]
pub(crate) struct Search {
    names: Vec<String>,
    /// The culprit, if it is one, is in this part.
    suspects: std::ops::Range<usize>,
    stage: Stage,
    questions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Does it pass without any of them? If not, none of them is to blame.
    All,
    /// Does it pass without the first half of the suspects?
    Half,
    /// Does it pass without the last suspect? With two culprits, the halves mislead.
    Alone,
    Found,
    Failed,
}

impl Search {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let stage = if names.is_empty() { Stage::Failed } else { Stage::All };
        Self { suspects: 0..names.len(), names, stage, questions: 0 }
    }

    fn middle(&self) -> usize {
        self.suspects.start + self.suspects.len() / 2
    }

    /// Returns the names to leave out; the answer is whether the rest passes. `None` at the end.
    pub(crate) fn question(&self) -> Option<&[String]> {
        match self.stage {
            _ if self.questions == LIMIT => None,
            Stage::All => Some(&self.names),
            Stage::Half => Some(&self.names[self.suspects.start..self.middle()]),
            Stage::Alone => Some(&self.names[self.suspects.clone()]),
            Stage::Found | Stage::Failed => None,
        }
    }

    pub(crate) fn answer(&mut self, passes: bool) {
        self.questions += 1;
        let further = |suspects: usize| if suspects > 1 { Stage::Half } else { Stage::Alone };
        self.stage = match (self.stage, passes) {
            (Stage::All, true) => further(self.suspects.len()),
            (Stage::Half, _) => {
                let middle = self.middle();
                let Search { suspects, .. } = self;
                *suspects = if passes { suspects.start..middle } else { middle..suspects.end };
                further(suspects.len())
            }
            (Stage::Alone, true) => Stage::Found,
            _ => Stage::Failed,
        };
    }

    /// Returns the culprit, if the search has found one.
    pub(crate) fn found(&self) -> Option<&str> {
        (self.stage == Stage::Found).then(|| self.names[self.suspects.start].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(count: usize, bad: &[usize]) -> (Option<usize>, usize) {
        let mut search = Search::new((0..count).map(|n| n.to_string()).collect());
        while let Some(without) = search.question() {
            let passes = bad.iter().all(|bad| without.contains(&bad.to_string()));
            search.answer(passes);
        }
        (search.found().map(|name| name.parse().unwrap()), search.questions)
    }

    proptest! {
        #[test]
        fn one_culprit_is_found_with_few_questions(
            (count, bad) in (1..10_000_usize).prop_flat_map(|count| (Just(count), 0..count))
        ) {
            let (found, questions) = search(count, &[bad]);
            prop_assert_eq!(found, Some(bad));
            prop_assert!(questions <= LIMIT);
        }

        #[test]
        fn two_culprits_are_never_taken_for_one(
            (count, one, other) in (2..1000_usize)
                .prop_flat_map(|count| (Just(count), 0..count, 0..count))
        ) {
            prop_assume!(one != other);
            prop_assert_eq!(search(count, &[one, other]).0, None);
        }
    }

    #[test]
    fn a_template_that_is_wrong_by_itself_blames_nobody() {
        assert_eq!(search(5, &[7]).0, None);
        assert_eq!(search(0, &[]).0, None);
    }
}
