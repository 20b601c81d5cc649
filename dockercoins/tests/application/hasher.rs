//! hasher: the right digest, for many at once.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::stack::{Http, Program, assert_quickest, assert_succeeds};

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[tokio::test]
async fn a_sign_of_life_comes_at_once() {
    let (_hasher, address) = Program::serve(&["hasher"]).await;
    let http = Http::new();
    let url = format!("http://{address}/");
    assert!(http.get(&url).await.text().starts_with("HASHER running on "));
    assert_quickest(0..=20, async || http.get(&url).await.took).await;
    assert_eq!(http.request("PUT", &url, vec![1]).await.unwrap().status, 405);
    assert_eq!(http.get(&format!("{url}abc")).await.status, 404);
}

#[tokio::test]
async fn the_digest_is_that_of_the_raw_body() {
    let (_hasher, address) = Program::serve(&["hasher"]).await;
    let http = Http::new();
    let url = format!("http://{address}/");
    let hello = http.post(&url, b"hello").await;
    assert_eq!((hello.status, hello.text().as_str()), (200, HELLO));
    assert_eq!(hello.header("content-type"), "text/plain;charset=utf-8");
    assert_eq!(hello.header("content-length"), "64");

    // Longer than what servers usually accept, and full of bytes that are no text.
    let long: Vec<u8> = (0..=255).cycle().take(20 << 20).collect();
    for body in [Vec::new(), b"\r\n\0\xff".to_vec(), long] {
        let digest = format!("{:x}", Sha256::digest(&body));
        assert_eq!(http.post(&url, &body).await.text(), digest);
    }
}

#[tokio::test]
async fn ten_at_once_take_no_longer_than_one() {
    let (_hasher, address) = Program::serve(&["hasher"]).await;
    let http = Http::new();
    let url = format!("http://{address}/");
    http.get(&url).await;
    assert_quickest(100..=300, async || {
        let started = Instant::now();
        let requests: Vec<_> = (0..10)
            .map(|n| {
                let (http, url) = (http.clone(), url.clone());
                tokio::spawn(async move { http.post(&url, &[n]).await })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap().status, 200);
        }
        started.elapsed()
    })
    .await;
}

#[tokio::test]
async fn a_signal_lets_requests_finish() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert_succeeds(async || {
            let (hasher, address) = Program::serve(&["hasher"]).await;
            let silent = tokio::net::TcpStream::connect(address).await.unwrap();
            let url = format!("http://{address}/");
            let http = Http::new();
            http.get(&url).await;
            let first = url.clone();
            let request =
                tokio::spawn(async move { http.request("POST", &first, b"hello".to_vec()).await });
            tokio::time::sleep(Duration::from_millis(50)).await;
            hasher.signal(signal);
            // Nor is somebody refused who does not know yet that it ends.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let late = Http::new().request("POST", &url, b"hello".to_vec()).await;
            let answers = [request.await.unwrap(), late];
            hasher.assert_ends_soon();
            drop(silent);
            for answer in answers {
                let answer = answer.map_err(|error| format!("{signal}: {error}"))?;
                assert_eq!(answer.text(), HELLO);
            }
            Ok(())
        })
        .await;
    }
}
