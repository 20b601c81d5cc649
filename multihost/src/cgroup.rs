//! The control groups of the nodes' containers: containers that were killed leave empty ones behind.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the name of the group above all others of this folder.
pub(crate) fn name(folder: &Path) -> String {
    crate::network::interface(folder)
}

/// Returns the groups that are there: one for each controller, or one (cgroup v2).
pub(crate) fn find(folder: &Path) -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let controllers = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut groups: Vec<_> = controllers
        .chain([root])
        .map(|path| path.join(name(folder)))
        .filter(|path| path.exists())
        .collect();
    groups.sort();
    groups.dedup_by_key(|path| fs::canonicalize(path).unwrap_or_default());
    groups
}

/// Removes them. What still has a process stays.
pub(crate) fn remove(folder: &Path) {
    for group in &find(folder) {
        remove_tree(group);
    }
}

/// Removes a group and those in it; its files cannot be removed, and go with it.
fn remove_tree(group: &Path) {
    for child in fs::read_dir(group).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&child.path());
        }
    }
    // One that is in use is reported by whoever looks for what is left over.
    let _ = fs::remove_dir(group);
}
