//! The end of a program: finish what was begun, and be gone within a second.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long work that was begun may go on: the whole stop has to stay well under a second.
pub const GRACE: Duration = Duration::from_millis(850);

/// Returns a token that SIGTERM and SIGINT cancel; a stubborn program ignores SIGTERM.
pub fn token(stubborn: bool) -> anyhow::Result<CancellationToken> {
    if !stubborn {
        return daemon::shutdown::token();
    }
    // Whoever listens to a signal is not ended by it; nobody reads from this one.
    let terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    // Lives as long as the process: there is nothing to join it to.
    tokio::spawn(async move {
        let _ignored = terminate;
        interrupt.recv().await;
        cancel.cancel();
    });
    Ok(token)
}

/// Runs `work` to its end, or until [`GRACE`] has passed since `token` was cancelled.
pub async fn within_grace<T>(
    token: &CancellationToken,
    work: impl Future<Output = T>,
) -> Option<T> {
    let expired = async {
        token.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = work => Some(result),
        () = expired => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn work_ends_a_grace_period_after_the_signal() {
        let token = CancellationToken::new();
        let started = Instant::now();
        let signal = async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            token.cancel();
        };
        let (result, ()) = tokio::join!(within_grace(&token, std::future::pending::<()>()), signal);
        assert_eq!(result, None);
        assert_eq!(started.elapsed().as_secs(), 60);
        assert!(started.elapsed() < Duration::from_secs(61));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_brings_its_result() {
        let token = CancellationToken::new();
        token.cancel();
        let work = async {
            tokio::time::sleep(GRACE / 2).await;
            7
        };
        assert_eq!(within_grace(&token, work).await, Some(7));
    }
}
