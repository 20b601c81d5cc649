//! DockerCoins with an ambassador for each client, in the client's own network namespace: who comes and goes is followed, whatever dies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::haproxy::Ambassador;
use tests::{coins, compose, eventually, measured, within};

const FILE: &str = "dockercoins/compose.ambassadors.yml";
/// How soon after a change of its client an ambassador is right.
const SOON: Duration = Duration::from_secs(5);
/// How soon after a change of a backend every ambassador is.
const FOLLOW: Duration = Duration::from_secs(1);
/// How soon everything is ready, from nothing.
const READY: f64 = 15.0;
/// How long a wallet may stand still while workers wait for a lost backend.
const STANDSTILL: Duration = Duration::from_secs(40);

async fn stack(args: &[&str]) -> String {
    let args: Vec<&str> =
        ["compose", "--file", FILE].into_iter().chain(args.iter().copied()).collect();
    compose::docker(&args).await.unwrap()
}

async fn scale(worker: u32, rng: u32) {
    let (worker, rng) = (format!("worker={worker}"), format!("rng={rng}"));
    stack(&["up", "--detach", "--no-build", "--scale", &worker, "--scale", &rng]).await;
}

async fn inspected(filter: &[&str]) -> Vec<Value> {
    let list = compose::docker(&[&["ps", "--all", "--quiet", "--no-trunc"], filter].concat()).await;
    let ids = list.unwrap();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Vec::new();
    }
    if let Ok(text) = compose::docker(&[&["inspect"][..], &ids].concat()).await {
        return serde_json::from_str(&text).unwrap();
    }
    let mut all = Vec::new();
    for id in ids {
        // It may go in between.
        if let Ok(text) = compose::docker(&["inspect", id]).await {
            all.extend(serde_json::from_str::<Vec<Value>>(&text).unwrap());
        }
    }
    all
}

/// Returns the ambassadors' IDs by their clients'; `None` unless each running client has exactly one
/// that runs in its network as it is now, and nobody else has any.
async fn settled(clients: usize) -> Option<BTreeMap<String, String>> {
    let ambassadors = inspected(&["--filter", "label=ambassador.container"]).await;
    let mut by_client = BTreeMap::new();
    for one in &ambassadors {
        let label = |key: &str| one["Config"]["Labels"][key].as_str().unwrap().to_owned();
        let client = label("ambassador.container");
        let text = compose::docker(&["inspect", &client]).await.ok()?;
        let document: Vec<Value> = serde_json::from_str(&text).ok()?;
        let fits = one["State"]["Running"] == true
            && document[0]["State"]["Running"] == true
            && document[0]["State"]["StartedAt"] == label("ambassador.started-at").as_str()
            && one["HostConfig"]["NetworkMode"] == format!("container:{client}").as_str();
        if !fits || by_client.insert(client, one["Id"].as_str().unwrap().to_owned()).is_some() {
            return None;
        }
    }
    (by_client.len() == clients).then_some(by_client)
}

async fn until_settled(what: &str, clients: usize) -> BTreeMap<String, String> {
    let (ambassadors, took) = eventually(what, SOON, || settled(clients)).await.unwrap();
    println!("{what}: {took:?} after the command returned");
    ambassadors
}

async fn until_it_mines(what: &str) {
    let before = std::cell::Cell::new(f64::MAX);
    let probe = || async {
        let now = coins::hashes().await.ok()?.0;
        (now > before.replace(before.get().min(now))).then_some(())
    };
    let ((), took) = eventually(what, STANDSTILL, probe).await.unwrap();
    println!("{what}: {took:?}");
}

/// Returns the containers of a service.
async fn of_service(name: &str) -> Vec<Value> {
    let service = format!("label=com.docker.compose.service={name}");
    let project = "label=com.docker.compose.project=ambassadors";
    inspected(&["--filter", project, "--filter", &service]).await
}

/// Waits until the ambassador of every worker serves exactly the rng that run.
async fn until_followed(limit: Duration) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let networks = |one: &Value| one["NetworkSettings"]["Networks"].clone();
    let address = |one: &Value| {
        networks(one)["ambassadors_backends"]["IPAddress"].as_str().map(str::to_owned)
    };
    let running = of_service("rng").await;
    let running = running.iter().filter(|one| one["State"]["Running"] == true);
    let mut expected: Vec<_> = running.filter_map(address).map(|ip| format!("{ip}:80")).collect();
    expected.sort();
    for worker in of_service("worker").await {
        let id = &worker["Id"].as_str().unwrap()[..12];
        let ambassador = Ambassador::of_volume("ambassadors_ambassadors", id).await?;
        let what = format!("the ambassador of {id} serves {expected:?}");
        let probe = || async { (ambassador.serving("rng").await.ok()? == expected).then_some(()) };
        eventually(&what, limit.saturating_sub(started.elapsed()), probe).await?;
    }
    Ok(started.elapsed())
}

