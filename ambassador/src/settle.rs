//! Which configuration to start with: the last one that HAProxy accepts.

use std::io;

use crate::args::Place;
use crate::check::{Verdict, check};
use crate::directory::{Directory, read};

/// What is served without a configuration: nothing listens, so connections are refused.
pub(crate) const EMPTY: &str = "# No configuration yet: nothing listens.\n";

/// Makes sure that `haproxy.cfg` is there and that HAProxy would load it. Otherwise keeps it as
/// `haproxy.cfg.rejected` and brings back the last accepted one, or else the empty one.
///
/// Returns a text that was refused and that nothing accepted could replace: worth another try,
/// for what is wrong may be around it (a name that does not resolve yet).
pub(crate) async fn settle(place: &Place) -> io::Result<Option<String>> {
    let directory = &place.directory;
    let config = read(&directory.config())?.filter(|text| text != EMPTY);
    let accepted = read(&directory.accepted())?.filter(|text| Some(text) != config.as_ref());
    for text in [&config, &accepted].into_iter().flatten() {
        match check(place, text).await? {
            Verdict::Good => {
                if Some(text) != config.as_ref() {
                    directory.write(&directory.config(), text)?;
                }
                return Ok(None);
            }
            Verdict::Bad(message) => {
                tracing::error!(%message, "a configuration was refused");
                directory.write(&directory.rejected(), text)?;
            }
        }
    }
    match &config {
        // Whoever else writes here may have been faster.
        None => directory.write_new(&directory.config(), EMPTY)?,
        Some(bad) if read(&directory.config())?.as_ref() == Some(bad) => {
            directory.write(&directory.config(), EMPTY)?;
        }
        Some(_) => {}
    }
    Ok(config.or(accepted))
}

/// Puts a text aside with which HAProxy did not start, though it would load it (an address may be in use), and brings back
/// what it accepted last. Tells whether there was anything else to bring back.
pub(crate) fn fall_back(place: &Place, text: &str) -> io::Result<bool> {
    let directory = &place.directory;
    let accepted = read(&directory.accepted())?.filter(|accepted| accepted != text);
    let Some(accepted) = accepted.filter(|_| text != EMPTY) else { return Ok(false) };
    directory.write(&directory.rejected(), text)?;
    if read(&directory.config())?.as_deref() == Some(text) {
        directory.write(&directory.config(), &accepted)?;
    }
    Ok(true)
}

/// Puts the configuration that the command line asks for in the place of `haproxy.cfg`, unless
/// it did so at an earlier start: what came later counts more.
pub(crate) fn ask(directory: &Directory, text: &str) -> io::Result<()> {
    let served = read(&directory.config())?.filter(|config| config != EMPTY);
    let known = read(&directory.asked())?.as_deref() == Some(text);
    if known && (served.is_some() || directory.accepted().exists()) {
        return Ok(());
    }
    directory.write(&directory.config(), text)?;
    directory.write(&directory.asked(), text)
}

/// Remembers a configuration that HAProxy has loaded.
pub(crate) fn accept(place: &Place, text: &str) -> io::Result<()> {
    let path = place.directory.accepted();
    if read(&path)?.as_deref() != Some(text) {
        place.directory.write(&path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::base;
    use std::time::Duration;

    const GOOD: &str = "# good\n";
    const BAD: &str = "nonsense\n";

    /// Settles in a directory with these two files; returns what it answered, and the files
    /// `haproxy.cfg`, `.accepted` and `.rejected` afterwards.
    async fn settled(
        config: Option<&str>,
        accepted: Option<&str>,
    ) -> (Option<String>, [Option<String>; 3]) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path());
        directory
            .write(&directory.base(), &base(&directory.runtime(), Duration::from_mins(1)))
            .unwrap();
        for (path, text) in [(directory.config(), config), (directory.accepted(), accepted)] {
            if let Some(text) = text {
                directory.write(&path, text).unwrap();
            }
        }
        let paths = [directory.config(), directory.accepted(), directory.rejected()];
        let answer = settle(&Place { directory, haproxy: "haproxy".into() }).await.unwrap();
        (answer, paths.map(|path| read(&path).unwrap()))
    }

    fn files(config: &str, accepted: Option<&str>, rejected: Option<&str>) -> [Option<String>; 3] {
        [Some(config.to_owned()), accepted.map(str::to_owned), rejected.map(str::to_owned)]
    }

    #[tokio::test]
    async fn without_any_file_nothing_is_served() {
        assert_eq!(settled(None, None).await, (None, files(EMPTY, None, None)));
    }

    #[tokio::test]
    async fn a_lost_file_comes_back() {
        assert_eq!(settled(None, Some(GOOD)).await, (None, files(GOOD, Some(GOOD), None)));
    }

    #[tokio::test]
    async fn a_good_file_is_the_truth() {
        assert_eq!(settled(Some(GOOD), Some("#\n")).await, (None, files(GOOD, Some("#\n"), None)));
    }

    #[tokio::test]
    async fn a_bad_file_gives_way_to_the_accepted_one() {
        let after = files(GOOD, Some(GOOD), Some(BAD));
        assert_eq!(settled(Some(BAD), Some(GOOD)).await, (None, after));
    }

    #[tokio::test]
    async fn a_bad_file_without_an_accepted_one_is_worth_another_try() {
        let after = files(EMPTY, None, Some(BAD));
        assert_eq!(settled(Some(BAD), None).await, (Some(BAD.to_owned()), after));
    }

    #[test]
    fn a_command_line_counts_until_something_came_later() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path());
        let config = || read(&directory.config()).unwrap().unwrap();
        ask(&directory, "first").unwrap();
        assert_eq!(config(), "first");
        directory.write(&directory.config(), "later").unwrap();
        ask(&directory, "first").unwrap();
        assert_eq!(config(), "later");
        ask(&directory, "second").unwrap();
        assert_eq!(config(), "second");
        directory.write(&directory.config(), EMPTY).unwrap();
        ask(&directory, "second").unwrap();
        assert_eq!(config(), "second", "it was refused before");
    }

    #[tokio::test]
    async fn what_was_accepted_once_is_not_forgotten_while_haproxy_refuses_it() {
        let after = files(EMPTY, Some(BAD), Some(BAD));
        let again = (Some(BAD.to_owned()), after);
        assert_eq!(settled(Some(BAD), Some(BAD)).await, again);
        assert_eq!(settled(Some(EMPTY), Some(BAD)).await, again);
    }
}
