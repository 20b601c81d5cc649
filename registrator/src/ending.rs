//! How containers end: when to drain, and what an exit status means. Pure: no I/O, no clock, no async.

use crate::args::Deregister;
use crate::model::DRAINING;

/// Linux's signals in the order of their numbers, the first of which is 1 (signal(7)).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first and the last real-time signal, as Docker counts them: glibc keeps two for itself. systemd in a container
/// is stopped by the third after the first.
const REAL_TIME: (i32, i32) = (34, 64);
/// Added to a signal's number in the exit status of a process that it ended.
const SIGNALLED: i64 = 128;
/// The highest number of a signal.
const LAST_SIGNAL: i64 = 64;

/// Tells whether a container that was sent `signal` is about to end: it is the one that asks it
/// to (`stop_signal`), or the one that nothing survives. Both may be names or numbers.
#[must_use]
pub(crate) fn is_ending(signal: &str, stop_signal: &str) -> bool {
    let sent = number(signal);
    sent.is_some() && (sent == number(stop_signal) || sent == number("KILL"))
}

/// Returns why a container is drained that was sent `signal`. When it started is part of it: to whoever comes after us
/// that says whether the end that was begun is still to come.
#[must_use]
pub(crate) fn draining(signal: &str, started_at: &str) -> String {
    format!("{DRAINING}the container was sent signal {signal} (it started at {started_at})")
}

/// Tells whether that is why a container is drained that started then.
#[must_use]
pub(crate) fn is_draining(reason: &str, started_at: &str) -> bool {
    reason.starts_with(DRAINING) && reason.ends_with(&format!("(it started at {started_at})"))
}

/// Returns why the instances of a container that ended stay registered, `None` if they go.
/// `status` is its exit status.
#[must_use]
pub(crate) fn tombstone(policy: Deregister, status: i64, out_of_memory: bool) -> Option<String> {
    match policy {
        Deregister::Always => None,
        Deregister::OnSuccess if ended_well(status, out_of_memory) => None,
        Deregister::OnSuccess | Deregister::Never if out_of_memory => {
            Some(format!("ran out of memory, exit status {status}"))
        }
        Deregister::OnSuccess | Deregister::Never => Some(format!("exit status {status}")),
    }
}

/// A container that a signal ended was stopped on purpose, unless it was the kernel's. Statuses
/// above those of signals, such as 255, are plain failures.
fn ended_well(status: i64, out_of_memory: bool) -> bool {
    let by_signal = status > SIGNALLED && status <= SIGNALLED + LAST_SIGNAL;
    status == 0 || (by_signal && !out_of_memory)
}

fn number(signal: &str) -> Option<i32> {
    let signal = signal.trim().to_ascii_uppercase();
    let name = signal.strip_prefix("SIG").unwrap_or(&signal);
    let known =
        SIGNALS.iter().zip(1..).find(|(known, _)| **known == name).map(|(_, number)| number);
    known.or_else(|| real_time(name)).or_else(|| name.parse().ok())
}

/// Returns the number of `RTMIN`, `RTMIN+3`, `RTMAX-1` and the like.
fn real_time(name: &str) -> Option<i32> {
    let (base, offset) = match name.strip_prefix("RTMIN") {
        Some(offset) => (REAL_TIME.0, offset),
        None => (REAL_TIME.1, name.strip_prefix("RTMAX")?),
    };
    let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    Some(base.checked_add(offset)?).filter(|number| (REAL_TIME.0..=REAL_TIME.1).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stop_signal_and_kill_end_a_container_and_others_do_not() {
        assert!(is_ending("15", "SIGTERM") && is_ending("TERM", "15") && is_ending("9", "SIGTERM"));
        assert!(is_ending("3", "SIGQUIT") && is_ending("SIGKILL", "SIGQUIT"));
        assert!(!is_ending("15", "SIGQUIT") && !is_ending("1", "SIGTERM"));
        assert!(
            is_ending("37", "SIGRTMIN+3") && is_ending("64", "RTMAX") && is_ending("63", "RTMAX-1")
        );
        assert!(
            is_ending("30", "SIGPWR") && is_ending("28", "WINCH") && !is_ending("38", "RTMIN+3")
        );
        assert!(!is_ending("RTMIN+99", "RTMIN+99") && !is_ending("RTMIN+", "RTMIN"));
        assert!(!is_ending("", "SIGTERM") && !is_ending("nonsense", "nonsense"));
    }

    #[test]
    fn a_drain_is_known_again_unless_the_container_was_started_since() {
        let reason = draining("15", "2026-01-01T00:00:00.5Z");
        assert!(is_draining(&reason, "2026-01-01T00:00:00.5Z"));
        assert!(!is_draining(&reason, "2026-01-01T00:00:09.5Z"));
        assert!(!is_draining("draining: registrator stopped", "2026-01-01T00:00:00.5Z"));
    }

    #[test]
    fn a_status_of_255_is_a_failure_and_not_a_signal() {
        for well in [0, 130, 137, 143] {
            assert_eq!(tombstone(Deregister::OnSuccess, well, false), None, "{well}");
        }
        for badly in [1, 125, 127, 128, 193, 255] {
            assert!(tombstone(Deregister::OnSuccess, badly, false).is_some(), "{badly}");
        }
    }

    #[test]
    fn a_container_that_ran_out_of_memory_failed() {
        assert!(tombstone(Deregister::OnSuccess, 137, true).unwrap().contains("memory"));
    }

    #[test]
    fn the_policy_decides() {
        assert_eq!(tombstone(Deregister::Always, 1, false), None);
        assert!(tombstone(Deregister::Never, 0, false).is_some());
    }
}
