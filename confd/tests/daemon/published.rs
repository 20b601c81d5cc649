//! What is served is told to others: in Consul's keys, which live as long as the daemon, and by `confd status`.

use consul::Query;
use serde_json::Value;
use testbed::haproxy::Web;
use tokio::io::AsyncWriteExt;

use crate::bed::{Bed, SOON};

const KEY: &str = "ambassadors/node1/haproxy";

async fn published(bed: &Bed) -> Option<Value> {
    let pair = bed.client.kv_get(KEY, &Query::default()).await.unwrap().value?;
    Some(serde_json::from_slice(&pair.value).unwrap())
}

/// Waits until an instance of the service web is told to be in `state`; `None` = not mentioned.
async fn until_told(bed: &Bed, instance: &str, state: Option<&str>) -> Value {
    until_document(bed, |document| document["backends"]["http_web"][instance].as_str() == state)
        .await
}

/// Waits until what is told is as wanted, and returns it.
async fn until_document(bed: &Bed, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = std::time::Instant::now();
    loop {
        let document = published(bed).await.unwrap_or_default();
        if !document.is_null() && wanted(&document) {
            return document;
        }
        assert!(started.elapsed() < SOON, "{document}\n{}", bed.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_instance_is_served_is_published_until_its_last_connection_has_ended() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
    bed.register("web", "node1:a:80", a.address(), &["http"]).await;
    bed.start();
    until_told(&bed, "node1:a:80", Some("serving")).await;
    // It serves before it is on the disk.
    let remembered = |document: &Value| document["generation"].as_u64() >= Some(1);
    let document = until_document(&bed, remembered).await;
    assert_eq!(document["node"], "node1");
    assert!(document["applied_at"].is_string() && document["error"].is_null(), "{document}");

    // A request that takes its time keeps its server, and others see that.
    let mut held = tokio::net::TcpStream::connect(bed.front).await.unwrap();
    held.write_all(b"GET /hold HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    bed.until("the request is there", |_| a.requests() > 0).await;
    bed.register("web", "node1:b:80", b.address(), &["http"]).await;
    until_told(&bed, "node1:b:80", Some("serving")).await;
    bed.client.deregister("node1:a:80").await.unwrap();
    until_told(&bed, "node1:a:80", Some("draining")).await;
    let status = bed.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(status.to_string().contains("draining"), "{status}");
    drop(held);
    let document = until_told(&bed, "node1:a:80", None).await;
    assert_eq!(document["backends"]["http_web"]["node1:b:80"], "serving");

    drop(b);
    until_told(&bed, "node1:b:80", Some("down")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_starts_again_goes_on_with_its_keys() {
    let a = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.register("web", "a", a.address(), &["http"]).await;
    bed.start();
    until_told(&bed, ":node1:a", Some("serving")).await;
    bed.confd().kill().unwrap();
    bed.start();
    bed.client.deregister("a").await.unwrap();
    until_told(&bed, ":node1:a", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_haproxy_notices_is_told_too_and_no_key_more_than_once_a_second() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
    let labels = [("lb_check", "/health")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    for (id, web) in [("a", &a), ("b", &b)] {
        let registration = consul::Registration {
            id: id.to_owned(),
            name: "web".to_owned(),
            address: web.address().ip().to_string(),
            port: web.address().port(),
            tags: vec!["http".to_owned()],
            meta: labels.clone().into(),
            ..consul::Registration::default()
        };
        bed.client.register(&registration).await.unwrap();
    }
    bed.start();
    until_told(&bed, ":node1:a", Some("serving")).await;
    until_told(&bed, ":node1:b", Some("serving")).await;
    let mut times = std::collections::BTreeSet::new();
    let mut told = Vec::new();
    for round in 0..4 {
        b.set_healthy(round % 2 == 1);
        let wanted = if round % 2 == 1 { "serving" } else { "down" };
        let started = std::time::Instant::now();
        loop {
            let document = published(&bed).await.unwrap();
            let at = humantime::parse_rfc3339(document["published_at"].as_str().unwrap()).unwrap();
            times.insert(at);
            if document["backends"]["http_web"][":node1:b"] == wanted {
                break;
            }
            assert!(started.elapsed() < SOON, "{document}\n{}", bed.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        told.push(started.elapsed());
    }
    println!("a check that fails or passes is told after {told:?}");
    let times: Vec<_> = times.into_iter().collect();
    for pair in times.windows(2) {
        let between = pair[1].duration_since(pair[0]).unwrap();
        // Both are noted in milliseconds, each a moment after the look that it follows.
        assert!(between.as_millis() > 800, "two writes within {between:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_of_a_resource_that_went_meanwhile_goes_with_the_next_start() {
    let mut bed = Bed::new();
    let dest = bed.folder.path().join("hello");
    bed.write("templates/hello.tera", "hello");
    let text = format!("[template]\nsrc = \"hello.tera\"\ndest = \"{}\"\n", dest.display());
    bed.write("conf.d/hello.toml", &text);
    bed.start();
    let there = async |bed: &Bed, key: &str| {
        bed.client.kv_get(key, &Query::default()).await.unwrap().value.is_some()
    };
    let until = async |bed: &Bed, key: &str, wanted: bool| {
        let started = std::time::Instant::now();
        while there(bed, key).await != wanted {
            assert!(started.elapsed() < SOON * 2, "{key}: not {wanted}\n{}", bed.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let gone = "ambassadors/node1/hello";
    until(&bed, gone, true).await;
    until(&bed, KEY, true).await;
    // Nobody's of ours, in the same place.
    bed.client.kv_put("ambassadors/node1/other", b"{}").await.unwrap();
    bed.confd().kill().unwrap();
    std::fs::remove_file(bed.confdir().join("conf.d/hello.toml")).unwrap();
    bed.start();
    until(&bed, gone, false).await;
    assert!(there(&bed, KEY).await && there(&bed, "ambassadors/node1/other").await);
}
