//! What a container that has ended leaves behind: how long it ran, its exit code, and the end of its log.

use std::time::Duration;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use super::Engine;

/// How long one question may take: the others wait for it.
const ANSWER: Duration = Duration::from_secs(5);
/// So many lines of a log are told.
const LINES: &str = "5";
/// So many characters of them, at most.
const LONGEST: usize = 1000;

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) ran: Duration,
    pub(crate) exit_code: i64,
}

impl Engine {
    /// Returns how a container ended; nothing if it never ran, has gone, or cannot be asked about.
    pub(crate) async fn ended(&self, id: &str) -> Option<Ended> {
        match timeout(ANSWER, self.0.inspect(id)).await.ok()? {
            Ok(document) => ended(&document?["State"]),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(container = id, "nobody knows how it ended: {error:#}");
                None
            }
        }
    }

    /// Returns the last lines of a container's log, or why they cannot be had.
    pub(crate) async fn last_lines(&self, id: &str) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LINES).build();
        let read = async {
            let mut parts = std::pin::pin!(self.0.api().logs(id, Some(options)));
            let mut text = String::new();
            while let Some(part) = parts.next().await {
                text.push_str(&part?.to_string());
            }
            Ok::<_, bollard::errors::Error>(text)
        };
        match timeout(ANSWER, self.0.ask("tell its log", read)).await {
            Ok(Ok(text)) => end(text.trim_end(), LONGEST).to_owned(),
            Ok(Err(error)) => format!("{:#}", anyhow::Error::from(error)),
            Err(_) => "the engine does not tell its log".to_owned(),
        }
    }
}

/// Reads how a container ended; one that never ran has times before 1970.
fn ended(state: &Value) -> Option<Ended> {
    let time = |key: &str| humantime::parse_rfc3339(state[key].as_str()?).ok();
    let (started, finished) = (time("StartedAt")?, time("FinishedAt")?);
    let ran = finished.duration_since(started).unwrap_or_default();
    Some(Ended { ran, exit_code: state["ExitCode"].as_i64().unwrap_or_default() })
}

/// Returns the end of a text, of so many bytes at most.
fn end(text: &str, longest: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(longest))..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_from_the_engines_times_and_what_never_ran_has_none() {
        let state = |started: &str, finished: &str| serde_json::json!({"StartedAt": started, "FinishedAt": finished, "ExitCode": 127});
        let ran = state("2026-01-01T00:00:00.25Z", "2026-01-01T00:00:01.5Z");
        let expected = Ended { ran: Duration::from_millis(1250), exit_code: 127 };
        assert_eq!(ended(&ran), Some(expected));
        assert_eq!(ended(&state("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z")), None);
        assert_eq!(ended(&Value::Null), None);
    }

    #[test]
    fn only_the_end_of_a_long_log_is_told() {
        assert_eq!(end("short", 10), "short");
        assert_eq!(end("aä", 1), "");
        assert_eq!(end("0123456789", 4), "6789");
    }
}
