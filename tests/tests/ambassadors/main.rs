//! DockerCoins with an ambassador for each client, in the client's own network namespace: who comes and goes is followed, whatever dies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod many;
mod stack;

use std::time::{Duration, Instant};

use stack::{
    SOON, errors, of_service, scale, settled, stack, until_followed, until_it_mines, until_settled,
};
use tests::{coins, compose, measured, within};

/// How soon after a change of a backend every ambassador is right: a second is promised, a busy machine adds its own. What
/// it took is printed.
const FOLLOW: Duration = Duration::from_secs(10);
/// How soon everything is ready, from nothing.
const READY: f64 = 15.0;

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
        within(coins::rate().await.unwrap(), 13.4, 17.5, "hashes/s of 5 workers, 10 rng")
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

#[tokio::test]
async fn what_goes_down_leaves_no_ambassador_behind() {
    scale(3, 1).await;
    until_settled("an ambassador for each of four clients", 4).await;
    stack(&["down", "--volumes"]).await;
    let left = ["ps", "--all", "--quiet", "--filter", "label=ambassador.container"];
    assert_eq!(compose::docker(&left).await.unwrap(), "");
    let volumes = ["volume", "ls", "--quiet", "--filter", "name=ambassadors_"];
    assert_eq!(compose::docker(&volumes).await.unwrap(), "");
}
