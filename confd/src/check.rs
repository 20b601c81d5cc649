//! Asks whether a staged file is right, before it takes its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::haproxy::{self, CheckError};
use crate::resource::{self, Resource};
use crate::{command, disk};

/// The program of the built-in check.
const HAPROXY: &str = "haproxy";

/// How a resource's staged files are checked.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    /// Not at all.
    None,
    /// By a shell command with `{{ src }}` and `{{ dest }}`.
    Command(String),
    /// By `haproxy -c`, with the file that the ambassador loads before this one.
    HaProxy {
        /// The ambassador's own part, if there is one.
        base: Option<PathBuf>,
    },
}

/// What a check said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file is wrong: checking it again changes nothing.
    #[error("{0}")]
    Rejected(String),
    /// It could not be found out: worth another try.
    #[error("the check could not be done")]
    Undecided(#[source] anyhow::Error),
}

impl Check {
    /// Returns the check that `resource` asks for.
    #[must_use]
    pub(crate) fn of(resource: &Resource) -> Self {
        match (&resource.check_cmd, resource.check) {
            (Some(command), _) => Self::Command(command.clone()),
            (None, Some(resource::Check::HaProxy)) => {
                let base = resource.haproxy.as_ref().map(|h| h.runtime.with_file_name("base.cfg"));
                Self::HaProxy { base }
            }
            (None, None) => Self::None,
        }
    }

    /// Checks `staged`, for at most `limit`.
    pub(crate) async fn ask(
        &self,
        staged: &disk::Staged,
        dest: &Path,
        limit: Duration,
    ) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::Command(command) => {
                let command = filled_in(command, staged.path(), dest);
                match command::run(&command, limit).await {
                    Ok(_) => Ok(()),
                    Err(error @ command::Error::Failed { status, .. })
                        if !command::is_killed(status) =>
                    {
                        Err(Error::Rejected(error.to_string()))
                    }
                    Err(error) => Err(Error::Undecided(error.into())),
                }
            }
            Self::HaProxy { base } => {
                let base = base.iter().filter(|base| base.exists()).cloned();
                let files: Vec<PathBuf> = base.chain([staged.path().to_owned()]).collect();
                match haproxy::check(Path::new(HAPROXY), &files, limit).await {
                    Ok(()) => Ok(()),
                    Err(CheckError::Rejected { lines }) => {
                        // The reader knows the destination, not the staged file's odd name.
                        let staged = staged.path().display().to_string();
                        let lines = lines.join("\n").replace(&staged, &dest.display().to_string());
                        Err(Error::Rejected(lines))
                    }
                    Err(error) => Err(Error::Undecided(error.into())),
                }
            }
        }
    }
}

/// Replaces `{{ src }}` and `{{ dest }}`, also in the spelling of kelseyhightower's confd, `{{.src}}`.
pub(crate) fn filled_in(command: &str, src: &Path, dest: &Path) -> String {
    let mut command = command.to_owned();
    for (name, path) in [("src", src), ("dest", dest)] {
        for placeholder in [
            format!("{{{{ {name} }}}}"),
            format!("{{{{{name}}}}}"),
            format!("{{{{.{name}}}}}"),
            format!("{{{{ .{name} }}}}"),
        ] {
            command = command.replace(&placeholder, &path.display().to_string());
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_placeholders_is_understood() {
        let (src, dest) = (Path::new("/a"), Path::new("/b"));
        for command in [
            "c {{ src }} {{ dest }}",
            "c {{src}} {{dest}}",
            "c {{.src}} {{.dest}}",
            "c {{ .src }} {{ .dest }}",
        ] {
            assert_eq!(filled_in(command, src, dest), "c /a /b");
        }
    }

    #[tokio::test]
    async fn a_command_rejects_what_it_does_not_like_and_a_missing_answer_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("a");
        let staged = disk::stage(&dest, "good", &disk::Access::default()).unwrap();
        let ask = async |command: &str, limit: Duration| {
            Check::Command(command.into()).ask(&staged, &dest, limit).await
        };
        let ample = Duration::from_secs(20);
        assert!(ask("grep -q good {{ src }}", ample).await.is_ok());
        assert!(matches!(ask("grep bad {{ src }}", ample).await, Err(Error::Rejected(_))));
        let late = ask("sleep 10", Duration::from_millis(300)).await;
        assert!(matches!(late, Err(Error::Undecided(_))));
    }

    #[tokio::test]
    async fn a_check_that_is_killed_is_no_rejection() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("a");
        let staged = disk::stage(&dest, "good", &disk::Access::default()).unwrap();
        for command in ["kill -KILL $$", "sh -c 'kill -KILL $$'; exit $?"] {
            let check = Check::Command(command.into());
            let verdict = check.ask(&staged, &dest, Duration::from_secs(20)).await;
            assert!(matches!(verdict, Err(Error::Undecided(_))), "{command}: {verdict:?}");
        }
        // A crash is the text's fault, or was: it is asked about again.
        let check = Check::Command("kill -SEGV $$".into());
        let verdict = check.ask(&staged, &dest, Duration::from_secs(20)).await;
        assert!(matches!(verdict, Err(Error::Rejected(_))), "{verdict:?}");
    }
}
