//! The apply actions besides HAProxy's: a command, and a signal.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;

/// Runs a resource's `reload_cmd`.
pub(crate) async fn reload_cmd(command: &str, limit: Duration) -> anyhow::Result<()> {
    let output = command::run(command, limit).await?;
    if !output.is_empty() {
        tracing::debug!(command, output, "the reload command said something");
    }
    Ok(())
}

/// Sends `signal` to the process whose number is in `pid_file`.
pub(crate) fn signal(pid_file: &Path, signal: Signal) -> anyhow::Result<()> {
    let named = || format!("cannot signal the process of {}", pid_file.display());
    let text = std::fs::read_to_string(pid_file).with_context(named)?;
    // HAProxy and others write one number per line; the first one is the oldest process.
    let pid: i32 = text.lines().next().unwrap_or_default().trim().parse().with_context(named)?;
    // 0, 1 and negative numbers mean groups of processes, or the machine's first.
    anyhow::ensure!(pid > 1, "{}: {pid} is no process to be signalled", named());
    kill(Pid::from_raw(pid), signal).with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_reaches_the_process_of_the_pid_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let mut child = tokio::process::Command::new("sleep").arg("30").spawn().unwrap();
        std::fs::write(&path, format!("{}\n", child.id().unwrap())).unwrap();
        signal(&path, Signal::SIGTERM).unwrap();
        assert!(!child.wait().await.unwrap().success());
        assert!(signal(&path, Signal::SIGTERM).is_err(), "it is gone");
    }

    #[test]
    fn a_pid_file_cannot_aim_at_more_than_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        for text in ["-1", "0", "1", "", "many"] {
            std::fs::write(&path, text).unwrap();
            assert!(signal(&path, Signal::SIGCONT).is_err(), "{text}");
        }
    }
}
