//! A client that asks twenty times a second while instances are stopped, killed, replaced by another version, started by fifty.
//!
//! `STEADY` is how many instances each cause takes away, three unless it is set.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::haproxy::Ambassador;
use tests::steady::{Steady, Tally};
use tests::unregistered::{self, NETWORK};
use tests::{coins, compose, eventually, settle};
use tokio::task::{JoinHandle, JoinSet};

/// A second is promised; a machine that also runs other suites gets more.
const SOON: Duration = Duration::from_secs(20);
/// How many instances take turns: one that went more than six times within a minute would be left out for flapping,
/// and of few ones each has a request at any moment.
const TURNS: usize = 6;

/// Instances of one service and where they listen.
struct Instances {
    service: &'static str,
    names: Vec<String>,
}

/// Runs a docker command for each of many containers, all at once.
async fn all(commands: impl Iterator<Item = Vec<String>>) {
    let mut running = JoinSet::new();
    for words in commands {
        running.spawn(async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            compose::docker(&words).await.map(drop)
        });
    }
    for ended in running.join_all().await {
        ended.unwrap();
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Instances {
    /// Creates them: tiny web servers whose POST takes a tenth of a second and must not be repeated.
    async fn create(service: &'static str, tags: &str, number: usize) -> Self {
        let version = tags.rsplit(',').next().unwrap();
        let names: Vec<_> = (1..=number).map(|n| format!("{service}-{version}-{n}")).collect();
        let (name, tags) = (format!("SERVICE_NAME={service}"), format!("SERVICE_TAGS={tags}"));
        let create = |container: &String| {
            let head = ["create", "--name", container, "--network", NETWORK, "--expose", "80"];
            let labels = ["--label", &name, "--label", &tags, "--label", "SERVICE_HEALTH=ignore"];
            let image = ["--read-only", "ambassador/dockercoins", "hasher"];
            words(&[&head[..], &labels, &image].concat())
        };
        all(names.iter().map(create)).await;
        Self { service, names }
    }

    async fn start(&self) {
        all(self.names.iter().map(|name| words(&["start", name]))).await;
    }

    async fn remove(self) {
        all(self.names.iter().map(|name| words(&["rm", "--force", name]))).await;
    }

    /// Returns where those listen that run.
    async fn addresses(&self) -> Vec<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let inspect = [&["inspect", "--format", format][..], &names].concat();
        let text = compose::docker(&inspect).await.unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        let mut addresses: Vec<_> = lines.map(|ip| format!("{ip}:80")).collect();
        addresses.sort();
        addresses
    }

    /// Waits until exactly those that run are served, and returns how long that took.
    async fn served(&self, ambassador: &Ambassador) -> Duration {
        let expected = self.addresses().await;
        let what = format!("the ambassador serves {expected:?}");
        let probe =
            || async { (ambassador.serving(self.service).await.ok()? == expected).then_some(()) };
        eventually(&what, SOON, probe).await.unwrap().1
    }
}

/// Returns where clients reach the services.
async fn front() -> String {
    let ambassador = compose::containers("ambassador").await.unwrap().remove(0);
    format!("http://{}/", ambassador.address)
}

