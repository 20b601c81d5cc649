//! Asks HAProxy itself whether it would accept files.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::CheckError;
use crate::command;

/// Runs `haproxy -c` over the files, in their order, as HAProxy would load them together.
///
/// A warning is no rejection, nor is an end by somebody's signal; a crash is one. After `limit` the check is killed and
/// counts as an error.
pub async fn check(program: &Path, files: &[PathBuf], limit: Duration) -> Result<(), CheckError> {
    let mut haproxy = Command::new(program);
    haproxy.arg("-c").stdin(Stdio::null()).kill_on_drop(true);
    for file in files {
        haproxy.arg("-f").arg(file);
    }
    let program = program.to_owned();
    let output = match timeout(limit, haproxy.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(CheckError::Run { program, source }),
        Err(_) => return Err(CheckError::TimedOut { program, limit }),
    };
    if output.status.success() {
        return Ok(());
    }
    if command::is_killed(output.status) {
        return Err(CheckError::Killed { program, status: output.status });
    }
    let mut lines = lines(&String::from_utf8_lossy(&output.stderr));
    if lines.is_empty() {
        lines.push(format!("haproxy -c ended with {}", output.status));
    }
    Err(CheckError::Rejected { lines })
}

/// Returns what HAProxy complains of: its alerts, or its warnings where there is no alert, without process ids.
pub(crate) fn lines(output: &str) -> Vec<String> {
    let of = |level: &str| -> Vec<String> {
        let lines = output.lines().filter_map(|line| line.trim().strip_prefix(level));
        let texts = lines.map(|line| line.split_once(") : ").map_or(line, |(_, text)| text));
        texts.map(|text| text.trim().to_owned()).collect()
    };
    let alerts = of("[ALERT]");
    if alerts.is_empty() { of("[WARNING]") } else { alerts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_told_without_noise() {
        let output = "[NOTICE]   (12) : haproxy version is 2.6.12\n\
            [ALERT]    (12) : config : parsing [x.cfg:3] : unknown keyword 'y'\n[WARNING]  (12) : Loading failure!\n";
        assert_eq!(lines(output), ["config : parsing [x.cfg:3] : unknown keyword 'y'"]);
        assert_eq!(lines("[WARNING]  (12) : Loading failure!\n"), ["Loading failure!"]);
    }
}
