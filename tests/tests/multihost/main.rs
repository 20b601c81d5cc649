//! Five Docker hosts work as one, and survive each other's faults. All scenarios share the nodes, which mine meanwhile.
//!
//! With `MULTIHOST_SLOW` set, those that take minutes are played too; `MULTIHOST_ONLY` names words of the wanted ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::large_futures, reason = "one scenario runs at a time")]

mod changes;
mod common;
mod disks;
mod faults;
mod program;
mod repairs;
mod stack;
mod together;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use multihost::{Cluster, Options};

use changes::{added_and_removed, configuration_changed, maintained};
use common::seconds;
use disks::{disk_lost, restored, shared};
use faults::{
    blackout, engine_restarted, leader_killed, partitioned, power_failure, rolling_restart,
};
use repairs::{registrator_away, restarted};
use together::{full_rate, listed, near, one_wallet, overlay, own_ambassadors, shares, strangers};

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
    /// Plays one scenario that takes minutes, if those are wanted.
    async fn play_slowly(
        &mut self,
        sentence: &str,
        scenario: impl Future<Output = anyhow::Result<String>>,
    ) {
        if std::env::var_os("MULTIHOST_SLOW").is_some() {
            self.play(sentence, scenario).await;
        }
    }

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

/// How long `up` may take: a minute on a machine of its own, as much more as others keep this one busy.
fn patience() -> Duration {
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let busy: f64 = busy.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = f64::from(u32::try_from(cores).unwrap_or(1));
    Duration::from_mins(1).mul_f64((busy / cores).max(1.0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_work_as_one_and_survive_each_others_faults() {
    sweep();
    let folder = PathBuf::from(FOLDERS).join(format!("{PREFIX}{}", std::process::id()));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let network = [10, 98, 0, 0].into();
    let options = Options { network, workers: 2, rng: 1, tls: true, ..Options::default() };
    let (started, before) = (Instant::now(), patience());
    let up = multihost::up(&folder, &repository, options).await;
    let bed = match up {
        Ok(cluster) => Bed { cluster, folder: folder.clone() },
        Err(error) => {
            down(&folder);
            panic!("{error:#}");
        }
    };
    // Others may have begun meanwhile.
    let (took, patience) = (started.elapsed(), before.max(patience()));
    println!(
        "  five nodes came up in {}, of {} that they may take",
        seconds(took),
        seconds(patience)
    );

    let mut report = Report::default();
    if took > patience {
        report.failed.push(format!("five nodes came up in {} only", seconds(took)));
    }
    together(&mut report, &bed.cluster).await;
    broken(&mut report, &bed.cluster).await;
    let bed = changed(&mut report, bed).await;
    report.play("taking everything down leaves nothing", torn_down(bed)).await;
    assert!(report.failed.is_empty(), "{}", report.failed.join("\n"));
}

async fn together(report: &mut Report, cluster: &Cluster) {
    report
        .play(
            "every node lists five, shows the web interface, and lets nobody write without a token",
            listed(cluster),
        )
        .await;
    report.play("an agent without the gossip key is not let in", strangers(cluster)).await;
    report.play("all engines have the same files of images", shared(cluster)).await;
    report.play("two stacks fill one wallet", one_wallet(cluster)).await;
    report.play("every node gets its share", shares(cluster)).await;
    report.play_slowly("five full stacks mine at full rate", full_rate(cluster)).await;
    report
        .play("luke, vador and palpatine meet on overlay networks as they should", overlay(cluster))
        .await;
}

async fn broken(report: &mut Report, cluster: &Cluster) {
    report
        .play("a node is drained without a lost request, and comes back", maintained(cluster))
        .await;
    report
        .play("a backend and a client are restarted, and right in seconds", restarted(cluster))
        .await;
    report
        .play(
            "a registrator catches up with what happened while it was away",
            registrator_away(cluster),
        )
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
    report
        .play("all servers of Consul are restarted, one after the other", rolling_restart(cluster))
        .await;
    report.play_slowly("an engine is restarted", engine_restarted(cluster)).await;
    report.play_slowly("all nodes lose their power at once", blackout(cluster)).await;
    report.play_slowly("a snapshot of Consul is restored under load", restored(cluster)).await;
    report.play_slowly("a server of Consul loses its disk", disk_lost(cluster)).await;
}

async fn changed(report: &mut Report, mut bed: Bed) -> Bed {
    report
        .play(
            "a node is added while the others mine, and one is removed for good",
            added_and_removed(&mut bed.cluster),
        )
        .await;
    report
        .play(
            "Consul follows its configuration without a restart",
            configuration_changed(&bed.cluster),
        )
        .await;
    report.play("near instances are preferred, others step in", near(&mut bed.cluster)).await;
    report.play("the program does as it is told", program::called(&bed.cluster)).await;
    report
        .play_slowly("each client has an ambassador of its own", own_ambassadors(&mut bed.cluster))
        .await;
    report.play_slowly("a swarm runs the same from one file", stack::deployed(&bed.cluster)).await;
    bed
}

#[tokio::test]
async fn what_a_killed_up_left_is_taken_down() {
    let folder = PathBuf::from(FOLDERS).join(format!("{PREFIX}{}", std::process::id()));
    let result = program::killed_half_way(&folder).await;
    if result.is_err() {
        down(&folder);
    }
    println!("  ok      taking down what a killed `up` left: {}", result.unwrap());
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
