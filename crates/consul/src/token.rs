//! The ACL token: fixed, or from a file that may change while we run.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;

use crate::{Config, Error, Secret};

/// Where the token of each request comes from.
pub(crate) struct Tokens {
    fixed: Option<HeaderValue>,
    file: Option<(PathBuf, Mutex<Cached>)>,
}

/// What is known of the token's file.
#[derive(Default)]
struct Cached {
    stamp: Option<Stamp>,
    token: Option<HeaderValue>,
    /// Why the file could not be used, so that this is logged once and not at every request.
    trouble: Option<String>,
}

/// What changes when a file is written or replaced: its inode, size and time of change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl Tokens {
    /// Takes the token, or the file to read it from, out of `config`. A file that is not there
    /// yet is no error: it may be written later.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let fixed = config
            .token
            .as_ref()
            .map(header)
            .transpose()
            .map_err(|why| Error::Usage { flag: "--consul-token", why: why.to_owned() })?;
        let file = config.token_file.clone().map(|path| (path, Mutex::default()));
        Ok(Self { fixed, file })
    }

    /// Returns the token for the next request: the file's if there is one, else the fixed one.
    /// A file that cannot be read any more leaves the token as it was.
    pub(crate) fn current(&self) -> Option<HeaderValue> {
        let Some((path, cached)) = &self.file else { return self.fixed.clone() };
        let mut cached = cached.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = refresh(path, &mut cached).err();
        if let Some(why) = trouble.as_ref().filter(|why| cached.trouble.as_ref() != Some(why)) {
            tracing::warn!(file = %path.display(), why, "cannot use the file of the consul token");
        }
        cached.trouble = trouble;
        cached.token.clone().or_else(|| self.fixed.clone())
    }
}

/// Reads the file again if it changed. The stamp is taken before reading, so that a change in
/// between is seen the next time.
fn refresh(path: &PathBuf, cached: &mut Cached) -> Result<(), String> {
    let describe = |error: io::Error| error.to_string();
    let meta = fs::metadata(path).map_err(describe)?;
    let stamp = Stamp(meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec());
    if cached.stamp == Some(stamp) {
        return cached.trouble.clone().map_or(Ok(()), Err);
    }
    let text = fs::read_to_string(path).map_err(describe)?;
    cached.stamp = Some(stamp);
    cached.token = match text.trim() {
        "" => None,
        token => Some(header(&Secret::new(token))?),
    };
    Ok(())
}

/// Returns the header's value, marked so that no library prints it.
fn header(token: &Secret) -> Result<HeaderValue, &'static str> {
    let mut value = HeaderValue::from_str(token.reveal())
        .map_err(|_| "the token holds a character that no HTTP header can carry")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(file: &std::path::Path, fixed: Option<&str>) -> Tokens {
        let mut config = Config::from_uri("").unwrap();
        config.token_file = Some(file.to_owned());
        config.token = fixed.map(Secret::new);
        Tokens::new(&config).unwrap()
    }

    fn current(tokens: &Tokens) -> Option<String> {
        tokens.current().map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "one\n").unwrap();
        let tokens = tokens(&file, None);
        assert_eq!(current(&tokens).as_deref(), Some("one"));
        let staged = folder.path().join("staged");
        fs::write(&staged, "two\n").unwrap();
        fs::rename(&staged, &file).unwrap();
        assert_eq!(current(&tokens).as_deref(), Some("two"));
    }

    #[test]
    fn a_file_that_vanished_or_went_bad_leaves_the_token_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "one").unwrap();
        let tokens = tokens(&file, None);
        assert_eq!(current(&tokens).as_deref(), Some("one"));
        fs::write(&file, "t\u{7}wo").unwrap();
        assert_eq!(current(&tokens).as_deref(), Some("one"));
        fs::remove_file(&file).unwrap();
        assert_eq!(current(&tokens).as_deref(), Some("one"));
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_used_when_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let tokens = tokens(&file, Some("fixed"));
        assert_eq!(current(&tokens).as_deref(), Some("fixed"));
        fs::write(&file, "one").unwrap();
        assert_eq!(current(&tokens).as_deref(), Some("one"));
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused_without_being_shown() {
        let mut config = Config::from_uri("").unwrap();
        config.token = Some(Secret::new("open\u{7}sesame"));
        let error = Tokens::new(&config).err().unwrap();
        assert!(!format!("{error:?} {error}").contains("sesame"));
    }

    #[test]
    fn the_header_is_marked_as_sensitive() {
        assert!(header(&Secret::new("sesame")).unwrap().is_sensitive());
    }
}
