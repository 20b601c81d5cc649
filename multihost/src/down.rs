//! Taking everything down, whatever is left of it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use crate::settings::FILE;
use crate::{cgroup, network, space};

/// How long the kernel may take to clear away what it was told to.
const LIMIT: Duration = Duration::from_secs(30);

/// Kills every node and the hub, and removes what they had. Works after a crash of `up`, too, and twice.
///
/// # Errors
/// With what is left over, if something is; and before any file is removed, if the folder is not one that `up` made.
pub async fn down(folder: &Path) -> anyhow::Result<()> {
    let mut ends = JoinSet::new();
    for (name, space) in space::find(folder) {
        ends.spawn(async move { space.kill().await.with_context(|| format!("cannot end {name}")) });
    }
    while let Some(ended) = ends.join_next().await {
        ended??;
    }
    ensure!(
        is_empty(folder) || folder.join(FILE).exists(),
        "{} has no {FILE}, so it is not known what it holds, and it stays: remove it yourself",
        folder.display()
    );
    let end = Instant::now() + LIMIT;
    loop {
        cgroup::remove(folder);
        if !mounted(folder) {
            remove(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let left = leftovers(folder);
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "left over: {}", left.join(", "));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether there is nothing in the folder, or no folder.
pub(crate) fn is_empty(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// Removes the folder; last of all what says that it is ours, so that this can be done again if it fails.
fn remove(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != FILE {
            fs::remove_file(entry.path())?;
        }
    }
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir(folder),
    }
}

/// Whether something in the folder is mounted here.
fn mounted(folder: &Path) -> bool {
    let inside = format!("{}/", folder.display());
    fs::read_to_string("/proc/mounts")
        .is_ok_and(|mounts| mounts.split_whitespace().any(|word| word.starts_with(&inside)))
}

/// Returns what there still is of nodes in `folder`: processes, network interfaces, control groups, mounts, files.
#[must_use]
pub fn leftovers(folder: &Path) -> Vec<String> {
    let mut left = running(folder);
    if folder.exists() {
        left.push(format!("folder {}", folder.display()));
    }
    left
}

/// Returns the same without files: what there may be though the folder is gone.
pub(crate) fn running(folder: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let name = folder.display().to_string();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split('\0').collect();
        let groups = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let grouped = groups.contains(&format!("/{}/", cgroup::name(folder)));
        let other = pid.parse().is_ok_and(|pid: u32| pid != std::process::id());
        if other && (grouped || belongs(&words, &name)) {
            left.push(format!("process {pid} ({})", words.join(" ").trim()));
        }
    }
    if Path::new("/sys/class/net").join(network::interface(folder)).exists()
        || listed(&network::interface(folder))
    {
        left.push(format!("network interface {}", network::interface(folder)));
    }
    left.extend(
        cgroup::find(folder).iter().map(|group| format!("control group {}", group.display())),
    );
    if mounted(folder) {
        left.push(format!("mounts in {name}"));
    }
    left
}

/// Whether a command line is that of a node's first process, of its engine, or of a command for that engine. Whoever
/// merely looks into the folder, by `tail -f`, is not ours.
fn belongs(words: &[&str], folder: &str) -> bool {
    let (mark, inside) = (format!("multihost={folder}"), format!("{folder}/"));
    words.contains(&mark.as_str())
        || words.windows(2).any(|pair| match pair[0] {
            "--config-file" => pair[1].starts_with(&inside),
            "--host" => pair[1].strip_prefix("unix://").is_some_and(|at| at.starts_with(&inside)),
            _ => false,
        })
}

/// Whether this network namespace has the interface; /sys may show another namespace's.
fn listed(interface: &str) -> bool {
    fs::read_to_string("/proc/net/dev").is_ok_and(|text| text.contains(&format!("{interface}:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_up_did_not_make_is_left_alone() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let letter = folder.path().join("letters/one");
        fs::create_dir(folder.path().join("letters")).unwrap();
        fs::write(&letter, "dear").unwrap();
        let error = down(folder.path()).await.unwrap_err();
        assert!(error.to_string().contains("it stays"), "{error}");
        assert!(letter.exists());
        // With what says that it is ours, all of it goes.
        fs::write(folder.path().join(FILE), "{}").unwrap();
        down(folder.path()).await.unwrap();
        assert!(!folder.path().exists());
        down(folder.path()).await.expect("nothing is as good as nothing left");
    }

    #[test]
    fn only_whole_words_tell_to_whom_a_process_belongs() {
        for (line, ours) in [
            ("bash -c x multihost=/x/mh node1 /x/mh/node1", true),
            ("bash -c x multihost=/x/mh2 node1 /x/mh2/node1", false),
            ("dockerd --config-file /x/mh/node1/daemon.json", true),
            ("dockerd --config-file /x/mh2/node1/daemon.json", false),
            ("docker --host unix:///x/mh/node1/docker.sock compose up", true),
            ("docker --host unix:///x/mh2/node1/docker.sock compose up", false),
            ("tail -f /x/mh/node1/dockerd.log", false),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(belongs(&words, "/x/mh"), ours, "{line}");
        }
    }
}
