//! What is registered is served, quickly and without a reload.

use std::time::{Duration, Instant};

use testbed::haproxy::{Load, Web};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn instances_come_and_go_without_a_reload() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
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
    assert!(bed.metric("confd_event_to_serving_seconds_count").await >= 9.0);
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
        let text = request(&bed, host).await;
        assert!(text.contains(" 200 ") && text.ends_with(answer), "{host}: {text}");
    }
    for host in ["three", "", "http_one", "one.evil"] {
        let text = request(&bed, host).await;
        assert!(text.contains(" 503 "), "{host}: {text}");
    }
}

async fn request(bed: &Bed, host: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(bed.front).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.trim_end().to_owned()
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
        "\"check inter \" ~ interval ~ \" fastinter 100ms downinter 500ms fall 2 rise 1\"",
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
    assert!(times[20] < Duration::from_millis(40), "{times:?}");
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
    bed.write("templates/list.tera", "{% for s in services() %}{% for i in service(name=s.name) %}{{ i.id }}\n{% endfor %}{% endfor %}");
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
    assert!(worst < Duration::from_secs(5), "{worst:?}");
}
