//! webui: the page's parts, the numbers, and what it says while redis is away.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::stack::{Answer, Http, Program, Redis, eventually};

async fn webui(redis: &Redis) -> (Program, String) {
    let (webui, address) = Program::serve(&["webui", "--redis", &redis.address()]).await;
    (webui, format!("http://{address}"))
}

fn json(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    serde_json::from_slice(&answer.body).unwrap()
}

/// Waits for an answer with `status`, all of which have to come soon: within two seconds, and a busy machine's delay.
async fn answers(http: &Http, base: &str, status: u16) -> Answer {
    eventually(&format!("webui answers {status}"), Duration::from_secs(10), async || {
        let answer = http.get(&format!("{base}/json")).await;
        assert!(answer.took < Duration::from_secs(5), "{answer:?}");
        Some(answer).filter(|answer| answer.status == status)
    })
    .await
}

#[tokio::test]
async fn the_page_is_found_from_the_root() {
    let redis = Redis::start().await;
    let (_webui, base) = webui(&redis).await;
    let http = Http::new();
    let root = http.get(&base).await;
    assert_eq!((root.status, root.header("location")), (302, "/index.html"));
    for (path, kind) in
        [("index.html", "text/html"), ("graph.js", "text/javascript"), ("style.css", "text/css")]
    {
        let part = http.get(&format!("{base}/{path}")).await;
        assert_eq!(part.status, 200);
        assert_eq!(part.header("content-type"), format!("{kind};charset=utf-8"));
        assert!(!part.text().contains("https://"), "{path} needs somebody else");
    }
}

#[tokio::test]
async fn the_numbers_are_a_number_a_string_and_the_time() {
    let redis = Redis::start().await;
    let (_webui, base) = webui(&redis).await;
    let http = Http::new();
    let fresh = json(&http.get(&format!("{base}/json")).await);
    assert_eq!((&fresh["coins"], &fresh["hashes"]), (&0.into(), &serde_json::Value::Null));

    redis.ask::<()>(&["INCRBY", "hashes", "42"]).await;
    redis.ask::<()>(&["HSET", "wallet", "0a", "x", "0b", "y"]).await;
    let numbers = json(&http.get(&format!("{base}/json")).await);
    assert_eq!((&numbers["coins"], &numbers["hashes"]), (&2.into(), &"42".into()));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!(numbers["now"].is_f64(), "{numbers}");
    assert!((now - numbers["now"].as_f64().unwrap()).abs() < 5.0, "{numbers}");
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_within_two_seconds_and_found_again() {
    let mut redis = Redis::away();
    let (webui, base) = webui(&redis).await;
    let http = Http::new();
    let away = json(&answers(&http, &base, 503).await);
    assert!(away["error"].as_str().unwrap().starts_with("redis"), "{away}");
    redis.restart().await;
    answers(&http, &base, 200).await;
    redis.stop();
    answers(&http, &base, 503).await;
    redis.restart().await;
    answers(&http, &base, 200).await;
    assert!(webui.runs());
}

#[tokio::test]
async fn a_redis_that_hangs_is_told_within_two_seconds_and_found_again() {
    let redis = Redis::start().await;
    let (_webui, base) = webui(&redis).await;
    let http = Http::new();
    answers(&http, &base, 200).await;
    redis.signal(Signal::SIGSTOP);
    answers(&http, &base, 503).await;
    answers(&http, &base, 503).await;
    redis.signal(Signal::SIGCONT);
    answers(&http, &base, 200).await;
}

#[tokio::test]
async fn a_restarted_redis_is_not_noticed_when_nobody_asked_meanwhile() {
    let mut redis = Redis::start().await;
    let (_webui, base) = webui(&redis).await;
    let http = Http::new();
    answers(&http, &base, 200).await;
    redis.stop();
    redis.restart().await;
    assert_eq!(http.get(&format!("{base}/json")).await.status, 200);
}

#[tokio::test]
async fn a_signal_ends_it_within_a_second_even_while_it_waits_for_redis() {
    let redis = Redis::start().await;
    let (webui, base) = webui(&redis).await;
    redis.signal(Signal::SIGSTOP);
    let http = Http::new();
    let request =
        tokio::spawn(async move { http.request("GET", &format!("{base}/json"), vec![]).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    webui.signal(Signal::SIGTERM);
    webui.assert_ends_soon();
    let _ = request.await.unwrap(); // cut off or refused: redis does not answer
}

#[tokio::test]
async fn the_health_check_tells_a_server_that_works_from_one_that_does_not() {
    let check = async |server: &str, address: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockercoins"));
        command.args(["healthcheck", server, "--address", address]);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    // Redis is away, which is not webui's sickness.
    let (_webui, address) = Program::serve(&["webui", "--redis", &Redis::away().address()]).await;
    assert!(check("webui", &address.to_string()).await.status.success());
    for server in ["rng", "hasher"] {
        let (_program, address) = Program::serve(&[server]).await;
        assert!(check(server, &address.to_string()).await.status.success(), "{server}");
    }
    for server in ["rng", "hasher", "webui"] {
        let output = check(server, "127.0.0.1:1").await;
        assert_eq!(output.status.code(), Some(1), "{server}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("not healthy"), "{server}");
    }
}
