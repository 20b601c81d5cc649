//! Consul answers that it is asked too much, or the link to it is down: what is live stays, and what comes next is taken in.

use std::process::Command;
use std::time::Duration;

use testbed::haproxy::{Haproxy, Web, programs};
use testbed::port::free_port;
use testbed::process::Process;

use crate::bed::Bed;

/// What stands before Consul; its server `gate/open` says whether anybody is let through.
fn proxy(bed: &Bed, address: &str) -> Haproxy {
    let consul = bed.consul.http_port();
    let text = format!(
        "defaults
    mode http
    timeout connect 2s
    timeout client 5m
    timeout server 5m
frontend front
    bind {address}
    http-request deny deny_status 429 unless {{ srv_is_up(gate/open) }}
    default_backend consul
backend consul
    server consul 127.0.0.1:{consul}
backend gate
    server open 127.0.0.1:1
"
    );
    Haproxy::start(&programs()[0], &text).unwrap()
}

/// Returns how many requests have come to the proxy.
fn requests(proxy: &Haproxy) -> u64 {
    let stat = proxy.command("show stat").unwrap();
    let column = |line: &str, n: usize| line.split(',').nth(n).map(ToOwned::to_owned);
    let head = stat.lines().next().unwrap().to_owned();
    let at = head.split(',').position(|name| name == "req_tot").unwrap();
    let front = stat.lines().find(|line| line.starts_with("front,FRONTEND")).unwrap();
    column(front, at).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consul_that_is_asked_too_much_is_left_alone_for_a_while() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let proxy = proxy(&bed, &address);
    bed.environment.push(("CONSUL_HTTP_ADDR".to_owned(), format!("http://{address}")));
    bed.register("web", "a", a.address(), &["http"]).await;
    let gate = |state: &str| {
        assert_eq!(
            proxy.command(&format!("set server gate/open state {state}")).unwrap().trim(),
            ""
        );
    };
    gate("maint");
    bed.start();
    bed.until("it is told", |bed| bed.log().contains("429")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bed.until("every question is asked", |_| requests(&proxy) >= 3).await;
    let asked = requests(&proxy);
    // Three questions and the keys; each pauses 0.1 s, 0.2 s, 0.4 s and so on.
    assert!(asked < 60, "{asked} requests");
    gate("ready");
    bed.until_serving("http_web", &["a"]).await;

    // Later, too: what is served stays, and nothing is reloaded.
    let reloads = bed.reloads();
    gate("maint");
    // What was already waiting is still answered; what comes after it is not.
    bed.register("web", "b", b.address(), &["http"]).await;
    bed.client.deregister("a").await.unwrap();
    bed.until("it is told again", |bed| bed.log().matches("429").count() > asked_in(bed)).await;
    assert!(!bed.serving("http_web").is_empty());
    gate("ready");
    bed.until_serving("http_web", &["b"]).await;
    assert_eq!(bed.reloads(), reloads);
    println!("{asked} requests in two seconds of refusals");
}

/// Returns how many refusals were told before anything was served.
fn asked_in(bed: &Bed) -> usize {
    let log = bed.log();
    log.split("reloaded").next().unwrap_or_default().matches("429").count()
}

/// A network of its own for confd, and the link to it; both are removed when dropped.
struct Link {
    namespace: String,
    near: String,
}

impl Link {
    fn new() -> Self {
        let number = std::process::id() % 10_000;
        let (namespace, near) = (format!("cfd{number}"), format!("cfa{number}"));
        let link = Self { namespace, near };
        let (namespace, near, far) = (&link.namespace, &link.near, format!("cfb{number}"));
        ip(&format!("netns add {namespace}"));
        ip(&format!("link add {near} type veth peer name {far} netns {namespace}"));
        ip(&format!("addr add 10.231.7.1/30 dev {near}"));
        ip(&format!("link set {near} up"));
        ip(&format!("-n {namespace} addr add 10.231.7.2/30 dev {far}"));
        ip(&format!("-n {namespace} link set {far} up"));
        ip(&format!("-n {namespace} link set lo up"));
        link
    }

    fn set(&self, state: &str) {
        ip(&format!("link set {} {state}", self.near));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The link goes with one of its ends.
        let _ = Command::new("ip").args(["link", "del", &self.near]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_down_costs_nothing_but_its_own_time() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
    let link = Link::new();
    let address = format!("10.231.7.1:{}", free_port().unwrap());
    let proxy = proxy(&bed, &address);
    bed.environment.push(("CONSUL_HTTP_ADDR".to_owned(), format!("http://{address}")));
    bed.register("web", "a", a.address(), &["http"]).await;
    let plain = bed.command(&[]);
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", link.namespace));
    command.arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let log = std::fs::File::create(bed.folder.path().join("log")).unwrap();
    bed.confd = Some(Process::spawn(&command, Some(&log)).unwrap());
    bed.until_serving("http_web", &["a"]).await;
    let reloads = bed.reloads();

    // Nobody tells either side that the other cannot be reached.
    link.set("down");
    bed.register("web", "b", b.address(), &["http"]).await;
    bed.client.deregister("a").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.serving("http_web"), ["a".to_owned()].into());
    link.set("up");
    let took = bed.until_serving("http_web", &["b"]).await;
    println!("a link down for a second: followed {took:?} after its return");

    if std::env::var_os("STORMS").is_some() {
        // The other side forgets its connections meanwhile, and nothing of its farewell arrives: only asking whether
        // it is still there finds out, after twenty seconds of silence.
        link.set("down");
        drop(proxy);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let proxy = self::proxy(&bed, &address);
        bed.register("web", "c", a.address(), &["http"]).await;
        link.set("up");
        let started = std::time::Instant::now();
        while bed.serving("http_web").len() < 2 {
            assert!(started.elapsed() < Duration::from_secs(100), "{}", bed.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!(
            "connections that one side forgot: followed {:?} after the return",
            started.elapsed()
        );
        drop(proxy);
    }
    assert_eq!(bed.reloads(), reloads);
}
