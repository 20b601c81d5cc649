//! Brings a text to disk, and notes what was accepted: the slow half of a pass, beside the quick one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::check::{self, Check};
use crate::disk::{self, Access};
use crate::newest::Newest;
use crate::state::State;
use crate::wanted::Wanted;

/// How a text becomes its resource's destination.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// Where it goes.
    pub path: PathBuf,
    /// Its permissions and owner.
    pub access: Access,
    /// What it must pass before.
    pub check: Check,
    /// How long that may take.
    pub limit: Duration,
    /// Where it is noted that a text is ours.
    pub state: State,
}

/// Why a text is not in its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its check refused it; it was kept beside the destination.
    #[error("rejected by its check, and kept as {}:\n{lines}", kept.display())]
    Rejected {
        /// What the check said.
        lines: String,
        /// Where the text is.
        kept: PathBuf,
    },
    /// Nobody could tell whether it is right.
    #[error(transparent)]
    Undecided(#[from] check::Error),
    /// The disk is full, read-only or broken.
    #[error("cannot write {}", path.display())]
    Write {
        /// The destination.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Destination {
    /// Checks `text` and puts it into its place, which is noted before; the place is untouched unless that succeeds.
    pub(crate) async fn replace(self, text: Arc<str>) -> Result<(), Error> {
        let path = self.path.clone();
        let failed = |source| Error::Write { path: path.clone(), source };
        let (dest, access) = (self.path.clone(), self.access.clone());
        let ours = Arc::clone(&text);
        let staged = blocking(move || disk::stage(&dest, &text, &access)).await.map_err(failed)?;
        match self.check.ask(&staged, &self.path, self.limit).await {
            Ok(()) => {
                let commit = move || {
                    if let Err(error) = self.state.about_to_write(&ours) {
                        tracing::debug!(%error, "a start would take what is written for somebody else's");
                    }
                    staged.commit()
                };
                blocking(commit).await.map_err(failed)
            }
            Err(check::Error::Rejected(lines)) => {
                let kept = blocking(move || staged.reject()).await.map_err(failed)?;
                Err(Error::Rejected { lines, kept })
            }
            Err(error) => Err(Error::Undecided(error)),
        }
    }

    /// Tells whether `text` would be accepted, without touching the place or what is beside it.
    pub(crate) async fn judge(&self, text: &str) -> Result<(), check::Error> {
        let undecided = |error: std::io::Error| check::Error::Undecided(error.into());
        let (dest, access, text) = (self.path.clone(), self.access.clone(), text.to_owned());
        let staged =
            blocking(move || disk::stage(&dest, &text, &access)).await.map_err(undecided)?;
        self.check.ask(&staged, &self.path, self.limit).await
    }
}

/// Notes in `state` that a text is accepted, and what it was made from, by which template.
pub(crate) async fn remember(
    state: State,
    wanted: Arc<Wanted>,
    newest: Newest,
) -> std::io::Result<u64> {
    blocking(move || {
        // By reference: the answers may be many megabytes.
        let inputs = wanted.snapshot.inputs(&wanted.asked);
        state.accept(&wanted.text, &inputs, wanted.template.as_deref(), &newest)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
