//! What HAProxy writes on its standard error: passed on as log events, and kept for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Lines kept; a failed load writes fewer than ten.
const KEPT: usize = 200;

/// HAProxy's last words, shared by the reader and by those who ask what went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// Lines ever read: the number of the next one.
    next: usize,
}

impl Journal {
    /// Passes lines on until the other end closes.
    pub(crate) async fn follow(self, stream: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if !text.is_empty() {
                log(&text);
                self.keep(text);
            }
            line.clear();
        }
    }

    /// Returns the number of the next line.
    pub(crate) fn now(&self) -> usize {
        self.lines().next
    }

    /// Returns the alerts since line number `from`, one per line.
    pub(crate) fn alerts(&self, from: usize) -> String {
        let lines = self.lines();
        let first = lines.next - lines.kept.len();
        let alerts: Vec<_> = lines
            .kept
            .iter()
            .skip(from.saturating_sub(first))
            .filter(|line| severity(line) == Severity::Alert)
            .map(String::as_str)
            .collect();
        alerts.join("\n")
    }

    fn keep(&self, line: String) {
        let mut lines = self.lines();
        if lines.kept.len() == KEPT {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line);
        lines.next += 1;
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        // A line is whole or absent, whatever happened to another holder of the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How serious a line is, in HAProxy's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Alert,
    /// Anything from a failing server to the regular end of a worker.
    Warning,
    Notice,
}

fn log(line: &str) {
    match severity(line) {
        Severity::Alert => tracing::error!(target: "haproxy", "{line}"),
        Severity::Warning => tracing::info!(target: "haproxy", "{line}"),
        Severity::Notice => tracing::debug!(target: "haproxy", "{line}"),
    }
}

fn severity(line: &str) -> Severity {
    if line.starts_with("[ALERT]") {
        Severity::Alert
    } else if line.starts_with("[NOTICE]") {
        Severity::Notice
    } else {
        Severity::Warning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alerts_are_those_since_a_line() {
        let journal = Journal::default();
        journal.clone().follow(&b"[ALERT] (1) : old\n"[..]).await;
        let from = journal.now();
        let said = &b"[NOTICE] (1) : fine\n[ALERT] (1) : cannot bind\n\n[WARNING] (1) : hm\n[ALERT] (1) : no end"[..];
        journal.clone().follow(said).await;
        assert_eq!(journal.alerts(from), "[ALERT] (1) : cannot bind\n[ALERT] (1) : no end");
    }

    #[tokio::test]
    async fn only_the_last_lines_are_kept() {
        let journal = Journal::default();
        let said: Vec<_> = (0..1000).map(|n| format!("[ALERT] {n}")).collect();
        let said = said.join("\n");
        journal.clone().follow(said.as_bytes()).await;
        assert_eq!(journal.now(), 1000);
        assert_eq!(journal.alerts(0).lines().count(), KEPT);
        assert_eq!(journal.alerts(999), "[ALERT] 999");
        assert_eq!(journal.alerts(1000), "");
    }
}
