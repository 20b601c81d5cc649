//! DockerCoins in its containers, behind the ambassador: the workshop's numbers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::{Duration, Instant};

use tests::{coins, compose, http, measured, settle, within};

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[tokio::test]
async fn rng_is_serial_and_says_where_it_runs() {
    settle(0, 1).await.unwrap();
    let base = format!("http://{}", tests::rng_addresses().await.unwrap()[0]);
    assert_eq!(http::get(&format!("{base}/abc")).await.unwrap().status, 404);
    measured(async || {
        let alive = http::get(&base).await.unwrap();
        assert!(String::from_utf8_lossy(&alive.body).starts_with("RNG running on "));
        within(milliseconds(alive.took), 0.0, 20.0, "rng's / in ms")?;
        let ten = http::get(&format!("{base}/10")).await.unwrap();
        assert_eq!((ten.status, ten.body.len()), (200, 10));
        within(milliseconds(ten.took), 100.0, 130.0, "rng's /10 in ms")?;
        serial(&format!("{base}/32")).await
    })
    .await;
}

/// Five requests at once end one after the other.
async fn serial(url: &str) -> Result<(), String> {
    let started = Instant::now();
    let requests: Vec<_> =
        (0..5).map(|_| tokio::spawn(finished(url.to_owned(), started))).collect();
    let mut ends = Vec::new();
    for request in requests {
        ends.push(request.await.unwrap());
    }
    ends.sort();
    for (place, end) in (1_u32..).zip(ends) {
        let due = f64::from(place) * 100.0;
        within(milliseconds(end), due - 5.0, due + 30.0, "end of a parallel request in ms")?;
    }
    Ok(())
}

async fn finished(url: String, started: Instant) -> Duration {
    assert_eq!(http::get(&url).await.unwrap().status, 200);
    started.elapsed()
}

#[tokio::test]
async fn hasher_hashes_ten_requests_at_once() {
    settle(0, 1).await.unwrap();
    let hasher = &compose::containers("hasher").await.unwrap()[0];
    let url = format!("http://{}/", hasher.address);
    let hello = http::post(&url, b"hello").await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&hello.body),
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    measured(async || {
        let started = Instant::now();
        let post = |n| {
            let url = url.clone();
            tokio::spawn(async move { http::post(&url, &[n]).await })
        };
        let requests: Vec<_> = (0..10_u8).map(post).collect();
        for request in requests {
            assert_eq!(request.await.unwrap().unwrap().status, 200);
        }
        within(milliseconds(started.elapsed()), 100.0, 200.0, "ten parallel POSTs in ms")
    })
    .await;
}

#[tokio::test]
async fn one_worker_mines_three_and_a_third_hashes_per_second() {
    settle(1, 1).await.unwrap();
    measured(async || {
        within(coins::rate().await.unwrap(), 2.8, 3.5, "hashes/s with 1 worker and 1 rng")
    })
    .await;
    let json = http::json(&format!("{}/json", coins::WEBUI)).await.unwrap();
    assert!(
        json["coins"].is_number() && json["hashes"].is_string() && json["now"].is_f64(),
        "{json}"
    );
}

