//! The end of a daemon: the first signal asks it to finish, the second one ends it.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a program ended by Ctrl-C (128 + SIGINT).
const EXIT_INTERRUPTED: i32 = 130;

/// Returns a token that SIGTERM and SIGINT cancel; a second signal exits with status 130.
///
/// Must be called within a runtime, which then owns the two signals until the process ends.
pub fn token() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    // Lives as long as the process: there is nothing to join it to.
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let signal = next().await;
        tracing::info!(signal, "stopping");
        cancel.cancel();
        let signal = next().await;
        tracing::warn!(signal, "stopped at once by a second signal");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(token)
}
