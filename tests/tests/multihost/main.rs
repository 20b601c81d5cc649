//! Five Docker hosts work as one, and survive each other's faults. All scenarios share the nodes, which mine meanwhile.
//!
//! With `MULTIHOST_SLOW` set, those that take minutes are played too; `MULTIHOST_ONLY` names words of the wanted ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod changes;
mod common;
mod disks;
mod faults;
mod together;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::ensure;
use multihost::{Cluster, Options};

use changes::{added_and_removed, configuration_changed, maintained};
use common::seconds;
use disks::{disk_lost, restored};
use faults::{engine_restarted, leader_killed, partitioned, power_failure, rolling_restart};
use together::{listed, near, one_wallet, overlay, own_ambassadors, shares};

/// Where the nodes are kept: not in memory, as /run may be.
const FOLDERS: &str = "/var/tmp";
/// How the folders begin; the process's number follows.
const PREFIX: &str = "multihost-test.";

/// The nodes, taken down when dropped, however the test ends.
struct Bed {
    cluster: Cluster,
    folder: PathBuf,
}

impl Drop for Bed {
    fn drop(&mut self) {
        down(&self.folder);
    }
}

/// Takes nodes down from outside of an asynchronous context.
fn down(folder: &Path) {
    let folder = folder.to_owned();
    let work = move || tokio::runtime::Runtime::new().unwrap().block_on(multihost::down(&folder));
    if let Ok(Err(error)) = std::thread::spawn(work).join() {
        eprintln!("{error:#}");
    }
}

/// Takes down what tests left behind that were killed.
fn sweep() {
    for entry in std::fs::read_dir(FOLDERS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(PREFIX).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            down(&entry.path());
        }
    }
}

/// What was tried, and what failed.
#[derive(Default)]
struct Report {
    failed: Vec<String>,
}

impl Report {
    /// Plays one scenario, which says in numbers how it went.
    async fn play(
        &mut self,
        sentence: &str,
        scenario: impl Future<Output = anyhow::Result<String>>,
    ) {
        let only = std::env::var("MULTIHOST_ONLY").unwrap_or_default();
        if !only.is_empty() && !only.split_whitespace().any(|word| sentence.contains(word)) {
            return;
        }
        let started = Instant::now();
        match scenario.await {
            Ok(numbers) => println!(
                "  ok      {sentence}: {numbers} ({:.0} s)",
                started.elapsed().as_secs_f64()
            ),
            Err(error) => {
                println!("  FAILED  {sentence}: {error:#}");
                self.failed.push(format!("{sentence}: {error:#}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_work_as_one_and_survive_each_others_faults() {
    sweep();
    let folder = PathBuf::from(FOLDERS).join(format!("{PREFIX}{}", std::process::id()));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let options =
        Options { network: [10, 98, 0, 0].into(), workers: 2, rng: 1, ..Options::default() };
    let started = Instant::now();
    let up = multihost::up(&folder, &repository, options).await;
    let mut bed = match up {
        Ok(cluster) => Bed { cluster, folder: folder.clone() },
        Err(error) => {
            down(&folder);
            panic!("{error:#}");
        }
    };
    println!("  five nodes came up in {:.0} s", started.elapsed().as_secs_f64());

    let mut report = Report::default();
    let cluster = &bed.cluster;
    report
        .play(
            "every node lists five, shows the web interface, and lets nobody write without a token",
            listed(cluster),
        )
        .await;
    report.play("two stacks fill one wallet", one_wallet(cluster)).await;
    report.play("every node gets its share", shares(cluster)).await;
    report
        .play("luke, vador and palpatine meet on overlay networks as they should", overlay(cluster))
        .await;
    report
        .play("a node is drained without a lost request, and comes back", maintained(cluster))
        .await;
    report
        .play(
            "a killed leader stops no traffic, and registrations for seconds only",
            leader_killed(cluster),
        )
        .await;
    report
        .play("a node cut off for half a minute comes back without a trace", partitioned(cluster))
        .await;
    report
        .play(
            "a node that loses its power is forgotten in seconds, and comes back",
            power_failure(cluster),
        )
        .await;
    if std::env::var_os("MULTIHOST_SLOW").is_some() {
        report.play("an engine is restarted", engine_restarted(cluster)).await;
        report
            .play(
                "all servers of Consul are restarted, one after the other",
                rolling_restart(cluster),
            )
            .await;
        report.play("a snapshot of Consul is restored under load", restored(cluster)).await;
        report.play("a server of Consul loses its disk", disk_lost(cluster)).await;
        report
            .play(
                "a node is added while the others mine, and one is removed for good",
                added_and_removed(&mut bed.cluster),
            )
            .await;
    }
    report
        .play(
            "Consul follows its configuration without a restart",
            configuration_changed(&bed.cluster),
        )
        .await;
    report.play("near instances are preferred, others step in", near(&mut bed.cluster)).await;
    if std::env::var_os("MULTIHOST_SLOW").is_some() {
        report
            .play("each client has an ambassador of its own", own_ambassadors(&mut bed.cluster))
            .await;
    }
    report.play("taking everything down leaves nothing", torn_down(bed)).await;
    assert!(report.failed.is_empty(), "{}", report.failed.join("\n"));
}

async fn torn_down(bed: Bed) -> anyhow::Result<String> {
    let (started, folder) = (Instant::now(), bed.folder.clone());
    let before = multihost::leftovers(&folder).len();
    ensure!(before > 10, "what is there is not seen: {before}");
    multihost::down(&folder).await?;
    let took = started.elapsed();
    let left = multihost::leftovers(&folder);
    ensure!(left.is_empty(), "left over: {}", left.join(", "));
    Ok(format!(
        "0 left over of {before} processes, control groups, interfaces and files, in {}",
        seconds(took)
    ))
}
