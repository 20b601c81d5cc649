//! What of a container's settings could not be used, said once each and never endlessly. Pure.

use std::collections::BTreeSet;

use crate::clean;
use crate::model::Warning;

/// As many warnings are given for one container; more of them say nothing new.
const LIMIT: usize = 64;
/// The longest name of a setting in a warning, in bytes.
const SETTING: usize = 80;

/// The warnings about one container.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    all: BTreeSet<Warning>,
    more: bool,
}

impl Warnings {
    /// Adds one, unless it was said already.
    pub(crate) fn add(&mut self, setting: impl AsRef<str>, problem: impl Into<String>) {
        let setting = clean::limited(setting.as_ref(), SETTING);
        let warning = Warning { setting, problem: problem.into() };
        if self.all.len() < LIMIT {
            self.all.insert(warning);
        } else if !self.all.contains(&warning) {
            self.more = true;
        }
    }

    /// Returns them, sorted.
    pub(crate) fn into_vec(self) -> Vec<Warning> {
        let problem = format!("more than {LIMIT} problems; the rest is not listed");
        let more = self.more.then(|| Warning { setting: "SERVICE_*".to_owned(), problem });
        self.all.into_iter().chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_said_once_and_there_is_an_end_to_them() {
        let mut warnings = Warnings::default();
        for number in 0..1000 {
            warnings.add(format!("SERVICE_{number}\n"), "bad");
            warnings.add("SERVICE_0", "bad");
        }
        let all = warnings.into_vec();
        assert_eq!(all.len(), LIMIT + 1);
        assert!(all.iter().all(|warning| !warning.setting.contains('\n')));
    }
}
