//! The Compose file with an ambassador for each client: bring it up, scale it, and look at who has which ambassador.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::haproxy::Ambassador;
use tests::{coins, compose, eventually};

const FILE: &str = "dockercoins/compose.ambassadors.yml";
/// How soon after a change of its client an ambassador is right.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// How long a wallet may stand still while workers wait for a lost backend.
const STANDSTILL: Duration = Duration::from_secs(40);

pub(crate) async fn stack(args: &[&str]) -> String {
    let args: Vec<&str> =
        ["compose", "--file", FILE].into_iter().chain(args.iter().copied()).collect();
    compose::docker(&args).await.unwrap()
}

pub(crate) async fn scale(worker: u32, rng: u32) {
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
pub(crate) async fn settled(clients: usize) -> Option<BTreeMap<String, String>> {
    let ambassadors = inspected(&["--filter", "label=ambassador.container"]).await;
    let mut by_client = BTreeMap::new();
    for one in &ambassadors {
        let label = |key: &str| one["Config"]["Labels"][key].as_str().unwrap().to_owned();
        let client = label("ambassador.container");
        let text = compose::docker(&["inspect", &client]).await.ok()?;
        let document: Vec<Value> = serde_json::from_str(&text).ok()?;
        let document = &document[0];
        let asks = &document["Config"]["Labels"]["ambassador.upstreams"];
        let fits = one["State"]["Running"] == true
            && document["State"]["Running"] == true
            && document["State"]["StartedAt"] == label("ambassador.started-at").as_str()
            && *asks == label("ambassador.upstreams").as_str()
            && label("ambassador.project") == "ambassadors"
            && one["HostConfig"]["NetworkMode"] == format!("container:{client}").as_str();
        if !fits || by_client.insert(client, one["Id"].as_str().unwrap().to_owned()).is_some() {
            return None;
        }
    }
    (by_client.len() == clients).then_some(by_client)
}

pub(crate) async fn until_settled(what: &str, clients: usize) -> BTreeMap<String, String> {
    until_settled_within(SOON, what, clients).await
}

pub(crate) async fn until_settled_within(
    limit: Duration,
    what: &str,
    clients: usize,
) -> BTreeMap<String, String> {
    let (ambassadors, took) = eventually(what, limit, || settled(clients)).await.unwrap();
    println!("{what}: {took:?} after the command returned");
    ambassadors
}

pub(crate) async fn until_it_mines(what: &str) {
    let before = std::cell::Cell::new(f64::MAX);
    let probe = || async {
        let now = coins::hashes().await.ok()?.0;
        (now > before.replace(before.get().min(now))).then_some(())
    };
    let ((), took) = eventually(what, STANDSTILL, probe).await.unwrap();
    println!("{what}: {took:?}");
}

/// Returns the containers of a service.
pub(crate) async fn of_service(name: &str) -> Vec<Value> {
    let service = format!("label=com.docker.compose.service={name}");
    let project = "label=com.docker.compose.project=ambassadors";
    inspected(&["--filter", project, "--filter", &service]).await
}

/// Returns where the running rng listen, sorted.
pub(crate) async fn rng() -> Vec<String> {
    let networks = |one: &Value| one["NetworkSettings"]["Networks"].clone();
    let address = |one: &Value| {
        networks(one)["ambassadors_backends"]["IPAddress"].as_str().map(str::to_owned)
    };
    let running = of_service("rng").await;
    let running = running.iter().filter(|one| one["State"]["Running"] == true);
    let mut addresses: Vec<_> = running.filter_map(address).map(|ip| format!("{ip}:80")).collect();
    addresses.sort();
    addresses
}

/// Waits until the ambassador of every worker serves exactly the rng that run.
pub(crate) async fn until_followed(limit: Duration) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let expected = rng().await;
    for worker in of_service("worker").await {
        let id = &worker["Id"].as_str().unwrap()[..12];
        let ambassador = Ambassador::of_volume("ambassadors_ambassadors", id).await?;
        let what = format!("the ambassador of {id} serves {expected:?}");
        let probe = || async { (ambassador.serving("rng").await.ok()? == expected).then_some(()) };
        eventually(&what, limit.saturating_sub(started.elapsed()), probe).await?;
    }
    Ok(started.elapsed())
}

pub(crate) async fn errors(since: &str) -> Vec<String> {
    let expected = ["units of work done", "Coin found", "We already had that coin"];
    let logs = stack(&["logs", "--no-color", "--no-log-prefix", "--since", since, "worker"]).await;
    let strange =
        |line: &&str| !line.trim().is_empty() && !expected.iter().any(|text| line.contains(text));
    logs.lines().filter(strange).map(str::to_owned).collect()
}