async fn errors(since: &str) -> Vec<String> {
    let expected = ["units of work done", "Coin found", "We already had that coin"];
    let logs = stack(&["logs", "--no-color", "--no-log-prefix", "--since", since, "worker"]).await;
    let strange =
        |line: &&str| !line.trim().is_empty() && !expected.iter().any(|text| line.contains(text));
    logs.lines().filter(strange).map(str::to_owned).collect()
}

/// Runs a command of an operator beside the stack, and returns what it says.
async fn operate(args: &[&str]) -> String {
    compose::operate("ambassadors_backends", args).await.unwrap()
}

#[tokio::test]
async fn every_client_has_its_ambassador_and_keeps_it_whatever_happens() {
    measured(async || {
        stack(&["down", "--volumes"]).await;
        let started = Instant::now();
        scale(5, 10).await;
        until_settled("an ambassador for each of six clients", 6).await;
        until_followed(SOON).await.map_err(|error| error.to_string())?;
        until_it_mines("it mines").await;
        within(started.elapsed().as_secs_f64(), 0.0, READY, "from nothing to mining, in seconds")
    })
    .await;
    let first = settled(6).await.unwrap();
    scale(5, 10).await;
    assert_eq!(settled(6).await.unwrap(), first, "a second time changes nothing");
    measured(async || {
        within(coins::rate().await.unwrap(), 15.0, 17.5, "hashes/s of 5 workers, 10 rng")
    })
    .await;

    // Backends are stopped and killed while the workers go on.
    let since = coins::now();
    let rngs = of_service("rng").await;
    for (number, rng) in rngs.iter().take(6).enumerate() {
        let id = rng["Id"].as_str().unwrap();
        let verb = if number % 2 == 0 { "stop" } else { "kill" };
        compose::docker(&[verb, id]).await.unwrap();
        compose::docker(&["start", id]).await.unwrap();
    }
    assert_eq!(errors(&since).await, [""; 0], "errors of workers");

    // `ambassador stop` waits for every ambassador to let go: nothing is even tried again.
    let since = coins::now();
    for rng in rngs.iter().skip(8) {
        operate(&["stop", rng["Id"].as_str().unwrap()]).await;
    }
    operate(&["wait", "rng"]).await;
    operate(&["explain", "redis"]).await;
    println!("{}", operate(&["status"]).await);
    assert_eq!(errors(&since).await, [""; 0], "errors of workers");

    // All at once: there is nobody to try instead, but the new ones are found at their new addresses.
    stack(&[
        "up",
        "--detach",
        "--no-build",
        "--force-recreate",
        "--no-deps",
        "--scale",
        "rng=10",
        "rng",
    ])
    .await;
    until_it_mines("it mines after every rng was replaced").await;
}

#[tokio::test]
async fn every_ambassador_follows_its_backends_and_no_worker_notices() {
    scale(10, 1).await;
    until_settled("ten workers", 11).await;
    until_it_mines("it mines").await;
    until_followed(SOON).await.unwrap();
    let since = coins::now();
    for rng in [10, 1] {
        scale(10, rng).await;
        let took = until_followed(FOLLOW).await.unwrap();
        println!("ten ambassadors followed to {rng} rng within {took:?} of Compose's end");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(errors(&since).await, [""; 0], "errors of workers");
}

#[tokio::test]
async fn clients_that_come_go_and_restart_are_followed_also_by_an_agent_that_was_killed() {
    scale(1, 1).await;
    until_settled("two clients", 2).await;
    scale(10, 1).await;
    let ten = until_settled("ten workers", 11).await;
    let agent = "ambassadors-agent-1";
    for round in 0..3 {
        let client = format!("ambassadors-worker-{}", round + 1);
        tokio::join!(
            async { compose::docker(&["restart", "--time", "0", &client]).await.unwrap() },
            async {
                tokio::time::sleep(Duration::from_millis(200 * round)).await;
                compose::docker(&["kill", agent]).await.unwrap();
            },
        );
        compose::docker(&["start", agent]).await.unwrap();
    }
    let again = until_settled("after restarts, with the agent killed three times", 11).await;
    assert!(ten.keys().eq(again.keys()), "the same clients");
    assert_eq!(ten.values().filter(|id| !again.values().any(|other| other == *id)).count(), 3);
    until_it_mines("it mines").await;
    scale(0, 1).await;
    until_settled("no orphan", 1).await;
    assert_eq!(
        compose::docker(&["inspect", "-f", "{{.RestartCount}}", agent]).await.unwrap().trim(),
        "0"
    );
}
