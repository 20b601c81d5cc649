//! Taking everything down, whatever is left of it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use crate::{cgroup, network, space};

/// How long the kernel may take to clear away what it was told to.
const LIMIT: Duration = Duration::from_secs(30);

/// Kills every node and the hub, and removes what they had. Works after a crash of `up`, too, and twice.
///
/// # Errors
/// With what is left over, if something is.
pub async fn down(folder: &Path) -> anyhow::Result<()> {
    let mut ends = JoinSet::new();
    for (name, space) in space::find(folder) {
        ends.spawn(async move { space.kill().await.with_context(|| format!("cannot end {name}")) });
    }
    while let Some(ended) = ends.join_next().await {
        ended??;
    }
    let end = Instant::now() + LIMIT;
    loop {
        cgroup::remove(folder);
        if !mounted(folder)
            && let Err(error) = fs::remove_dir_all(folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
        }
        let left = leftovers(folder);
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "left over: {}", left.join(", "));
        tokio::time::sleep(Duration::from_millis(100)).await;
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
    let mut left = Vec::new();
    let name = folder.display().to_string();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        // Ours have the folder in their command line, or are in a control group of ours.
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let groups = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let ours =
            line.contains(&format!("multihost={name}")) || line.contains(&format!("{name}/"));
        let numeric = pid.parse::<u32>().is_ok();
        if numeric
            && pid != std::process::id().to_string()
            && (ours || groups.contains(&format!("/{}/", cgroup::name(folder))))
        {
            left.push(format!("process {pid} ({})", line.trim()));
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
    if folder.exists() {
        left.push(format!("folder {name}"));
    }
    left
}

/// Whether this network namespace has the interface; /sys may show another namespace's.
fn listed(interface: &str) -> bool {
    fs::read_to_string("/proc/net/dev").is_ok_and(|text| text.contains(&format!("{interface}:")))
}
