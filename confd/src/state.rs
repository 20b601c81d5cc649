//! What confd remembers of a resource across restarts: what was accepted last, and how it came about.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::dependency::Dependency;
use crate::disk;
use crate::newest::Newest;
use crate::snapshot::Data;
use crate::text;

/// The mode of folders that only this process may enter.
const PRIVATE: u32 = 0o700;
/// Generations kept: enough to find the one before a bad day.
const KEPT: usize = 10;
/// The file with the number of the generation that stays whatever changes.
const PINNED: &str = "pinned";
/// The file with the number of one that stays until what is rendered changes, and with the digest of that.
const STANDS_IN: &str = "stands-in";

/// The file with the digest of the text that was put into the destination last.
const WRITTEN: &str = "written";

/// An accepted text, and what it was rendered from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Counts up from 1.
    pub number: u64,
    /// When it was accepted, in seconds since 1970.
    pub at: u64,
    /// The digest of the text.
    pub digest: String,
    /// The text.
    pub text: String,
    /// The answers it was rendered from.
    pub inputs: Vec<(Dependency, Data)>,
    /// The digest of the template and its resource; unknown for those of older versions.
    #[serde(default)]
    pub template: Option<String>,
    /// The newest index of the source at that time; unknown for those of older versions.
    #[serde(flatten)]
    pub newest: Newest,
}

/// A [`Generation`] as it is written: of what others own.
#[derive(Serialize)]
struct Writing<'a> {
    number: u64,
    at: u64,
    digest: String,
    text: &'a str,
    inputs: &'a [(&'a Dependency, &'a Data)],
    template: Option<&'a str>,
    #[serde(flatten)]
    newest: &'a Newest,
}

/// The memory of one resource: a folder.
#[derive(Clone, Debug)]
pub struct State {
    folder: PathBuf,
}

impl State {
    /// Returns the memory of the resource `name`, below `state_dir`; nothing is created before there is something to be
    /// remembered.
    #[must_use]
    pub fn open(state_dir: &Path, name: &str) -> Self {
        Self { folder: state_dir.join(name) }
    }

    /// Makes the folder, for nobody else to read: texts and answers are kept there, whoever may read the destination.
    fn make(&self) -> io::Result<()> {
        let generations = self.folder.join("generations");
        DirBuilder::new().recursive(true).mode(PRIVATE).create(generations)?;
        if std::fs::metadata(&self.folder)?.permissions().mode() & 0o777 != PRIVATE {
            std::fs::set_permissions(&self.folder, Permissions::from_mode(PRIVATE))?;
        }
        Ok(())
    }

    /// Removes what an earlier process, that was killed, had not finished.
    pub(crate) fn sweep(&self) {
        disk::sweep(&self.folder, ".");
        disk::sweep(&self.folder.join("generations"), ".");
    }

    /// Returns the text that was accepted last for the resource `name`, creating nothing.
    pub fn peek(state_dir: &Path, name: &str) -> io::Result<Option<String>> {
        disk::read(&state_dir.join(name).join("accepted"))
    }

    /// Forgets all about the resource `name`.
    pub fn remove(state_dir: &Path, name: &str) -> io::Result<()> {
        std::fs::remove_dir_all(state_dir.join(name))
    }

    /// Returns the names of the resources that something is remembered of.
    pub fn names(state_dir: &Path) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = std::fs::read_dir(state_dir)?
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join("generations").is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Notes that a generation is to stay whatever changes, or none.
    pub fn pin(&self, number: Option<u64>) -> io::Result<()> {
        self.note(PINNED, number.map(|number| number.to_string()))
    }

    /// Notes that a generation is to stay as long as the text with a certain digest is rendered, or none.
    pub fn stand_in(&self, generation: Option<(u64, &str)>) -> io::Result<()> {
        self.note(STANDS_IN, generation.map(|(number, digest)| format!("{number} {digest}")))
    }

    /// Returns the generation that stands in for a text, and the digest of that.
    pub fn stands_in(&self) -> io::Result<Option<(Generation, String)>> {
        let text = disk::read(&self.folder.join(STANDS_IN))?.unwrap_or_default();
        let parts = text.trim().split_once(' ');
        let Some((number, digest)) = parts.and_then(|(n, d)| Some((n.parse().ok()?, d))) else {
            return Ok(None);
        };
        Ok(self.generation(number)?.map(|generation| (generation, digest.to_owned())))
    }

    /// Notes that a text is about to be put into the destination. Lost with the power, it costs a reload.
    pub fn about_to_write(&self, text: &str) -> io::Result<()> {
        self.make()?;
        std::fs::write(self.folder.join(WRITTEN), text::sha256(text.as_bytes()))
    }

    /// Tells whether what is in the destination was put there by us, accepted since or not.
    #[must_use]
    pub fn is_written(&self, text: &str) -> bool {
        let written = disk::read(&self.folder.join(WRITTEN)).ok().flatten();
        written.is_some_and(|digest| digest == text::sha256(text.as_bytes()))
    }

