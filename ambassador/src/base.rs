//! The part of the configuration that is the ambassador's own: sockets and limits. Pure: no I/O,
//! no clock, no async.

use std::path::Path;
use std::time::Duration;

/// File descriptors of one HAProxy, which sizes its tables and `maxconn` (about 4,000) by them.
/// Without it the tables follow the container's limit, often a million.
const DESCRIPTORS: u32 = 8192;

/// Reloads that a replaced worker with open connections survives.
const RELOADS: u32 = 10;

/// How long the connections of a replaced process may go on, unless told otherwise.
const HARD_STOP_AFTER: Duration = Duration::from_hours(1);

/// Returns the `global` section of an ambassador that has not run yet.
pub(crate) fn usual(runtime: &Path) -> String {
    base(runtime, HARD_STOP_AFTER)
}

/// Returns the `global` section.
///
/// One thread and few descriptors keep an idle ambassador at 6 MB of its own memory (2.6) while
/// it can still move tens of thousands of connections a second. Smaller buffers save nothing:
/// they are allocated when used.
pub(crate) fn base(runtime: &Path, hard_stop_after: Duration) -> String {
    let runtime = quote(&runtime.display().to_string());
    let hard_stop_after = hard_stop_after.as_millis().max(1);
    format!(
        "# Written at each start of the ambassador.\n\
         global\n    \
         stats socket {runtime} mode 660 level admin expose-fd listeners\n    \
         hard-stop-after {hard_stop_after}ms\n    \
         mworker-max-reloads {RELOADS}\n    \
         nbthread 1\n    \
         fd-hard-limit {DESCRIPTORS}\n"
    )
}

/// Writes a text as one word of HAProxy's configuration language.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_blanks_and_quotes_stays_one_word() {
        let text = base(Path::new("/tmp/it's a \"path\"/runtime.sock"), Duration::from_mins(1));
        assert!(
            text.contains(r#"stats socket '/tmp/it'\''s a "path"/runtime.sock' mode"#),
            "{text}"
        );
        let half = base(Path::new("/x"), Duration::from_millis(500));
        assert!(half.contains("hard-stop-after 500ms\n"), "{half}");
        assert!(text.contains("hard-stop-after 60000ms\n"), "{text}");
    }
}
