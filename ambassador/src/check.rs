//! HAProxy's own verdict on a configuration.

use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::args::Place;
use crate::base::usual;

/// A check takes about 20 ms; names that do not resolve make it wait for the resolver.
const LIMIT: Duration = Duration::from_secs(30);

/// What HAProxy says about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// HAProxy would load it.
    Good,
    /// HAProxy would not, and says why.
    Bad(String),
}

/// Asks HAProxy whether it would load `text` next to the base configuration: the usual one where no ambassador has run
/// yet.
///
/// An error means that there is no verdict: the program did not run to its end.
pub(crate) async fn check(place: &Place, text: &str) -> io::Result<Verdict> {
    let directory = &place.directory;
    let elsewhere = std::env::temp_dir();
    let folder = if directory.path().is_dir() { directory.path() } else { &elsewhere };
    let staged = file(folder, text)?;
    let base = directory.base();
    let usual =
        if base.exists() { None } else { Some(file(folder, &usual(&directory.runtime()))?) };
    let run = Command::new(&place.haproxy)
        .arg("-c")
        .arg("-f")
        .arg(usual.as_ref().map_or(base.as_path(), NamedTempFile::path))
        .arg("-f")
        .arg(staged.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, run)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "haproxy -c does not end"))?
        .map_err(|error| {
            let program = place.haproxy.display();
            io::Error::new(error.kind(), format!("cannot run {program}: {error}"))
        })?;
    if output.status.success() {
        return Ok(Verdict::Good);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(Verdict::Bad(message(&said, staged.path(), &output.status.to_string())))
}

/// Returns a file with a text that goes with the value.
fn file(folder: &Path, text: &str) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("haproxy.cfg.staged.").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Returns HAProxy's words, without its notices and with the lasting name of the file in them;
/// if there are none, the status.
fn message(said: &str, staged: &Path, status: &str) -> String {
    let said = said.replace(&staged.display().to_string(), "haproxy.cfg");
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("[NOTICE]")).collect();
    match lines.join("\n").trim() {
        "" => format!("haproxy -c ended with {status} and said nothing"),
        said => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::base;
    use crate::directory::Directory;

    fn place(folder: &Path, haproxy: &str) -> Place {
        let directory = Directory::new(folder);
        directory
            .write(&directory.base(), &base(&directory.runtime(), Duration::from_mins(1)))
            .unwrap();
        Place { directory, haproxy: haproxy.into() }
    }

    #[tokio::test]
    async fn haproxy_accepts_an_empty_configuration_and_names_the_fault_of_a_bad_one() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path(), "haproxy");
        assert_eq!(check(&place, "").await.unwrap(), Verdict::Good);
        let Verdict::Bad(message) = check(&place, "frontend f\n  nonsense\n").await.unwrap() else {
            panic!("accepted")
        };
        assert!(message.contains("haproxy.cfg:2"), "{message}");
        assert!(message.contains("nonsense"), "{message}");
        assert!(!message.contains("staged"), "{message}");
    }

    #[tokio::test]
    async fn there_is_a_verdict_where_no_ambassador_has_run_yet() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("missing")] {
            let place = Place { directory: Directory::new(&path), haproxy: "haproxy".into() };
            assert_eq!(check(&place, "").await.unwrap(), Verdict::Good, "{}", path.display());
            let verdict = check(&place, "nonsense\n").await.unwrap();
            assert!(matches!(verdict, Verdict::Bad(why) if why.contains("haproxy.cfg:1")));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_check_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        check(&place(folder.path(), "haproxy"), "nonsense").await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn without_the_program_there_is_no_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(&place(folder.path(), "/no/such/program"), "").await.unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_refusal_is_reported_by_its_status() {
        let folder = tempfile::tempdir().unwrap();
        let verdict = check(&place(folder.path(), "false"), "").await.unwrap();
        assert!(matches!(verdict, Verdict::Bad(message) if message.contains("exit status: 1")));
    }
}
