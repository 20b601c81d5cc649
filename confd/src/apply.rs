//! The apply actions besides HAProxy's: a command, signals to processes and containers, a program of our own.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::check::filled_in;
use crate::command;
use crate::docker::{Endpoint, Engine};
use crate::exec;
use crate::resource::{Action, Containers};
use crate::worker::Worker;

impl Worker {
    /// Takes one of the apply actions that tell somebody else to read the destination.
    pub(crate) async fn act(&mut self, action: Action) -> anyhow::Result<()> {
        let (resource, limit) = (&self.resource, self.resource.timeout.0);
        match action {
            Action::HaProxy => Ok(()),
            Action::ReloadCmd => match &resource.reload_cmd {
                // Both are the same by then.
                Some(line) => {
                    reload_cmd(&filled_in(line, &resource.dest, &resource.dest), limit).await
                }
                None => Ok(()),
            },
            Action::Signal => match &resource.signal {
                Some(target) => signal(&target.pid_file, target.signal.0),
                None => Ok(()),
            },
            Action::Containers => match &resource.containers {
                Some(target) => containers(&self.shared.docker, target, limit).await,
                None => Ok(()),
            },
            Action::Exec => match (&self.program, &resource.exec) {
                (Some(program), _) => {
                    program.changed();
                    Ok(())
                }
                (None, Some(settings)) => {
                    let once = &self.shared.programs;
                    let (program, ended) =
                        exec::Running::start(&resource.name, settings.clone(), once.is_some())
                            .context("cannot start the program of [template.exec]")?;
                    if let Some(programs) = once {
                        programs.add(ended);
                    }
                    self.program = Some(program);
                    Ok(())
                }
                (None, None) => Ok(()),
            },
        }
    }
}

/// Signals or restarts all containers that `target` means.
async fn containers(docker: &Endpoint, target: &Containers, limit: Duration) -> anyhow::Result<()> {
    let engine = Engine::new(docker, limit)?;
    let found = engine.labelled(&target.label).await?;
    if found.is_empty() {
        tracing::debug!(label = target.label, "no container to be told");
    }
    let mut outcome = Ok(());
    for container in found {
        let told = match target.signal {
            Some(signal) => engine.signal(&container, signal.0).await,
            None => engine.restart(&container).await,
        };
        match told {
            Ok(()) => {
                tracing::info!(container = container.name, restarted = target.restart, "told");
            }
            // The others are told all the same; later, all are told again.
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    Ok(outcome?)
}

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
