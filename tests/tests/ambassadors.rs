//! DockerCoins with an ambassador for each client, in the client's own network namespace: who comes and goes is followed, whatever dies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tests::{coins, compose, eventually};

const FILE: &str = "dockercoins/compose.ambassadors.yml";
/// Five seconds are promised; a machine that also runs other suites gets more.
const SOON: Duration = Duration::from_secs(20);

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
    let mut all = Vec::new();
    for id in ids.split_whitespace() {
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
    let ((), took) = eventually(what, SOON * 2, probe).await.unwrap();
    println!("{what}: {took:?}");
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
    scale(5, 10).await;
    let first = until_settled("an ambassador for each of six clients", 6).await;
    until_it_mines("it mines").await;
    scale(5, 10).await;
    assert_eq!(settled(6).await.unwrap(), first, "a second time changes nothing");
    let rate = coins::rate().await.unwrap();
    println!("5 workers, 10 rng: {rate:.1} hashes/s");
    assert!((13.0..=17.6).contains(&rate), "nominal are 16.7, not {rate:.1}");

    // Backends are stopped and killed while the workers go on.
    let since = coins::now();
    let project = ["--filter", "label=com.docker.compose.project=ambassadors"];
    let rngs =
        inspected(&[&project[..], &["--filter", "label=com.docker.compose.service=rng"]].concat())
            .await;
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
