//! rng: serial, quick to refuse, and gone within a second.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stack::{Http, Program, assert_quickest, assert_succeeds, assert_took};

#[tokio::test]
async fn a_sign_of_life_comes_at_once() {
    let (_rng, address) = Program::serve(&["rng"]).await;
    let http = Http::new();
    let url = format!("http://{address}/");
    let answer = http.get(&url).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("RNG running on ") && answer.text().ends_with('\n'));
    assert_quickest(0..=20, async || http.get(&url).await.took).await;

    let head = http.request("HEAD", &url, Vec::new()).await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn random_bytes_take_a_tenth_of_a_second_however_many() {
    let (_rng, address) = Program::serve(&["rng"]).await;
    let http = Http::new();
    let ten = http.get(&format!("http://{address}/10")).await;
    assert_eq!((ten.status, ten.body.len()), (200, 10));
    assert_eq!(ten.header("content-type"), "application/octet-stream");
    assert_eq!(ten.header("content-length"), "10");
    assert_eq!(ten.header("connection"), "close");
    assert_took(ten.took, 100..=3000);
    let url = format!("http://{address}/1000");
    assert_quickest(100..=160, async || http.get(&url).await.took).await;
    assert_ne!(ten.body, http.get(&format!("http://{address}/10")).await.body);

    let none = http.get(&format!("http://{address}/0")).await;
    assert_eq!((none.status, none.header("content-length")), (200, "0"));
    let most = http.get(&format!("http://{address}/16777216")).await;
    assert_eq!((most.status, most.body.len()), (200, 16 << 20));
}

#[tokio::test]
async fn what_is_no_number_of_bytes_is_refused_at_once() {
    let (_rng, address) = Program::serve(&["rng"]).await;
    let http = Http::new();
    let paths = [
        ("-1", 404),
        ("abc", 404),
        ("32/32", 404),
        ("16777217", 413),
        ("99999999999999999999", 413),
    ];
    for (path, status) in paths {
        assert_quickest(0..=80, async || {
            let answer = http.get(&format!("http://{address}/{path}")).await;
            assert_eq!(answer.status, status, "{path}");
            answer.took
        })
        .await;
    }
    for method in ["POST", "PUT", "DELETE"] {
        let answer = http.request(method, &format!("http://{address}/32"), vec![1; 10]).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method}");
    }
}

#[tokio::test]
async fn five_at_once_are_served_one_after_the_other() {
    let (_rng, address) = Program::serve(&["rng"]).await;
    let http = Http::new();
    let url = format!("http://{address}/32");
    http.get(&format!("http://{address}/")).await;
    let mut all = Vec::new();
    // A machine that is busy with something else may be late; never is one early.
    for _ in 0..4 {
        let requests: Vec<_> = (0..5)
            .map(|_| {
                let (http, url) = (http.clone(), url.clone());
                tokio::spawn(async move { http.get(&url).await })
            })
            .collect();
        let mut ends = Vec::new();
        for request in requests {
            ends.push(request.await.unwrap().took.as_millis());
        }
        ends.sort_unstable();
        for (place, took) in (1..).zip(&ends) {
            assert!(*took >= place * 100 - 5, "served at the same time: {ends:?}");
        }
        if (1..).zip(&ends).all(|(place, took)| *took <= place * 100 + 60) {
            return;
        }
        all.push(ends);
    }
    panic!("late each time, in milliseconds: {all:?}");
}

#[tokio::test]
async fn a_silent_connection_is_cut_and_the_next_one_served() {
    let (_rng, address) = Program::serve(&["rng"]).await;
    let next = Http::new();
    let url = format!("http://{address}/");
    for begun in ["", "GET /32 HTTP/1.1\r\nHost:"] {
        let started = Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Its end may be a reset: it is cut either way.
        let (_, next) = tokio::join!(silent.read_to_end(&mut answer), next.get(&url));
        assert_took(started.elapsed(), 1000..=5000);
        assert_eq!(next.status, 200);
        assert_took(next.took, 900..=5000);
    }
}

#[tokio::test]
async fn connections_that_only_look_cost_nothing() {
    let (_rng, address) = Program::serve(&["rng"]).await;
    let http = Http::new();
    http.get(&format!("http://{address}/")).await;
    assert_quickest(0..=60, async || {
        for _ in 0..100 {
            drop(TcpStream::connect(address).await.unwrap());
        }
        http.get(&format!("http://{address}/")).await.took
    })
    .await;
}

#[tokio::test]
async fn two_hundred_clients_can_queue_without_being_turned_away() {
    // A client that is turned away tries again after a second.
    assert_quickest(0..=900, async || {
        let (_rng, address) = Program::serve(&["rng"]).await;
        let mut queue = Vec::new();
        let started = Instant::now();
        for _ in 0..200 {
            queue.push(TcpStream::connect(address).await.unwrap());
        }
        started.elapsed()
    })
    .await;
}

#[tokio::test]
async fn a_signal_lets_the_queue_be_served_and_turns_new_clients_away() {
    assert_succeeds(async || {
        let (rng, address) = Program::serve(&["rng"]).await;
        let http = Http::new();
        let url = format!("http://{address}/32");
        http.get(&format!("http://{address}/")).await;
        let requests: Vec<_> = (0..5)
            .map(|_| {
                let (http, url) = (http.clone(), url.clone());
                tokio::spawn(async move { http.request("GET", &url, Vec::new()).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        rng.signal(Signal::SIGTERM);
        // One that is let in leaves at once, and costs the others nothing.
        while TcpStream::connect(address).await.is_ok() {
            if requests.iter().all(tokio::task::JoinHandle::is_finished) {
                return Err("a new client was let in".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let turned_away_before = requests.iter().any(|request| !request.is_finished());
        for request in requests {
            let answer = request.await.unwrap().map_err(|error| error.to_string())?;
            assert_eq!(answer.body.len(), 32);
        }
        rng.assert_ends_soon();
        turned_away_before.then_some(()).ok_or_else(|| "the queue was served before".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_signal_ends_it_soon_even_before_a_long_queue() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (rng, address) = Program::serve(&["rng"]).await;
        let silent = TcpStream::connect(address).await.unwrap();
        let mut queue = Vec::new();
        // Ten seconds of work.
        for _ in 0..100 {
            let mut waiting = TcpStream::connect(address).await.unwrap();
            waiting.write_all(b"GET /32 HTTP/1.1\r\nHost: rng\r\n\r\n").await.unwrap();
            queue.push(waiting);
        }
        rng.signal(signal);
        rng.assert_ends_soon();
        drop(silent);
    }
}
