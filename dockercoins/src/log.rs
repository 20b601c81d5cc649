//! Logs: the bare message, one line each, on standard output, as the workshop's application writes them.

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Starts logging; `DEBUG=y…` in the environment adds every request and every unit of work.
///
/// A second call changes nothing.
pub fn init() {
    let level = level(std::env::var("DEBUG").ok().as_deref());
    let lines = tracing_subscriber::fmt::layer()
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stdout);
    let ours = Targets::new().with_target("dockercoins", level);
    // Only the first subscriber of a process counts; tests run several programs in one.
    let _ = tracing_subscriber::registry().with(ours).with(lines).try_init();
}

fn level(debug: Option<&str>) -> Level {
    if debug.is_some_and(|debug| debug.starts_with(['y', 'Y'])) {
        Level::DEBUG
    } else {
        Level::INFO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_in_debug_raises_the_level() {
        assert_eq!([Some("yes"), Some("Y"), Some("yeah")].map(level), [Level::DEBUG; 3]);
        assert_eq!([None, Some(""), Some("no"), Some("1")].map(level), [Level::INFO; 4]);
    }
}
