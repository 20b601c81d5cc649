//! What engines leave behind.

use std::fs;
use std::path::{Path, PathBuf};

/// Clears away the folders and control groups of engines whose test was killed; folders are named after the prefix and
/// the number of the test's process.
pub(super) fn sweep(prefix: &str) {
    let Ok(folders) = fs::read_dir(std::env::temp_dir()) else { return };
    for folder in folders.flatten().map(|entry| entry.path()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pid = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            forget(&folder);
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Removes the control groups of an engine; containers that were killed leave empty ones behind.
pub(super) fn forget(folder: &Path) {
    let Some(name) = folder.file_name() else { return };
    let Ok(roots) = fs::read_dir("/sys/fs/cgroup") else { return };
    let roots = roots.flatten().map(|entry| entry.path());
    for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let group = root.join(name);
        for child in fs::read_dir(&group).into_iter().flatten().flatten() {
            // Files of a group cannot be removed, and go with it.
            let _ = fs::remove_dir(child.path());
        }
        let _ = fs::remove_dir(group);
    }
}