#[tokio::test]
async fn rng_is_the_bottleneck_until_it_is_scaled() {
    settle(1, 1).await.unwrap();
    // From here on: before its first configuration, an ambassador refuses, and workers say so.
    tokio::time::sleep(coins::WARM_UP).await;
    let since = coins::now();
    measured(async || {
        settle(1, 1).await.unwrap();
        let single = coins::rate().await.unwrap();
        settle(10, 1).await.unwrap();
        let ten = coins::rate().await.unwrap();
        within(ten, 8.5, 10.5, "hashes/s with 10 workers and 1 rng")?;
        // Three times, not ten: 2.85 to 3.05 on a machine of its own. Either rate may be a tenth low on two shared cores.
        within(ten / single, 2.7, 3.3, "ratio of 10 workers to 1 worker")
    })
    .await;

    let (ambassador, _) = settle(10, 3).await.unwrap();
    measured(async || {
        let before = ambassador.servers("rng").await.unwrap();
        within(coins::rate().await.unwrap(), 25.0, 31.0, "hashes/s with 10 workers and 3 rng")?;
        let after = ambassador.servers("rng").await.unwrap();
        let counts: Vec<u64> =
            after.iter().map(|(name, server)| server.sessions - before[name].sessions).collect();
        let total: u64 = counts.iter().sum();
        for count in counts {
            #[allow(clippy::cast_precision_loss, reason = "some hundred requests")]
            let share = count as f64 / total as f64 * 100.0;
            within(share, 31.3, 35.4, "share of one of three rng in %")?;
        }
        Ok(())
    })
    .await;

    settle(10, 10).await.unwrap();
    measured(async || {
        // 31 to 34 on a machine of its own. Another suite beside it may cost a fifth of the nominal 33.3, here and
        // above; one rng in place of ten gives 10.
        within(coins::rate().await.unwrap(), 26.5, 34.0, "hashes/s with 10 workers and 10 rng")
    })
    .await;
    assert_eq!(coins::worker_errors(&since).await.unwrap(), [""; 0]);
    wallet_is_honest().await;
}

/// One hash in sixteen is a coin, and every coin in the wallet is the digest of what it was mined from.
async fn wallet_is_honest() {
    let hashes = coins::hashes().await.unwrap().0;
    assert!(hashes >= 1000.0, "only {hashes} hashes");
    let wallet = coins::wallet().await.unwrap();
    for (digest, bytes) in &wallet {
        assert!(digest.starts_with('0') && bytes.len() == 32, "{digest} is no coin");
        assert_eq!(*digest, coins::sha256(bytes));
    }
    let (share, sigma) = (1.0 / 16.0, (1.0 / 16.0 * 15.0 / 16.0 / hashes).sqrt());
    // Chance alone leaves this range once in 16,000 runs.
    let (low, high) = (share - 4.0 * sigma, share + 4.0 * sigma);
    #[allow(clippy::cast_precision_loss, reason = "some hundred coins")]
    within(wallet.len() as f64 / hashes, low, high, "coins per hash").unwrap();
}

#[tokio::test]
async fn a_probe_waits_in_the_queue_of_the_workers() {
    settle(0, 1).await.unwrap();
    measured(async || within(probe("rng").await?, 0.0, 5.0, "probe of idle rng in ms")).await;
    for workers in [4_u32, 6, 10] {
        settle(workers, 1).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let queue = f64::from(workers - 3) * 100.0;
        let what = format!("probe of rng with {workers} workers in ms");
        measured(async || {
            within(probe("rng").await?, queue - 20.0, queue + 160.0, &what)?;
            within(probe("hasher").await?, 0.0, 10.0, "probe of hasher in ms")
        })
        .await;
    }
}

/// Returns the mean time in milliseconds of twenty requests for `/`, none of which may take two seconds.
async fn probe(service: &str) -> Result<f64, String> {
    let url = format!("http://{}/", compose::containers(service).await.unwrap()[0].address);
    let (mut total, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..20 {
        let took = http::get(&url).await.unwrap().took;
        slowest = slowest.max(took);
        total += took;
    }
    within(milliseconds(slowest), 0.0, 2000.0, &format!("slowest probe of {service} in ms"))?;
    Ok(milliseconds(total / 20))
}

#[tokio::test]
async fn a_worker_stops_within_a_second() {
    settle(1, 1).await.unwrap();
    let worker = &compose::containers("worker").await.unwrap()[0];
    measured(async || {
        let started = Instant::now();
        compose::docker(&["stop", &worker.id]).await.unwrap();
        let took = milliseconds(started.elapsed());
        compose::docker(&["start", &worker.id]).await.unwrap();
        within(took, 0.0, 1000.0, "docker stop of a worker in ms")
    })
    .await;
}
