//! The page in a real browser: the graph draws, the numbers move, nothing is complained about.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[allow(dead_code, reason = "shared with the other suite")]
#[path = "application/stack.rs"]
mod stack;

use std::time::Duration;

use stack::{Program, Redis};
use testbed::browser::Browser;

/// Long enough for anything that happens every second, on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(30);

/// Reads the speed as the page shows it.
const RATE: &str = "Number(document.getElementById('rate').textContent)";
/// Reads the number of hashes as the page shows it.
const HASHES: &str = "Number(document.getElementById('hashes').textContent.replaceAll(',', ''))";
/// Reads the state of the connection as the page shows it.
const STATE: &str = "document.getElementById('state').dataset.state";

#[tokio::test]
async fn the_page_draws_what_the_workers_do_and_says_when_redis_is_away() {
    let mut redis = Redis::start().await;
    let (_rng, rng) = Program::serve(&["rng"]).await;
    let (_hasher, hasher) = Program::serve(&["hasher"]).await;
    let (rng, hasher, store) = (rng.to_string(), hasher.to_string(), redis.address());
    let targets = ["worker", "--rng", &rng, "--hasher", &hasher, "--redis", &store];
    let _workers = [Program::start(&targets), Program::start(&targets)];
    let (_webui, address) = Program::serve(&["webui", "--redis", &store]).await;

    let browser = Browser::start().await.unwrap();
    browser.open(&format!("http://{address}/")).await.unwrap();
    assert_eq!(browser.evaluate("location.pathname").await.unwrap(), "/index.html");

    // Two workers make 6.7 hashes a second; the page's mean needs a while to get there.
    browser.wait_until(&format!("{RATE} > 5 && {RATE} < 8"), LIMIT).await.unwrap();
    let samples = "Number(document.getElementById('graph').dataset.samples)";
    browser.wait_until(&format!("{samples} >= 15"), LIMIT).await.unwrap();
    let before = browser.evaluate(HASHES).await.unwrap();
    browser.wait_until(&format!("{HASHES} >= {before} + 10"), LIMIT).await.unwrap();
    browser.wait_until(&format!("{STATE} === 'live'"), LIMIT).await.unwrap();

    let points = "document.getElementById('area').getAttribute('d').split('L').length";
    assert!(browser.evaluate(points).await.unwrap().as_u64().unwrap() >= 15);
    let height = "document.getElementById('area').getBoundingClientRect().height";
    assert!(browser.evaluate(height).await.unwrap().as_f64().unwrap() > 50.0);
    let labels = "document.querySelectorAll('#grid text.y').length";
    assert!(browser.evaluate(labels).await.unwrap().as_u64().unwrap() >= 4);
    assert_eq!(browser.complaints().await.unwrap(), [""; 0]);
    if let Some(path) = std::env::var_os("SCREENSHOT") {
        browser.screenshot(path.as_ref()).await.unwrap();
    }

    redis.stop();
    browser.wait_until(&format!("{STATE} === 'lost'"), LIMIT).await.unwrap();
    let text = browser.evaluate("document.getElementById('state').textContent").await.unwrap();
    assert!(text.as_str().unwrap().starts_with("redis is away"), "{text}");
    redis.restart().await;
    browser.wait_until(&format!("{STATE} === 'live'"), LIMIT).await.unwrap();
    let before = browser.evaluate(HASHES).await.unwrap();
    browser.wait_until(&format!("{HASHES} > {before}"), LIMIT).await.unwrap();
}
