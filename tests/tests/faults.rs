//! Parts die and come back: everything else goes on, and nobody has to help.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::time::Duration;

use tests::{coins, compose, eventually, rng_addresses, settle};

/// How soon everything is exact again after a part came back: five seconds are promised, a busy machine adds its own. What
/// it took is printed.
const EXACT: Duration = Duration::from_secs(15);
/// How long nobody registers, follows or answers, while traffic goes on.
const ALONE: Duration = Duration::from_mins(1);

/// Returns how often each container of the stack was restarted, and when it was last started.
async fn lives() -> BTreeMap<String, (u64, String)> {
    let mut lives = BTreeMap::new();
    for service in
        ["consul", "registrator", "confd", "ambassador", "hasher", "redis", "webui", "worker"]
    {
        for container in compose::containers(service).await.unwrap() {
            lives.insert(
                format!("{service} {}", container.id),
                (container.restarts, container.started_at),
            );
        }
    }
    lives
}

#[tokio::test]
async fn redis_away_for_five_seconds_ends_no_process() {
    settle(3, 1).await.unwrap();
    let redis = compose::containers("redis").await.unwrap().remove(0);
    let before = lives().await;
    compose::docker(&["kill", "--signal", "KILL", &redis.id]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let away = tests::http::get(&format!("{}/json", coins::WEBUI)).await.unwrap();
    assert_eq!(away.status, 503, "the web interface says that redis is away");
    // Two seconds are promised, a busy machine adds its own.
    println!("webui said {:?} after it was asked that redis is away", away.took);
    assert!(away.took < Duration::from_secs(5), "it took {:?} to say so", away.took);
    compose::docker(&["start", &redis.id]).await.unwrap();

    let count = || async { coins::hashes().await.ok().map(|(hashes, _)| hashes) };
    let (first, _) = eventually("webui recovers", Duration::from_secs(15), count).await.unwrap();
    let more = || async { (coins::hashes().await.ok()?.0 > first).then_some(()) };
    let ((), took) = eventually("workers mine again", Duration::from_secs(15), more).await.unwrap();
    println!("workers mined again {took:?} after webui had recovered");
    let after = lives().await;
    for (name, life) in before.iter().filter(|(name, _)| !name.starts_with("redis")) {
        assert_eq!(after.get(name), Some(life), "{name} did not live through it");
    }
}

#[tokio::test]
async fn an_engine_restart_ends_nobody_and_is_caught_up() {
    let (ambassador, _) = settle(5, 4).await.unwrap();
    let before = lives().await;
    let victim = compose::containers("rng").await.unwrap().remove(0);
    compose::run("tests/engine", &["stop"]).await.unwrap();
    // While no engine watches, one instance dies.
    compose::run("kill", &["-KILL", &victim.pid.to_string()]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    compose::run("tests/engine", &["start"]).await.unwrap();

    // The restart policy brings the dead instance back, with a new address or the old one.
    let what = "Consul and the ambassador equal what the engine runs";
    let probe = || async {
        let running = rng_addresses().await.ok()?;
        let consul: Vec<String> =
            compose::registered("rng").await.ok()?.iter().map(|ip| format!("{ip}:80")).collect();
        (running.len() >= 3
            && consul == running
            && ambassador.serving("rng").await.ok()? == running)
            .then_some(())
    };
    let ((), took) = eventually(what, EXACT, probe).await.unwrap();
    println!("exact {took:?} after the engine answered again");
    let after = lives().await;
    for (name, life) in &before {
        assert_eq!(after.get(name), Some(life), "{name} did not live through it");
    }
}

#[tokio::test]
async fn traffic_goes_on_while_the_control_plane_is_dead() {
    let (ambassador, _) = settle(5, 4).await.unwrap();
    let usual = coins::rate().await.unwrap();
    let since = coins::now();
    let mut stopped = Vec::new();
    for service in ["registrator", "confd", "consul"] {
        let container = compose::containers(service).await.unwrap().remove(0);
        compose::docker(&["kill", "--signal", "KILL", &container.id]).await.unwrap();
        stopped.push(container.id);
    }
    let (before, from) = coins::hashes().await.unwrap();
    tokio::time::sleep(ALONE).await;
    let (after, to) = coins::hashes().await.unwrap();
    let rate = (after - before) / (to - from);
    println!("hashes/s without registrator, confd and Consul: {rate:.1}; before: {usual:.1}");
    // Both are 16 on a machine of its own; on a busy one it counts what it was just before.
    assert!(rate > 12.0_f64.min(0.8 * usual), "the rate fell from {usual:.1} to {rate:.1}");

    // The world changes meanwhile: three start, two are killed.
    let up = ["up", "--detach", "--no-build", "--no-deps", "--scale", "rng=7", "rng"];
    compose::compose(&up).await.unwrap();
    // One that is served, and one that nobody has heard of.
    let all = compose::containers("rng").await.unwrap();
    for victim in [all.first(), all.last()].into_iter().flatten() {
        compose::docker(&["kill", &victim.id]).await.unwrap();
    }
    let running = rng_addresses().await.unwrap();
    assert_eq!(running.len(), 5, "seven without two");
    // Then the control plane returns, registrator last.
    let registrator = stopped.remove(0);
    for id in &stopped {
        compose::docker(&["start", id]).await.unwrap();
    }
    let leads = || async { compose::registered("rng").await.ok() };
    eventually("Consul answers", Duration::from_secs(30), leads).await.unwrap();
    compose::docker(&["start", &registrator]).await.unwrap();
    let probe = || async {
        let consul = compose::registered("rng").await.ok()?;
        let consul: Vec<String> = consul.iter().map(|ip| format!("{ip}:80")).collect();
        (consul == running && ambassador.serving("rng").await.ok()? == running).then_some(())
    };
    let what = "Consul and the ambassador equal what the engine runs";
    let ((), took) = eventually(what, EXACT, probe).await.unwrap();
    println!("everything exact {took:?} after registrator was back");
    coins::expect_no_worker_errors(&since).await.unwrap();
    assert_eq!(rng_addresses().await.unwrap(), running);
}
