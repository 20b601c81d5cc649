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
        let Some((number, digest)) = self.stand_in_noted()? else { return Ok(None) };
        Ok(Some((self.noted(number, STANDS_IN)?, digest)))
    }

    fn stand_in_noted(&self) -> io::Result<Option<(u64, String)>> {
        let text = disk::read(&self.folder.join(STANDS_IN))?.unwrap_or_default();
        let parts = text.trim().split_once(' ');
        Ok(parts.and_then(|(number, digest)| Some((number.parse().ok()?, digest.to_owned()))))
    }

    /// Returns the generation that a note names: one that is not kept must not be lost in silence.
    fn noted(&self, number: u64, note: &str) -> io::Result<Generation> {
        let missing = || {
            io::Error::other(format!(
                "the file {note} names generation {number}, which is not kept"
            ))
        };
        self.generation(number)?.ok_or_else(missing)
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
        self.pinned_number()?.map(|number| self.noted(number, PINNED)).transpose()
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
        // The next start goes back to those that are named, however old they are.
        let named = [self.pinned_number()?, self.stand_in_noted()?.map(|(number, _)| number)];
        for old in &numbers[..numbers.len().saturating_sub(KEPT)] {
            if !named.contains(&Some(*old)) {
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
mod tests;
