//! Many ambassadors on one node: how soon each is configured, and how much memory they take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tests::haproxy::Ambassador;
use tests::{coins, compose, measured, median, within};

use crate::stack::{rng, scale, until_followed, until_settled, until_settled_within};

const VOLUME: &str = "ambassadors_ambassadors";
/// How long fifty may take: the engine starts five to seven containers a second.
const FIFTY: Duration = Duration::from_mins(1);

/// Returns the names of the ambassadors' directories: so much of their clients' IDs.
fn directories(folder: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|one| one.unwrap().file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    names.filter(|name| name.len() == 12 && name.chars().all(|c| c.is_ascii_hexdigit())).collect()
}

/// Waits for so many further ambassadors, and returns when each served exactly `expected` for the first time.
async fn first_served(expected: Vec<String>, count: usize) -> BTreeMap<String, SystemTime> {
    let format = ["volume", "inspect", "--format", "{{.Mountpoint}}", VOLUME];
    let folder = PathBuf::from(compose::docker(&format).await.unwrap().trim());
    let mut known = directories(&folder);
    let mut watches = tokio::task::JoinSet::new();
    while watches.len() < count {
        for name in directories(&folder).into_iter().filter(|name| known.insert(name.clone())) {
            let expected = expected.clone();
            watches.spawn(async move {
                let ambassador = Ambassador::of_volume(VOLUME, &name).await.unwrap();
                while !ambassador.serving("rng").await.is_ok_and(|serving| serving == expected) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                (name, SystemTime::now())
            });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    watches.join_all().await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_ten_is_configured_within_a_second_of_its_start() {
    scale(0, 3).await;
    measured(async || {
        scale(0, 3).await;
        until_settled("no worker is left", 1).await;
        let watching = tokio::spawn(first_served(rng().await, 10));
        // What is there by now is known.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let since = coins::now();
        scale(10, 3).await;
        let ambassadors = until_settled("ten workers", 11).await;
        let served = tokio::time::timeout(FIFTY, watching).await.unwrap().unwrap();
        let started = compose::starts(&since).await.unwrap();
        let of_workers = ambassadors.iter().filter_map(|(client, ambassador)| {
            let served = served.get(&client[..12])?;
            Some(served.duration_since(*started.get(ambassador)?).unwrap_or_default())
        });
        let times: Vec<_> = of_workers.collect();
        assert_eq!(times.len(), 10);
        println!("ten ambassadors, start event to configured: median {:?}", median(&times));
        let worst = times.iter().max().unwrap();
        within(worst.as_secs_f64(), 0.0, 1.0, "the slowest of ten, in seconds")
    })
    .await;
}

/// What one ambassador takes, in MiB.
struct Memory {
    /// Its control group, as `docker stats` shows it: without the files that it has read.
    group: f64,
    /// With each process's share of what several use.
    proportional: f64,
    /// With what several use counted anew for each process.
    resident: f64,
}

/// Returns a number of bytes as Docker writes it, such as `9.5MiB`, in MiB.
fn mebibytes(text: &str) -> f64 {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let factor = match unit {
        "B" => 1.0 / 1024.0 / 1024.0,
        "KiB" => 1.0 / 1024.0,
        "MiB" => 1.0,
        "GiB" => 1024.0,
        _ => panic!("{text}"),
    };
    number.parse::<f64>().unwrap() * factor
}

/// Returns a line of a process's memory, in MiB.
fn of_process(pid: &str, line: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let found = text.lines().find_map(|one| one.strip_prefix(line)?.split_whitespace().next());
    found.map_or(0.0, |kilobytes| kilobytes.parse::<f64>().unwrap() / 1024.0)
}

async fn memory(ids: &[&str]) -> Vec<Memory> {
    let stats = ["stats", "--no-stream", "--no-trunc", "--format", "{{.ID}} {{.MemUsage}}"];
    let text = compose::docker(&[&stats[..], ids].concat()).await.unwrap();
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (id, group) = (words.next().unwrap(), words.next().unwrap());
        let processes = compose::docker(&["top", id, "-o", "pid"]).await.unwrap();
        let processes: Vec<_> = processes.lines().skip(1).map(str::trim).collect();
        let sum = |line: &str| processes.iter().map(|pid| of_process(pid, line)).sum();
        all.push(Memory {
            group: mebibytes(group),
            proportional: sum("Pss:"),
            resident: sum("Rss:"),
        });
    }
    all
}

/// Prints the median, the largest and the sum of some numbers; returns the median and the sum.
fn shown(what: &str, mut numbers: Vec<f64>) -> (f64, f64) {
    numbers.sort_by(f64::total_cmp);
    let (median, most) = (numbers[numbers.len() / 2], numbers[numbers.len() - 1]);
    let sum = numbers.iter().sum();
    println!("| {what:40} | {median:6.1} | {most:6.1} | {sum:6.0} |");
    (median, sum)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_ambassadors_on_one_node_are_small_and_soon_there() {
    scale(1, 3).await;
    until_settled("two clients", 2).await;
    let started = Instant::now();
    scale(50, 3).await;
    let compose = started.elapsed();
    let ambassadors = until_settled_within(FIFTY, "fifty workers and webui", 51).await;
    until_followed(FIFTY).await.unwrap();
    println!(
        "49 further clients: Compose took {compose:.1?}, all have a configured ambassador {:.1?} after the first command",
        started.elapsed()
    );
    // They work meanwhile.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let ids: Vec<&str> = ambassadors.values().map(String::as_str).collect();
    let all = memory(&ids).await;
    assert_eq!(all.len(), 51);
    println!("| MiB, of 51 ambassadors with clients      | median |   most |    all |");
    let (group, _) = shown("control group", all.iter().map(|one| one.group).collect());
    let (_, sum) = shown("PSS of its processes", all.iter().map(|one| one.proportional).collect());
    shown("RSS of its processes", all.iter().map(|one| one.resident).collect());
    // Half as much again as was measured.
    assert!(group < 24.0, "{group} MiB in the control group of one");
    assert!(sum < 51.0 * 20.0, "{sum} MiB for all");
    scale(1, 1).await;
    until_settled_within(FIFTY, "two clients again", 2).await;
}
