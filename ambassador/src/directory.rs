//! The directory that an ambassador shares with those who configure it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// The names of an ambassador's files and sockets.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

/// Tells one version of a file from the next; `None` in its place means that there is no file.
pub(crate) type Version = (u64, u64, i64, i64);

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        // HAProxy puts `master.sock` where it runs when the path is relative.
        Self(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The `global` section: sockets and limits. Rewritten at each start.
    pub(crate) fn base(&self) -> PathBuf {
        self.0.join("base.cfg")
    }

    /// What HAProxy serves.
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("haproxy.cfg")
    }

    /// The last configuration that HAProxy accepted.
    pub(crate) fn accepted(&self) -> PathBuf {
        self.0.join("haproxy.cfg.accepted")
    }

    /// The last configuration that HAProxy refused.
    pub(crate) fn rejected(&self) -> PathBuf {
        self.0.join("haproxy.cfg.rejected")
    }

    /// HAProxy's runtime socket, served by its worker.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.0.join("runtime.sock")
    }

    /// HAProxy's master socket.
    pub(crate) fn master(&self) -> PathBuf {
        self.0.join("master.sock")
    }

    /// Where configurations are handed over.
    pub(crate) fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// The configuration that the command line of the last start asked for.
    pub(crate) fn asked(&self) -> PathBuf {
        self.0.join("haproxy.cfg.asked")
    }

    /// Creates the directory and claims it for this process until the returned file is dropped.
    pub(crate) fn claim(&self) -> io::Result<File> {
        fs::create_dir_all(&self.0)?;
        let file = File::create(self.0.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another ambassador runs in this directory",
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Puts a text in the place of `path` in one step: a reader sees the old one or the new one.
    pub(crate) fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        self.staged(text)?.persist(path)?;
        Ok(())
    }

    /// The same, unless there is a file already.
    pub(crate) fn write_new(&self, path: &Path, text: &str) -> io::Result<()> {
        match self.staged(text)?.persist_noclobber(path) {
            Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map(drop).map_err(Into::into),
        }
    }

    fn staged(&self, text: &str) -> io::Result<NamedTempFile> {
        let mut file = NamedTempFile::new_in(&self.0)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        Ok(file)
    }
}

/// Returns a file's text, or `None` where there is no file.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        // HAProxy judges what it can read; a stray byte must not keep it from doing so.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns what changes whenever the file at `path` does.
pub(crate) fn version(path: &Path) -> Option<Version> {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_directory_belongs_to_one_ambassador_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(&folder.path().join("new"));
        let claim = directory.claim().unwrap();
        assert_eq!(directory.claim().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(claim);
        // A program that another test is just starting has the claim, too, until it is that program.
        let again = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(10));
            directory.claim()
        });
        assert!(again.take(1000).any(|claim| claim.is_ok()));
    }

    #[test]
    fn a_written_text_replaces_the_old_one_and_is_a_new_version() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path());
        let path = directory.config();
        assert_eq!((read(&path).unwrap(), version(&path)), (None, None));
        directory.write(&path, "one").unwrap();
        let first = version(&path);
        directory.write(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_ne!(version(&path), first);
        directory.write_new(&path, "three").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"), "it is there already");
    }
}
