//! Reads all resource files, and says what is wrong with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Resource;

/// What is wrong with a resource file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or the folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or value that means nothing.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column, excerpt and reason.
        message: String,
    },
    /// The keys contradict each other.
    #[error("{}: {reason}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Which keys, and how.
        reason: String,
    },
}

impl Error {
    /// Returns the name of the resource whose file is wrong, if one file is.
    #[must_use]
    pub fn resource(&self) -> Option<String> {
        let (Self::Read { path, .. }
        | Self::Syntax { path, .. }
        | Self::Contradiction { path, .. }) = self;
        let is_file = path.extension().is_some_and(|extension| extension == "toml");
        path.file_stem().filter(|_| is_file).map(|stem| stem.to_string_lossy().into_owned())
    }
}

/// Reads every `conf.d/*.toml` below `confdir`, sorted by name: what is good, and what is wrong with the others.
#[must_use]
pub fn load(confdir: &Path) -> (Vec<Resource>, Vec<Error>) {
    load_beside(confdir, |_| false)
}

/// The same beside resources that are at work: of several with one destination it is theirs, else the first one's.
pub(crate) fn load_beside(
    confdir: &Path,
    is_at_work: impl Fn(&Resource) -> bool,
) -> (Vec<Resource>, Vec<Error>) {
    let folder = confdir.join("conf.d");
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let entries = match std::fs::read_dir(&folder).map_err(unreadable(&folder)) {
        Ok(entries) => entries,
        Err(error) => return (Vec::new(), vec![error]),
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let (mut resources, mut errors) = (Vec::<Resource>::new(), Vec::new());
    for path in paths {
        let parsed = std::fs::read_to_string(&path)
            .map_err(unreadable(&path))
            .and_then(|text| Resource::parse(&path, &text));
        match parsed {
            Ok(resource) => resources.push(resource),
            Err(error) => errors.push(error),
        }
    }
    let owners: BTreeMap<PathBuf, String> = resources
        .iter()
        .rev()
        .chain(resources.iter().filter(|resource| is_at_work(resource)))
        .map(|resource| (resource.dest.clone(), resource.name.clone()))
        .collect();
    resources.retain(|resource| {
        let owner = &owners[&resource.dest];
        if *owner != resource.name {
            let path = folder.join(format!("{}.toml", resource.name));
            errors.push(Error::Contradiction { path, reason: taken(owner) });
        }
        *owner == resource.name
    });
    (resources, errors)
}

/// Returns why a resource cannot have the destination of another one.
pub(crate) fn taken(owner: &str) -> String {
    format!("`dest` is the same as that of {owner}.toml")
}
