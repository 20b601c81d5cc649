//! Files with the modes that their readers need, whatever the operator's umask is.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::Context;

/// Makes a folder that everybody may look into: programs in containers are other users.
pub(crate) fn folder(path: &Path) -> anyhow::Result<()> {
    make_folder(path, 0o755)
}

/// Makes a folder that only its owner may look into.
pub(crate) fn secret_folder(path: &Path) -> anyhow::Result<()> {
    make_folder(path, 0o700)
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Writes a file that everybody can read.
pub(crate) fn public(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    write(path, text, 0o644)
}

/// Writes a file that only its owner can read.
pub(crate) fn secret(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    write(path, text, 0o600)
}

fn write(path: &Path, text: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut options = fs::File::options();
    let file = options.create(true).truncate(true).write(true).mode(mode).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file.write_all(text)?)
}

/// Returns what a file holds; if there is none, makes one that only its owner can read.
pub(crate) fn keep_or(path: &Path, make: impl FnOnce() -> String) -> anyhow::Result<String> {
    if let Ok(text) = fs::read_to_string(path) {
        return Ok(text);
    }
    let text = make();
    secret(path, text.as_bytes())?;
    Ok(text)
}

/// Copies a file; everybody can read the copy.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let text = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    public(to, &text)
}

/// Copies a folder and what is in it; everybody can read the copy.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    folder(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Gives a file to the user that reads it in its container.
pub(crate) fn own(path: &Path, user: u32) -> anyhow::Result<()> {
    chown(path, Some(user), None)
        .with_context(|| format!("cannot give {} to user {user}: run this as root", path.display()))
}