    fn note(&self, name: &str, text: Option<String>) -> io::Result<()> {
        let path = self.folder.join(name);
        match text {
            Some(text) => {
                self.make()?;
                disk::replace_private(&path, &text)
            }
            // A read-only folder refuses to forget even what is not there.
            None if !path.exists() => Ok(()),
            None => std::fs::remove_file(path),
        }
    }

    /// Returns the generation that is to stay, if there is one.
    pub fn pinned(&self) -> io::Result<Option<Generation>> {
        self.pinned_number()?.map_or(Ok(None), |number| self.generation(number))
    }

    fn pinned_number(&self) -> io::Result<Option<u64>> {
        let text = disk::read(&self.folder.join(PINNED))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    /// Returns the text that was accepted last.
    pub fn accepted(&self) -> io::Result<Option<String>> {
        disk::read(&self.folder.join("accepted"))
    }

    /// Notes that `text`, which `template` gave from `inputs` when the source's index was `newest`, is accepted.
    pub fn accept(
        &self,
        text: &str,
        inputs: &[(&Dependency, &Data)],
        template: Option<&str>,
        newest: &Newest,
    ) -> io::Result<u64> {
        self.make()?;
        let number = self.numbers()?.last().copied().unwrap_or_default() + 1;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let digest = crate::text::sha256(text.as_bytes());
        let generation = Writing { number, at, digest, text, inputs, template, newest };
        disk::replace_private_json(&self.path(number), &generation)?;
        if let Err(error) = disk::replace_private(&self.folder.join("accepted"), text) {
            // A generation counts only if it is the accepted one; the next try makes it anew.
            let _ = std::fs::remove_file(self.path(number));
            return Err(error);
        }
        let numbers = self.numbers()?;
        let pinned = self.pinned_number()?;
        for old in &numbers[..numbers.len().saturating_sub(KEPT)] {
            if Some(*old) != pinned {
                std::fs::remove_file(self.path(*old))?;
            }
        }
        Ok(number)
    }

    /// Returns the numbers of the generations that are kept, the oldest first.
    pub fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(self.folder.join("generations")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut numbers: Vec<u64> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Returns one generation; `None` if it is not kept.
    pub fn generation(&self, number: u64) -> io::Result<Option<Generation>> {
        match disk::read(&self.path(number))? {
            None => Ok(None),
            Some(json) => serde_json::from_str(&json).map(Some).map_err(io::Error::other),
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join("generations").join(format!("{number:08}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_is_remembered_with_its_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), "web");
        assert_eq!(state.accepted().unwrap(), None);
        let inputs = vec![(Dependency::Datacenters, Data::Names(vec!["dc1".into()]))];
        let borrowed: Vec<_> = inputs.iter().map(|(asked, data)| (asked, data)).collect();
        assert_eq!(state.accept("one", &borrowed, None, &Newest::default()).unwrap(), 1);
        let again = State::open(folder.path(), "web");
        assert_eq!(again.accepted().unwrap().as_deref(), Some("one"));
        assert_eq!(again.generation(1).unwrap().unwrap().inputs, inputs);
        assert_eq!(again.generation(2).unwrap(), None);
    }

    #[test]
    fn what_we_have_put_into_the_destination_is_told_from_what_others_have() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), "web");
        assert!(!state.is_written("a"), "nothing is known yet");
        state.about_to_write("a").unwrap();
        state.about_to_write("b").unwrap();
        assert!(state.is_written("b") && !state.is_written("a"));
    }

    #[test]
    fn a_generation_that_stands_in_for_a_text_is_remembered_until_it_is_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), "web");
        assert_eq!(state.stands_in().unwrap(), None);
        state.accept("one", &[], None, &Newest::default()).unwrap();
        state.stand_in(Some((1, "abc"))).unwrap();
        let (generation, digest) = State::open(folder.path(), "web").stands_in().unwrap().unwrap();
        assert_eq!((generation.text.as_str(), digest.as_str()), ("one", "abc"));
        assert_eq!(state.pinned().unwrap(), None);
        state.stand_in(None).unwrap();
        state.stand_in(None).unwrap();
        assert_eq!(state.stands_in().unwrap(), None);
    }

    #[test]
    fn what_is_remembered_is_for_nobody_else_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), "web");
        state.accept("secret", &[], None, &Newest::default()).unwrap();
        let mode = |path: &str| {
            std::fs::metadata(folder.path().join("web").join(path)).unwrap().permissions().mode()
        };
        assert_eq!((mode("") & 0o777, mode("generations") & 0o777), (0o700, 0o700));
        assert_eq!(mode("accepted") & 0o777, 0o600);
        assert_eq!(mode("generations/00000001.json") & 0o777, 0o600);
    }

    #[test]
    fn only_the_last_ten_generations_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), "web");
        for n in 1..=25 {
            assert_eq!(state.accept(&n.to_string(), &[], None, &Newest::default()).unwrap(), n);
        }
        assert_eq!(state.numbers().unwrap(), (16..=25).collect::<Vec<_>>());
    }
}
