//! Blocking queries: waking, waiting, giving up, and what is left behind.

use std::time::{Duration, Instant};

use consul::{Client, Error, Query, Registration, index};
use testbed::consul::Consul;

use crate::{agent, client};

/// Returns how many connections of this machine to `port` are open.
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    // Columns: number, local address, remote address, state (01 = established).
    let open = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns[2].ends_with(&remote) && columns[3] == "01"
    };
    table.lines().filter(open).count()
}

async fn until(what: &str, mut happens: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !happens() {
        assert!(Instant::now() < end, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn register(client: &Client, port: u16) {
    let registration = Registration { name: "web".into(), port, ..Registration::default() };
    client.register(&registration).await.unwrap();
}

#[tokio::test]
async fn a_change_wakes_the_query() {
    let (_agent, client) = agent();
    let mut query = Query::default();
    let mut times = Vec::new();
    for port in 1..=30 {
        let answer = client.health_service("web", &query).await.unwrap();
        query.index = index::next(query.index, answer.index);
        let waiting = tokio::spawn({
            let (client, query) = (client.clone(), query.clone());
            async move { (client.health_service("web", &query).await.unwrap(), Instant::now()) }
        });
        // Lets the query reach Consul; a query that comes late is answered at once, which would
        // flatter the measurement.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let started = Instant::now();
        register(&client, port).await;
        let (answer, seen) = waiting.await.unwrap();
        times.push(seen - started);
        assert_eq!(answer.value[0].service.port, port);
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!("register to seen: median {median:?}, worst {:?}", times[times.len() - 1]);
    // A query that nothing woke would wait for minutes.
    assert!(median < Duration::from_secs(2), "{times:?}");
}

#[tokio::test]
async fn a_query_without_a_change_ends_after_its_wait_with_the_same_index() {
    let (_agent, client) = agent();
    // A service that does not exist wakes at every change of the catalog; wait for quiet.
    let mut query = Query { wait: Duration::from_millis(300), ..Query::default() };
    let quiet = async {
        loop {
            let started = Instant::now();
            let answer = client.kv_list("none/", &query).await.unwrap();
            let next = index::next(query.index, answer.index);
            if next == query.index {
                return started.elapsed();
            }
            query.index = next;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), quiet).await.unwrap();
    assert!(waited >= query.wait && waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test]
async fn the_index_of_a_missing_key_wakes_when_the_key_comes() {
    let (_agent, client) = agent();
    let first = client.kv_get("a b", &Query::default()).await.unwrap();
    let query = Query { index: index::next(None, first.index), ..Query::default() };
    let (second, ()) = tokio::join!(client.kv_get("a b", &query), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.kv_put("a b", b"1").await.unwrap();
    });
    assert_eq!(second.unwrap().value.unwrap().value, b"1");
}

#[tokio::test]
async fn a_dropped_query_closes_its_socket() {
    let (agent, client) = agent();
    let port = agent.http_port();
    // A key changes only when we say so; an agent's catalog still does after its start, and a query
    // that is answered leaves its connection in the pool.
    client.kv_put("still", b"").await.unwrap();
    let index = client.kv_get("still", &Query::default()).await.unwrap().index;
    // For the same reason the queries are those of a client without idle connections.
    let client = crate::client(&agent.url());
    let before = connections(port);
    let query = Query { index, ..Query::default() };
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let (client, query) = (client.clone(), query.clone());
            tokio::spawn(async move { client.kv_get("still", &query).await })
        })
        .collect();
    until("the queries' connecting", || connections(port) >= before + 5).await;
    // A connection whose request was not sent yet would go to the pool, and stay open there.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for query in &waiting {
        query.abort();
    }
    until("the queries' closing", || connections(port) <= before).await;
}

#[tokio::test]
async fn a_restarted_consul_is_followed_from_its_new_index() {
    let (mut agent, client) = agent();
    for port in 1..30 {
        register(&client, port).await;
    }
    let answer = client.health_service("web", &Query::default()).await.unwrap();
    let mut query = Query {
        index: index::next(None, answer.index),
        wait: Duration::from_millis(100),
        ..Query::default()
    };
    agent.restart().unwrap();
    let follow = async {
        loop {
            // The first answers may be errors: pooled sockets are dead, the leader is new.
            let Ok(answer) = client.health_service("consul", &query).await else { continue };
            let next = index::next(query.index, answer.index);
            if query.index.is_none() && next.is_some() && answer.value.len() == 1 {
                return;
            }
            query.index = next;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), follow).await.unwrap();
}

#[tokio::test]
async fn a_frozen_consul_is_given_up_on_and_used_again_later() {
    let (agent, client) = agent();
    agent.pause().unwrap();
    let started = Instant::now();
    let error = client.leader().await.unwrap_err();
    assert!(matches!(error, Error::Request { .. }) && error.is_retryable(), "{error:?}");
    let waited = started.elapsed();
    assert!((9..20).contains(&waited.as_secs()), "{waited:?}");
    agent.resume().unwrap();
    assert!(client.leader().await.unwrap().is_some());
}

#[tokio::test]
async fn an_absent_consul_is_a_retryable_error_that_says_what_was_asked() {
    let port = testbed::consul::free_port().unwrap();
    let client = client(&format!("http://user:sesame@127.0.0.1:{port}"));
    let error = client.health_service("rng", &Query::default()).await.unwrap_err();
    assert!(error.is_retryable());
    let expected = format!("consul at http://127.0.0.1:{port} did not answer health/service/rng");
    assert_eq!(error.to_string(), expected);
    assert!(!format!("{error:?}").contains("sesame"), "{error:?}");
}

#[tokio::test]
async fn a_consul_that_takes_no_more_connections_is_a_retryable_error() {
    let limits = r#"{"limits": {"http_max_conns_per_client": 3}}"#;
    let agent = Consul::options().config(limits).start().unwrap();
    let client = client(&agent.url());
    let index = client.kv_list("", &Query::default()).await.unwrap().index;
    let query = Query { index, wait: Duration::from_secs(5), ..Query::default() };
    let asked = (0..6).map(|_| {
        let (client, query) = (client.clone(), query.clone());
        tokio::spawn(async move { client.kv_list("none/", &query).await })
    });
    let mut refused = 0;
    for answer in asked.collect::<Vec<_>>() {
        if let Err(error) = answer.await.unwrap() {
            assert!(error.is_retryable(), "{error:?}");
            refused += 1;
        }
    }
    assert!(refused > 0);
}