fn line(cause: &str, times: usize, took: Duration, tallies: &[&Tally]) {
    let counts =
        tallies.iter().map(|tally| format!("{:3} of {:4}", tally.failed.len(), tally.asked));
    let slowest = tallies.iter().map(|tally| tally.slowest).max().unwrap();
    println!(
        "| {cause:21} | {times:3} | {} | {slowest:8.0?} | {took:8.1?} |",
        counts.collect::<Vec<_>>().join(" | ")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_by_cause_and_ambassador_stop_has_none() {
    let times = std::env::var("STEADY").map_or(3, |text| text.parse().unwrap());
    let (three, _) = settle(0, 1).await.unwrap();
    // Beside it, one that confd leads from this node's Docker, without registrator and Consul.
    let two = unregistered::ambassador("two").await.unwrap();
    unregistered::confd("two", &["--detach", "--name", "two-confd"], &[]).await.unwrap();
    let instances = Instances::create("steady", "http,v1", TURNS).await;
    instances.start().await;
    instances.served(&three).await;
    instances.served(&two).await;
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = compose::docker(&["inspect", "--format", format, "two"]).await.unwrap();
    let fronts = [front().await, format!("http://{}/", address.trim())];
    let mut turn = instances.names.iter().cycle();
    println!("| cause                 |   n | GET failed  | POST failed | slowest  | command |");
    let (mut lossless, mut lost) = (None, Vec::new());
    for cause in ["docker stop", "docker kill", "ambassador stop"] {
        // Only those are drained for `ambassador stop` that Consul tells it of.
        let ways = if cause == "ambassador stop" { 1 } else { 2 };
        let clients: Vec<_> = fronts[..ways]
            .iter()
            .map(|front| {
                [None, Some("ten bytes.")].map(|body| Steady::start(front, "steady", body))
            })
            .collect();
        let mut longest = Duration::ZERO;
        for name in turn.by_ref().take(times) {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let started = Instant::now();
            match cause.split_once(' ').unwrap() {
                ("docker", verb) => compose::docker(&[verb, name]).await.unwrap(),
                (_, verb) => compose::operate(NETWORK, &[verb, name]).await.unwrap(),
            };
            longest = longest.max(started.elapsed());
            tokio::time::sleep(Duration::from_millis(300)).await;
            compose::docker(&["start", name]).await.unwrap();
            instances.served(&three).await;
            instances.served(&two).await;
        }
        for ([get, post], way) in clients.into_iter().zip(["", ", two-tier"]) {
            let (get, post) = (get.stop().await, post.stop().await);
            line(&format!("{cause}{way}"), times, longest, &[&get, &post]);
            // Who is asked to end answers what it has begun, and what comes in the moment after; on a machine so busy that
            // the ambassador hears of it later, one may wait at its door as it closes. What was at one that was killed is
            // lost with it, where it may not be sent twice: two requests at a time are at six.
            let bound = match cause {
                "docker stop" => times,
                "docker kill" => 2 * times,
                _ => 0,
            };
            assert!(post.failed.len() <= bound, "{cause}{way}: {:?}", post.failed);
            lost.extend(get.failed.clone());
            lossless = Some([get.failed, post.failed].concat());
        }
    }
    instances.remove().await;
    compose::docker(&["rm", "--force", "--volumes", "two", "two-confd"]).await.unwrap();
    assert_eq!(lost, [""; 0], "requests that another instance could have answered");
    assert_eq!(lossless.unwrap(), [""; 0], "failures while `ambassador stop` stopped instances");
}

/// Returns each server's weight and how many sessions it has had, by address.
async fn counted(ambassador: &Ambassador) -> BTreeMap<String, (u64, u64)> {
    let servers = ambassador.servers("hasher").await.unwrap().into_values();
    servers.map(|server| (server.address, (server.weight, server.sessions))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_version_takes_over_from_the_other_without_a_failed_request() {
    let (ambassador, _) = settle(2, 1).await.unwrap();
    let share = async |blue: u8, green: u8| {
        let (blue, green) = (format!("v1={blue}"), format!("v2={green}"));
        let words = ["weight", "hasher", "--tag", &blue, "--tag", &green];
        compose::operate(NETWORK, &words).await.unwrap();
    };
    // Both versions take the place of the stack's own hasher, under its workers.
    let blue = Instances::create("hasher", "http,v1", 2).await;
    blue.start().await;
    let hasher = compose::containers("hasher").await.unwrap().remove(0);
    compose::operate(NETWORK, &["stop", &hasher.id]).await.unwrap();
    blue.served(&ambassador).await;
    share(100, 0).await;
    let since = coins::now();
    let client = Steady::start(&front().await, "hasher", None);
    let wallet = Wallet::watch();
    let green = Instances::create("hasher", "http,v2", 2).await;
    green.start().await;
    let (blues, greens) = (blue.addresses().await, green.addresses().await);
    let reloads = ambassador.reloads().await.unwrap();
    for (percent, least, most) in [(0, 0.0, 0.0), (50, 40.0, 60.0), (100, 100.0, 100.0)] {
        share(100 - percent, percent).await;
        let so = |counts: &BTreeMap<String, (u64, u64)>, addresses: &[String], served: bool| {
            let weight = |address| counts.get(address).map(|(weight, _)| *weight > 0);
            addresses.iter().all(|address| weight(address) == Some(served))
        };
        let probe = || async {
            let counts = counted(&ambassador).await;
            (so(&counts, &blues, percent < 100) && so(&counts, &greens, percent > 0)).then_some(())
        };
        let what = format!("{percent} % for the new version");
        let ((), took) = eventually(&what, SOON, probe).await.unwrap();
        // What was on its way arrives.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = counted(&ambassador).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let after = counted(&ambassador).await;
        let of = |addresses: &[String]| -> u64 {
            addresses.iter().map(|address| after[address].1 - before[address].1).sum()
        };
        let (old, new) = (of(&blues), of(&greens));
        let share = 100.0 * to_float(new) / to_float(old + new);
        println!("{what}: in effect {took:.1?} after the command, {new} of {} requests", old + new);
        assert!(old + new > 20 && (least..=most).contains(&share), "{share} % of {}", old + new);
    }
    let tally = client.stop().await;
    println!(
        "{} requests, {} failed, slowest {:.0?}",
        tally.asked,
        tally.failed.len(),
        tally.slowest
    );
    assert_eq!(tally.failed, [""; 0]);
    assert_eq!(ambassador.reloads().await.unwrap(), reloads, "reloads while shares changed");
    let mined = wallet.stop().await;
    println!("meanwhile {mined:.0} hashes, and their number never went down");
    assert!(mined > 20.0, "the workers mined only {mined} hashes");
    coins::expect_no_worker_errors(&since).await.unwrap();
    compose::operate(NETWORK, &["weight", "hasher", "--clear"]).await.unwrap();
    compose::docker(&["start", &hasher.id]).await.unwrap();
    blue.remove().await;
    green.remove().await;
}

/// Watches the number of hashes.
struct Wallet(JoinHandle<f64>, Arc<AtomicBool>);

impl Wallet {
    fn watch() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let stopped = ended.clone();
        let watching = tokio::spawn(async move {
            let (first, _) = coins::hashes().await.unwrap();
            let mut last = first;
            while !stopped.load(Ordering::Relaxed) {
                let (now, _) = coins::hashes().await.unwrap();
                assert!(now >= last, "{last} hashes, and then {now}");
                last = now;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            last - first
        });
        Self(watching, ended)
    }

    /// Returns how many were added.
    async fn stop(self) -> f64 {
        self.1.store(true, Ordering::Relaxed);
        self.0.await.unwrap()
    }
}

fn to_float(count: u64) -> f64 {
    u32::try_from(count).unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_starts_at_once_are_all_served_with_at_most_two_reloads() {
    let (ambassador, _) = settle(0, 1).await.unwrap();
    let instances = Instances::create("many", "http,v1", 50).await;
    let reloads = ambassador.reloads().await.unwrap();
    let started = Instant::now();
    instances.start().await;
    let engine = started.elapsed();
    let took = instances.served(&ambassador).await;
    let reloads = ambassador.reloads().await.unwrap() - reloads;
    println!(
        "50 starts at once: the engine took {engine:.1?}, all are served {took:.1?} later, {reloads} reloads"
    );
    let running = instances.addresses().await;
    assert_eq!(running.len(), 50);
    let consul = compose::registered("many").await.unwrap();
    let mut consul: Vec<_> = consul.iter().map(|ip| format!("{ip}:80")).collect();
    consul.sort();
    assert_eq!(consul, running, "Consul knows exactly those that run");
    assert!(reloads <= 2, "{reloads} reloads");
    let started = Instant::now();
    let running = ambassador.reloads().await.unwrap();
    instances.remove().await;
    let engine = started.elapsed();
    let probe = || async { ambassador.serving("many").await.ok()?.is_empty().then_some(()) };
    let ((), took) = eventually("none is served any more", SOON, probe).await.unwrap();
    println!("50 removed at once: the engine took {engine:.1?}, none is served {took:.1?} later");
    assert_eq!(ambassador.reloads().await.unwrap(), running, "reloads for removals");
}
