//! When Docker and Consul, on the same machine as we, are tried again.

use std::time::Duration;

use daemon::backoff::Delays;
use tokio::time::Instant;

/// How often a daemon on this very machine is tried again at the least, in the first minutes.
pub(crate) const PAUSE: Duration = Duration::from_secs(3);
/// After how long it no longer counts as being back any moment.
const PATIENCE: Duration = Duration::from_mins(5);

/// Returns the next pause before a daemon on this machine is tried again: short at first, and
/// while it may be back any moment never long.
pub(crate) fn pause(delays: &mut Delays, since: &mut Option<Instant>) -> Duration {
    let away = since.get_or_insert_with(Instant::now).elapsed();
    let next = delays.next_delay();
    if away < PATIENCE { next.min(PAUSE) } else { next }
}
