//! Consul, HAProxy or the disk are away: the last good state stays, and is used.

use std::time::Duration;

use testbed::consul::Consul;
use testbed::haproxy::Web;

use crate::bed::{Bed, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn consul_away_changes_nothing_and_its_return_is_noticed() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::with(Consul::options().persistent().start().unwrap());
    bed.register("web", "a", a.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    bed.consul.kill().unwrap();
    bed.until("the outage is reported", |bed| bed.log().contains("will retry")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.until_serving("http_web", &["a"]).await;
    bed.consul.restart().unwrap();
    bed.register("web", "b", b.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_consul_confd_starts_from_what_was_accepted_last() {
    let (mut bed, _web) = Bed::serving_web().await;
    bed.until("it is remembered", |bed| bed.log().contains(" accepted resource=")).await;
    bed.confd().stop().unwrap();
    bed.consul.kill().unwrap();
    // The ambassador's folder is new: no file, an HAProxy that knows nothing.
    bed.haproxy.write("defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n").unwrap();
    bed.haproxy.restart().unwrap();
    assert!(bed.serving("http_web").is_empty());
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    assert_eq!(bed.written(), ["a".to_owned()].into());
}

/// A server that has just started may answer from a catalog that it has not read yet.
#[tokio::test(flavor = "multi_thread")]
async fn confd_and_consul_that_come_back_together_never_empty_a_backend() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::with(Consul::options().persistent().start().unwrap());
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    bed.until("it is remembered", |bed| bed.log().contains(" accepted resource=")).await;
    for _ in 0..2 {
        bed.consul.kill().unwrap();
        bed.confd().stop().unwrap();
        bed.start();
        bed.consul.restart().unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(3);
        while std::time::Instant::now() < end {
            assert_eq!(bed.serving("http_web"), ["a".to_owned()].into());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// It has nothing to compare the first answer with but what it remembers.
#[tokio::test(flavor = "multi_thread")]
async fn confd_that_restarts_beside_a_consul_that_lost_its_data_serves_on() {
    const ALL: [&str; 4] = ["a", "b", "c", "d"];
    let web = Web::start("web").unwrap();
    let mut bed = Bed::new();
    // Again and again, so that Consul's index is higher than that of one that has just been started.
    for tag in ["v1", "v2", "v3", "v4", "v5"] {
        for name in ALL {
            bed.register("web", name, web.address(), &["http", tag]).await;
        }
    }
    bed.start();
    bed.until_serving("http_web", &ALL).await;
    bed.until("it is remembered", |bed| bed.log().contains(" accepted resource=")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.consul.kill().unwrap();
    bed.confd().stop().unwrap();
    bed.consul.restart().unwrap();
    bed.start();
    bed.until("it is held", |bed| bed.log().contains("holding what vanished at once")).await;
    let end = std::time::Instant::now() + Duration::from_secs(2);
    while std::time::Instant::now() < end {
        assert_eq!(bed.serving("http_web"), ALL.map(str::to_owned).into());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn confd_that_starts_before_consul_waits_for_it() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::with(Consul::options().persistent().start().unwrap());
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.consul.stop().unwrap();
    bed.start();
    bed.until("it says that it waits", |bed| bed.log().contains("will retry")).await;
    // It listens a moment later than it speaks.
    let started = std::time::Instant::now();
    while bed.get("/healthz").await.is_none_or(|(status, _)| status != 200) {
        assert!(started.elapsed() < SOON, "nobody listens\n{}", bed.log());
    }
    assert_eq!(bed.get("/readyz").await.unwrap().0, 503);
    bed.consul.restart().unwrap();
    bed.until_serving("http_web", &["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_that_died_is_brought_up_to_date_when_it_is_back() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
    bed.register("web", "a", a.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    bed.until("the reload is over", |bed| bed.log().contains("reloaded")).await;
    bed.haproxy.kill_worker().unwrap();
    bed.register("web", "b", b.address(), &["http"]).await;
    bed.until("the file follows", |bed| bed.written().contains("b")).await;
    bed.haproxy.restart().unwrap();
    bed.until_serving("http_web", &["a", "b"]).await;
    bed.client.deregister("a").await.unwrap();
    bed.until_serving("http_web", &["b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consul_that_lost_its_data_empties_nothing() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    let names: Vec<String> = (0..6).map(|n| format!("i{n}")).collect();
    for name in &names {
        bed.register("web", name, web.address(), &["http"]).await;
    }
    bed.age_consul().await;
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    bed.start();
    bed.until_serving("http_web", &all).await;
    bed.consul.kill().unwrap();
    bed.consul.restart().unwrap();
    assert!(
        bed.client.health_service("web", &consul::Query::default()).await.unwrap().value.is_empty()
    );
    bed.until("the removal is held", |bed| bed.log().contains("holding what vanished")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    bed.until_serving("http_web", &all).await;
    assert!(bed.metric("confd_guard_holding").await >= 1.0);
    // They come back one by one, as they do when registrators notice.
    for name in &names {
        bed.register("web", name, web.address(), &["http"]).await;
    }
    bed.until("nothing is held any more", |bed| bed.log().contains("no longer held")).await;
    bed.client.deregister("i5").await.unwrap();
    bed.until_serving("http_web", &all[..5]).await;
}

/// Its index says nothing then: more has happened since than before.
#[tokio::test(flavor = "multi_thread")]
async fn a_young_consul_that_lost_its_data_empties_nothing_either() {
    let web = Web::start("web").unwrap();
    let mut bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    bed.consul.kill().unwrap();
    bed.until("it is missed", |bed| {
        bed.log().contains("service web") && bed.log().contains("will retry")
    })
    .await;
    bed.confd().signal(nix::sys::signal::Signal::SIGSTOP).unwrap();
    bed.consul.restart().unwrap();
    for n in 0..60 {
        bed.register("other", "o", web.address(), &["http", &format!("v{n}")]).await;
    }
    bed.confd().signal(nix::sys::signal::Signal::SIGCONT).unwrap();
    bed.until_serving("http_other", &["o"]).await;
    bed.until("it is held", |bed| bed.log().contains("consul was away")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bed.serving("http_web"), ["a".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_stop_that_consul_confirms_is_followed_at_once() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    let names: Vec<String> = (0..6).map(|n| format!("i{n}")).collect();
    for name in &names {
        bed.register("web", name, web.address(), &["http"]).await;
    }
    bed.start();
    bed.until("all serve", |bed| bed.serving("http_web").len() == 6).await;
    for name in &names[1..] {
        bed.client.deregister(name).await.unwrap();
    }
    bed.until_serving("http_web", &["i0"]).await;
    assert!(!bed.log().contains("holding"));
}
