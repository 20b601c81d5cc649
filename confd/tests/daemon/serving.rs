//! What is registered is served, quickly and without a reload.

use std::time::{Duration, Instant};

use testbed::haproxy::{Load, Web, programs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::{Bed, SOON, request};

#[tokio::test(flavor = "multi_thread")]
async fn instances_come_and_go_without_a_reload() {
    for program in programs() {
        come_and_go(Bed::on(program)).await;
    }
}

async fn come_and_go(mut bed: Bed) {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    bed.register("web", "a", a.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    let reloads = bed.reloads();
    bed.register("web", "b", b.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    bed.client.deregister("a").await.unwrap();
    bed.until_serving("http_web", &["b"]).await;
    bed.until("the file follows", |bed| bed.written() == ["b".to_owned()].into()).await;
    // Also the last one goes, and the next one comes, without a reload.
    bed.client.deregister("b").await.unwrap();
    bed.until_serving("http_web", &[]).await;
    bed.register("web", "a", a.address(), &["http"]).await;
    bed.until_serving("http_web", &["a"]).await;
    assert_eq!(bed.reloads(), reloads);
    let missing = |metrics: &str| {
        ["registered", "seen", "rendered", "applied"].into_iter().find(|stage| {
            let count = format!("seconds_count{{resource=\"haproxy\",stage=\"{stage}\"}} 2");
            !metrics.contains(&count)
        })
    };
    // Who was there before confd is not counted; what is served already is, a moment later.
    let end = Instant::now() + SOON;
    let mut metrics = bed.get("/metrics").await.unwrap().1;
    while missing(&metrics).is_some() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
        metrics = bed.get("/metrics").await.unwrap().1;
    }
    assert_eq!(missing(&metrics), None, "{metrics}");
    assert!(bed.metric("confd_reloads_total").await < 1.5, "more than the first reload");
    assert!(bed.metric("confd_reloads_avoided_total").await >= 4.0);
    assert_eq!(bed.get("/readyz").await.unwrap(), (200, "ready\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_the_service_that_the_host_names() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
    bed.register("one", "a", a.address(), &["http"]).await;
    bed.register("two", "b", b.address(), &["http", "v2"]).await;
    bed.start();
    bed.until_serving("http_one", &["a"]).await;
    bed.until_serving("http_two", &["b"]).await;
    for (host, answer) in [("one", "a"), ("TWO", "b"), ("one:8080", "a")] {
        let text = request(bed.front, host).await.unwrap();
        assert!(text.contains(" 200 ") && text.ends_with(answer), "{host}: {text}");
    }
    for host in ["three", "", "http_one", "one.evil"] {
        let text = request(bed.front, host).await.unwrap();
        assert!(text.contains(" 503 "), "{host}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_the_tag_is_reached_on_its_own_port() {
    let web = Web::start("plain").unwrap();
    let mut bed = Bed::new();
    let port = testbed::port::free_port().unwrap();
    let registration = consul::Registration {
        id: "p".into(),
        name: "plain".into(),
        address: web.address().ip().to_string(),
        port: web.address().port(),
        meta: [("container-port".to_owned(), port.to_string())].into(),
        ..consul::Registration::default()
    };
    bed.client.register(&registration).await.unwrap();
    bed.start();
    bed.until_serving("tcp_plain", &["p"]).await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // The link stays open, as the client and the server want it.
    let mut answer = String::new();
    while !answer.ends_with("plain") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_to_serving_takes_milliseconds() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    // Without a check HAProxy serves at once: what is left is our own time.
    let template = bed.template();
    let unchecked = template.replace(
        "\"check inter \" ~ interval ~ \" fastinter 100ms downinter 100ms fall 2 rise 1\"",
        "\"\"",
    );
    assert_ne!(template, unchecked);
    bed.write("templates/haproxy.cfg.tera", &unchecked);
    bed.register("web", "first", web.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["first"]).await;
    let reloads = bed.reloads();
    let mut times = Vec::new();
    for n in 0..40 {
        let id = format!("i{n}");
        let started = Instant::now();
        bed.register("web", &id, web.address(), &["http"]).await;
        while !bed.serving("http_web").contains(&id) {
            assert!(started.elapsed() < Duration::from_secs(5), "{}", bed.log());
        }
        times.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    times.sort();
    println!("registered to serving: median {:?}, worst {:?}", times[20], times[39]);
    assert_eq!(bed.reloads(), reloads);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_client_loses_nothing_while_instances_come_and_go() {
    let webs: Vec<Web> = (0..4).map(|n| Web::start(&n.to_string()).unwrap()).collect();
    let mut bed = Bed::new();
    bed.write(
        "templates/haproxy.cfg.tera",
        &bed.template().replace("default_backend no-such-service", "default_backend http_web"),
    );
    // The same three come and go all the time.
    bed.append("conf.d/haproxy.toml", "\n[template.flap]\nlimit = 0\n");
    bed.register("web", "0", webs[0].address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["0"]).await;
    let load = Load::start(bed.front);
    for _ in 0..10 {
        for (n, web) in webs.iter().enumerate().skip(1) {
            bed.register("web", &n.to_string(), web.address(), &["http"]).await;
        }
        bed.until_serving("http_web", &["0", "1", "2", "3"]).await;
        for n in 1..4 {
            bed.client.deregister(&n.to_string()).await.unwrap();
        }
        bed.until_serving("http_web", &["0"]).await;
    }
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_services_are_followed_with_a_hundred_connections() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.write(
        "conf.d/haproxy.toml",
        &format!(
            "[template]\nsrc = \"list.tera\"\ndest = \"{}\"\n",
            bed.folder.path().join("list").display()
        ),
    );
    bed.write("templates/list.tera", "{% for s in services() %}{% for i in service(name=s.name) %}{{ i.id }}\n{% endfor %}{% endfor %}color {{ key_or(path=\"color\", default=\"none\") }}\n");
    for n in 0..500 {
        bed.register(&format!("s{n}"), &format!("s{n}"), web.address(), &[]).await;
    }
    bed.start();
    let read =
        |bed: &Bed| std::fs::read_to_string(bed.folder.path().join("list")).unwrap_or_default();
    bed.until("all are listed", |bed| {
        read(bed).lines().filter(|line| line.starts_with('s')).count() == 500
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = bed.confd().pid();
    let sockets = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets = sockets.filter(|fd| {
        let link = std::fs::read_link(fd.as_ref().unwrap().path()).unwrap_or_default();
        link.to_string_lossy().starts_with("socket:")
    });
    let count = sockets.count();
    assert!(count < 120, "{count} sockets");
    // Wherever a service stands in the queue, its changes are seen.
    let mut worst = Duration::ZERO;
    for n in (0..500).step_by(50) {
        let id = format!("new{n}");
        bed.register(&format!("s{n}"), &id, web.address(), &[]).await;
        let took = bed
            .until("the new one is listed", |bed| read(bed).lines().any(|line| line == id))
            .await;
        worst = worst.max(took);
    }
    println!("500 services, {count} sockets: a change is written after {worst:?} at worst");
    // Two seconds, and what a busy machine adds; who has no place waits for a minute if nobody tells it of the change.
    assert!(worst < Duration::from_secs(12), "{worst:?}");
    // And so is a key, of which no change in the catalog tells.
    tokio::time::sleep(Duration::from_secs(3)).await;
    bed.client.kv_put("color", b"red").await.unwrap();
    let took = bed.until("the key is seen", |bed| read(bed).contains("color red")).await;
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_flaps_is_left_out_alone_until_it_stays() {
    let webs: Vec<Web> = (0..3).map(|n| Web::start(&n.to_string()).unwrap()).collect();
    let mut bed = Bed::new();
    bed.append("conf.d/haproxy.toml", "\n[template.flap]\nlimit = 3\nhalf_life = \"8s\"\n");
    for (n, web) in webs.iter().enumerate() {
        bed.register("web", &n.to_string(), web.address(), &["http"]).await;
    }
    bed.start();
    bed.until_serving("http_web", &["0", "1", "2"]).await;
    for _ in 0..10 {
        bed.client.deregister("2").await.unwrap();
        bed.until("it is gone", |bed| !bed.written().contains("2")).await;
        bed.register("web", "2", webs[2].address(), &["http"]).await;
        let left_out = |bed: &Bed| bed.log().contains("comes and goes");
        bed.until("it is back, or out", |bed| bed.written().contains("2") || left_out(bed)).await;
        if left_out(&bed) {
            break;
        }
    }
    bed.until("it is left out", |bed| bed.log().contains("comes and goes")).await;
    bed.until_serving("http_web", &["0", "1"]).await;
    bed.until("it is let in again", |bed| bed.log().contains("no longer left out")).await;
    bed.until_serving("http_web", &["0", "1", "2"]).await;
    assert!(bed.metric("confd_damped").await < 0.5);
}
