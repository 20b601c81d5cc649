//! Replaces files so that a reader, or a crash, finds the old text or the new one, never a part.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::resource::Resource;

/// How the names of staged files end.
const SUFFIX: &str = ".staged";

/// What a new file may be read by, unless it replaces one that says otherwise.
const MODE: u32 = 0o644;

/// Permissions and owner of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

impl Access {
    /// Looks up what `resource` asks for; names that the system does not know are an error.
    pub(crate) fn of(resource: &Resource) -> io::Result<Self> {
        let unknown = |name: &str| io::Error::other(format!("the system knows no {name}"));
        let uid = match &resource.owner {
            Some(name) => User::from_name(name)?
                .map(|user| user.uid.as_raw())
                .ok_or_else(|| unknown(name))
                .map(Some)?,
            None => resource.uid,
        };
        let gid = match &resource.group {
            Some(name) => Group::from_name(name)?
                .map(|group| group.gid.as_raw())
                .ok_or_else(|| unknown(name))
                .map(Some)?,
            None => resource.gid,
        };
        Ok(Self { mode: resource.mode.map(|mode| mode.0), uid, gid })
    }
}

/// A complete text beside its destination, not yet in its place.
#[derive(Debug)]
pub(crate) struct Staged {
    file: NamedTempFile,
    dest: PathBuf,
}

/// Writes `text` beside `dest`, with the access it shall have: what is not said stays as it is.
pub(crate) fn stage(dest: &Path, text: &str, access: &Access) -> io::Result<Staged> {
    stage_with(dest, access, |file| file.write_all(text.as_bytes()))
}

/// Does the same with what `write` writes.
fn stage_with(
    dest: &Path,
    access: &Access,
    write: impl FnOnce(&mut BufWriter<&mut NamedTempFile>) -> io::Result<()>,
) -> io::Result<Staged> {
    let prefix = format!(".{}.", name(dest));
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX);
    let mut file = match builder.tempfile_in(folder(dest)) {
        // A file that is mounted into a folder where nothing else may be written.
        Err(error) if is_closed(&error) && dest.is_file() => {
            builder.tempfile_in(std::env::temp_dir()).map_err(|_| bare(error))?
        }
        file => file.map_err(bare)?,
    };
    let mut writer = BufWriter::new(&mut file);
    write(&mut writer)?;
    writer.flush()?;
    drop(writer);
    let old = std::fs::metadata(dest).ok();
    let mode = access.mode.or(old.as_ref().map(|old| old.mode() & 0o7777)).unwrap_or(MODE);
    let differs =
        |wanted: Option<u32>, old: Option<u32>, own: u32| wanted.or(old).filter(|id| *id != own);
    let own = file.as_file().metadata()?;
    let uid = differs(access.uid, old.as_ref().map(MetadataExt::uid), own.uid()).map(Uid::from_raw);
    let gid = differs(access.gid, old.as_ref().map(MetadataExt::gid), own.gid()).map(Gid::from_raw);
    if uid.is_some() || gid.is_some() {
        match nix::unistd::chown(file.path(), uid, gid) {
            // The old file's owner is kept where that is possible; only what was asked for must be.
            Err(_) if access.uid.is_none() && access.gid.is_none() => {}
            result => result?,
        }
    }
    // After the owner: changing that clears some of the bits.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    Ok(Staged { file, dest: dest.to_owned() })
}

impl Staged {
    /// Where it is now.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Puts it in its place, so that it is there after a power failure.
    ///
    /// A destination that cannot be replaced because it is a mount point, or in a folder where nothing else may be
    /// written, is written in place; that is not atomic, and said in the log.
    pub(crate) fn commit(self) -> io::Result<()> {
        let Self { file, dest } = self;
        file.as_file().sync_all()?;
        match file.persist(&dest) {
            Ok(_) => File::open(folder(&dest))?.sync_all(),
            Err(error)
                if matches!(
                    error.error.raw_os_error(),
                    Some(nix::libc::EBUSY | nix::libc::EXDEV)
                ) || is_closed(&error.error) =>
            {
                tracing::warn!(dest = %dest.display(), "cannot be replaced: written in place, which is not atomic");
                let (new, old) = (std::fs::read(error.file.path())?, std::fs::read(&dest)?);
                overwrite(&dest, &new).inspect_err(|_| {
                    // A part of the new text is worse than the old one, and that had room.
                    if let Err(error) = overwrite(&dest, &old) {
                        tracing::error!(dest = %dest.display(), %error, "is incomplete");
                    }
                })
            }
            Err(error) => Err(error.error),
        }
    }

    /// Keeps it as `.rejected` where it is, beside the destination if that is possible, and returns where.
    pub(crate) fn reject(self) -> io::Result<PathBuf> {
        let path = self.file.path().with_file_name(format!("{}.rejected", name(&self.dest)));
        self.file.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    }
}

/// What only this process may read.
const PRIVATE: u32 = 0o600;

/// Replaces the file at `path` by one that only this process may read.
pub(crate) fn replace_private(path: &Path, text: &str) -> io::Result<()> {
    stage(path, text, &Access { mode: Some(PRIVATE), ..Access::default() })?.commit()
}

/// Does the same with `value` as JSON, which may be much larger than what it is made of: it is never in memory as a
/// whole.
pub(crate) fn replace_private_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let access = Access { mode: Some(PRIVATE), ..Access::default() };
    stage_with(path, &access, |file| serde_json::to_writer(file, value).map_err(Into::into))?
        .commit()
}

/// Reads a text; one that is not there is no error.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read(path) {
        // A destination that someone filled with something else is different from every text.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what a process that was killed left of its attempts to write `dest`.
pub(crate) fn sweep_beside(dest: &Path) {
    sweep(folder(dest), &format!(".{}.", name(dest)));
}

/// Removes the staged files in `folder` whose names begin with `prefix`. What cannot be removed does no harm.
pub(crate) fn sweep(folder: &Path, prefix: &str) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(SUFFIX) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Returns an error without the name of the staged file, which is another one each time: the same is to be said once.
fn bare(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path ") {
        Some((why, _)) => io::Error::new(error.kind(), why.to_owned()),
        None => error,
    }
}

/// Tells whether nothing may be created in a folder, though there is room.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn overwrite(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
