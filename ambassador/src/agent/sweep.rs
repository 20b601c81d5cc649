//! Directories of ambassadors whose clients have gone, in the volume that all share.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A directory younger than this may be that of an ambassador that is just starting.
const YOUNG: Duration = Duration::from_mins(1);
/// Directories are named by so much of their client's ID.
pub(super) const NAME: usize = 12;

/// Removes the directories in `folder` that are named like a client, and belong to none of
/// `clients` (whole IDs) and to no running ambassador. A folder that is not there has none.
pub(crate) fn sweep(folder: &Path, clients: &BTreeSet<&str>, now: SystemTime) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| named_like_a_client(name)) else { continue };
        let wanted = clients.iter().any(|client| client.starts_with(name));
        let age = now.duration_since(entry.metadata()?.modified()?).unwrap_or_default();
        if !wanted && age > YOUNG && !claimed(&entry.path()) {
            fs::remove_dir_all(entry.path())?;
            tracing::info!(client = name, "directory removed");
        }
    }
    Ok(())
}

pub(super) fn named_like_a_client(name: &str) -> bool {
    name.len() == NAME && name.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether an ambassador runs in the directory.
fn claimed(directory: &Path) -> bool {
    File::open(directory.join("lock")).is_ok_and(|lock| lock.try_lock().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    #[test]
    fn only_old_directories_of_clients_that_have_gone_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["0123456789ab", "0123456789ac", "0123456789ad", "not-a-client", "0123"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("0123456789ae"), "a file").unwrap();
        let running = Directory::new(&folder.path().join("0123456789ad"));
        let claim = running.claim().unwrap();
        let clients = BTreeSet::from(["0123456789ab0000"]);
        let left = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let all = left();
        sweep(folder.path(), &clients, SystemTime::now()).unwrap();
        assert_eq!(left(), all, "young ones stay");

        fs::remove_file(folder.path().join("0123456789ae")).unwrap();
        let later = SystemTime::now() + 2 * YOUNG;
        sweep(folder.path(), &clients, later).unwrap();
        assert_eq!(left(), ["0123", "0123456789ab", "0123456789ad", "not-a-client"]);
        drop(claim);
        sweep(folder.path(), &clients, later).unwrap();
        assert_eq!(left(), ["0123", "0123456789ab", "not-a-client"]);
        sweep(&folder.path().join("nowhere"), &clients, later).unwrap();
    }
}
