//! The workshop's way on one node, by hand: DockerCoins alone, its Compose file converted, and everything scaled.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::haproxy::Ambassador;
use tests::{compose, eventually, http, measured, within};

const FILE: &str = "dockercoins/compose.plain.yml";
const SOON: Duration = Duration::from_secs(20);
/// So long a rate is measured: often enough the 1.2 s after which a worker reports.
const MEASURE: Duration = Duration::from_secs(18);

async fn plain(file: &str, args: &[&str]) -> anyhow::Result<String> {
    compose::docker(&[&["compose", "--project-name", "plain", "--file", file], args].concat()).await
}

/// Runs `ambassador` by hand, with this folder at `/work`.
async fn by_hand(folder: &Path, args: &[&str]) -> String {
    let variable = |name| std::env::var(name).expect("tests/run names the engine's socket");
    let (socket, mount) = (variable("DOCKER_SOCKET"), variable("DOCKER_SOCKET_MOUNT"));
    let volumes = [
        format!("{mount}:{mount}"),
        format!("{}:/work", folder.display()),
        "plain:/run/ambassador".to_owned(),
    ];
    let volumes: Vec<&str> = volumes.iter().flat_map(|one| ["--volume", one]).collect();
    let host = format!("DOCKER_HOST=unix://{socket}");
    let words = ["run", "--rm", "--user", "0", "--workdir", "/work", "--env", &host];
    let image = ["ambassador/ambassador"];
    compose::docker(&[&words[..], &volumes, &image, args].concat()).await.unwrap()
}

/// Returns the number of hashes and the page's clock in seconds.
async fn hashes(page: &str) -> Option<(f64, f64)> {
    let json = http::json(&format!("http://{page}/json")).await.ok()?;
    Some((json["hashes"].as_str()?.parse().ok()?, json["now"].as_f64()?))
}

async fn rate(page: &str) -> f64 {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, from) = hashes(page).await.unwrap();
    tokio::time::sleep(MEASURE).await;
    let (after, to) = hashes(page).await.unwrap();
    (after - before) / (to - from)
}

async fn create_and_configure(folder: &Path) {
    by_hand(folder, &["create", "--project", "plain", "--volume", "plain"]).await;
    by_hand(folder, &["configure", "--internal", "--network", "plain_default"]).await;
}

/// Returns each client's ambassador by the client's ID, after a look at its labels and at what it serves.
async fn ambassadors(file: &str) -> BTreeMap<String, String> {
    let inspect = async |ids: &str| -> Vec<Value> {
        let ids: Vec<&str> = ids.split_whitespace().collect();
        let text = compose::docker(&[&["inspect"], &ids[..]].concat()).await.unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let workers = inspect(&plain(file, &["ps", "--quiet", "worker"]).await.unwrap()).await;
    let filter = ["ps", "--quiet", "--filter", "label=ambassador.project=plain"];
    let all = inspect(&compose::docker(&filter).await.unwrap()).await;
    let mut found = BTreeMap::new();
    for worker in workers {
        let (id, labels) = (worker["Id"].as_str().unwrap(), &worker["Config"]["Labels"]);
        let own = |one: &&Value| one["Config"]["Labels"]["ambassador.container"] == id;
        let own: Vec<_> = all.iter().filter(own).collect();
        assert_eq!(own.len(), 1, "ambassadors of worker {id}");
        let of_ambassador = &own[0]["Config"]["Labels"];
        assert_eq!(of_ambassador["ambassador.upstreams"], labels["ambassador.upstreams"]);
        assert_eq!(of_ambassador["ambassador.started-at"], worker["State"]["StartedAt"]);
        let rng = Ambassador::of_volume("plain", &id[..12]).await.unwrap().serving("rng").await;
        assert_eq!(rng.unwrap().len(), 10, "rng that the ambassador of worker {id} serves");
        found.insert(id.to_owned(), own[0]["Id"].as_str().unwrap().to_owned());
    }
    found
}

/// Scales once more, twice the same by hand; and a client that restarts has another network, so it needs another ambassador.
async fn five_workers_and_ten_rng(folder: &Path, file: &str, page: &str) {
    plain(file, &["up", "--wait", "--scale", "worker=5", "--scale", "rng=10"]).await.unwrap();
    create_and_configure(folder).await;
    let first = ambassadors(file).await;
    assert_eq!(first.len(), 5);
    create_and_configure(folder).await;
    assert_eq!(ambassadors(file).await, first, "a second time changes nothing");
    let rate = async |what: &str| {
        // 16.7 are nominal; a fifth less is what another suite may cost beside it, and one rng in place of ten gives 10.
        measured(async || within(rate(page).await, 13.4, 17.5, what)).await;
    };
    rate("hashes/s of five workers, ten rng, by hand").await;

    let restarted = first.keys().next().unwrap();
    compose::docker(&["restart", "--time", "1", restarted]).await.unwrap();
    create_and_configure(folder).await;
    let after = ambassadors(file).await;
    let replaced: Vec<_> = first.iter().filter(|(id, old)| after[*id] != **old).collect();
    assert_eq!(replaced.len(), 1, "{first:?} {after:?}");
    assert_eq!(replaced[0].0, restarted);
    rate("hashes/s after one of them was restarted").await;
}

#[tokio::test]
async fn dockercoins_alone_is_converted_and_then_everything_scales() {
    plain(FILE, &["up", "--detach", "--scale", "worker=10"]).await.unwrap();
    for (port, name) in [(8001, "RNG"), (8002, "HASHER")] {
        let url = format!("http://127.0.0.1:{port}/");
        let probe = || async {
            let answer = http::get(&url).await.ok()?;
            answer.body.starts_with(format!("{name} running on ").as_bytes()).then_some(())
        };
        eventually(&format!("{name} answers"), SOON, probe).await.unwrap();
    }
    measured(async || {
        within(rate("127.0.0.1:8000").await, 8.5, 10.5, "hashes/s of ten workers, nothing between")
    })
    .await;
    let refused = plain(FILE, &["up", "--detach", "--scale", "rng=3"]).await.unwrap_err();
    assert!(format!("{refused:#}").contains("port"), "{refused:#}");
    plain(FILE, &["down", "--volumes"]).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FILE);
    std::fs::copy(file, folder.path().join("plain.yml")).unwrap();
    by_hand(folder.path(), &["link", "plain.yml", "linked.yml"]).await;
    let linked = folder.path().join("linked.yml").display().to_string();
    plain(&linked, &["up", "--wait", "--scale", "worker=10", "--scale", "rng=3"]).await.unwrap();
    create_and_configure(folder.path()).await;
    let page = plain(&linked, &["port", "webui", "80"]).await.unwrap();
    let page = page.trim().replace("0.0.0.0", "127.0.0.1");
    eventually("it mines", SOON, || hashes(&page)).await.unwrap();
    measured(async || {
        within(rate(&page).await, 24.0, 31.0, "hashes/s of ten workers, three rng, ambassadors")
    })
    .await;
    five_workers_and_ten_rng(folder.path(), &linked, &page).await;
    by_hand(folder.path(), &["delete", "--project", "plain"]).await;
    let left = ["ps", "--all", "--quiet", "--filter", "label=ambassador.project=plain"];
    assert_eq!(compose::docker(&left).await.unwrap(), "");
    plain(&linked, &["down", "--volumes"]).await.unwrap();
    compose::docker(&["volume", "rm", "plain"]).await.unwrap();
}
