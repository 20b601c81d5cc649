//! The stock template as an edge: what labels and operators may say, on every HAProxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use consul::Registration;
use testbed::haproxy::{Web, get, programs};

use crate::bed::{Bed, SOON, request};

pub(crate) async fn register(bed: &Bed, id: &str, web: &Web, more: (&str, &[(&str, &str)])) {
    let meta = more.1.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let registration = Registration {
        id: id.to_owned(),
        name: id.split('-').next().unwrap().to_owned(),
        address: web.address().ip().to_string(),
        port: web.address().port(),
        tags: vec!["http".to_owned(), more.0.to_owned()],
        meta: meta.collect::<BTreeMap<_, _>>(),
        ..Registration::default()
    };
    bed.client.register(&registration).await.unwrap();
}

/// Registers an instance on another node, as that node's agent would.
async fn elsewhere(bed: &Bed, id: &str, web: &Web) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = serde_json::json!({
        "Node": "elsewhere",
        "Address": web.address().ip(),
        "Service": {
            "ID": id,
            "Service": id.split('-').next(),
            "Address": web.address().ip(),
            "Port": web.address().port(),
            "Tags": ["http"],
        },
    })
    .to_string();
    let consul = SocketAddr::from(([127, 0, 0, 1], bed.consul.http_port()));
    let mut stream = tokio::net::TcpStream::connect(consul).await.unwrap();
    let head = format!("Host: consul\r\nConnection: close\r\nContent-Length: {}", body.len());
    let request = format!("PUT /v1/catalog/register HTTP/1.1\r\n{head}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Asks for a path of a host and returns who answered.
pub(crate) async fn who(front: SocketAddr, host: &str, path: &str) -> String {
    as_client(("127.0.0.1", front), host, (path, "")).await.0
}

/// Asks as the client at an address, with a cookie (`NAME=VALUE`) or without (`""`), and returns who answered and
/// the cookie that came with it.
async fn as_client(
    (address, front): (&str, SocketAddr),
    host: &str,
    (path, cookie): (&str, &str),
) -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(front).await.unwrap();
    let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let set = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then(|| value.to_owned())
    });
    (answer.lines().last().unwrap_or_default().to_owned(), set.unwrap_or_default())
}

/// Sends a request as `as_client` does that is answered without end, and returns its connection after the first bytes.
async fn hold(address: &str, front: SocketAddr, host: &str, cookie: &str) -> tokio::net::TcpStream {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(front).await.unwrap();
    let text = format!("GET /hold HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
    stream
}

/// The file that was accepted, judged by every HAProxy.
pub(crate) fn judged(bed: &Bed) -> String {
    let path = bed.haproxy.folder().join("haproxy.cfg");
    for program in programs() {
        let mut command = Command::new(&program.path);
        let output = command.args(["-c", "-q", "-f"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", program.version);
    }
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_route_and_share_out_and_change_nothing_else() {
    let mut bed = Bed::new();
    let (shop, cart, rng) =
        (Web::start("shop").unwrap(), Web::start("cart").unwrap(), Web::start("rng").unwrap());
    let labels = [
        ("http_host", "Shop.example,rng,bad host}"),
        ("lb_balance", "leastconn"),
        ("lb_check", "/health"),
        ("lb_sticky", "cookie:SID"),
    ];
    register(&bed, "shop-1", &shop, ("", &labels)).await;
    let labels = [("http_host", "shop.example"), ("http_path", "/cart"), ("lb_sticky", "source")];
    register(&bed, "cart-1", &cart, ("", &labels)).await;
    let hostile = [
        ("http_host", "x\n    bind :1"),
        ("http_path", "/a } { b"),
        ("lb_balance", "static-rr\nfoo"),
        ("lb_check", "/x HTTP/1.0\\r\\nHost:\\ evil"),
        ("lb_sticky", "cookie:a) -m found"),
    ];
    register(&bed, "rng-1", &rng, ("", &hostile)).await;
    bed.start();
    for backend in ["http_shop", "http_cart", "http_rng"] {
        let server = format!("{}-1", &backend[5..]);
        bed.until_serving(backend, &[&server]).await;
    }
    for (host, path, name) in [
        ("shop.example", "/", "shop"),
        ("SHOP.example:8080", "/cartoon", "shop"),
        ("shop.example", "/cart", "cart"),
        ("shop.example", "/cart/1", "cart"),
        ("shop", "/cart", "shop"),
        ("rng", "/", "rng"),
        ("elsewhere.example", "/cart", "no such service"),
    ] {
        // On a busy machine a check may be late, and its server have nothing for a moment.
        let end = Instant::now() + SOON;
        let mut answer = who(bed.front, host, path).await;
        while answer != name && Instant::now() < end {
            answer = who(bed.front, host, path).await;
        }
        assert_eq!(answer, name, "{host}{path}");
    }
    let text = judged(&bed);
    for line in [
        "    balance leastconn\n",
        "    option httpchk GET /health\n",
        "    stick on src\n",
        "    stick match req.cook(SID)\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(
        !text.contains("evil") && !text.contains("bind :1") && !text.contains("static-rr"),
        "{text}"
    );
    bed.until("it is checked by the path that its label names", |_| shop.checks() > 0).await;

    let page = get(bed.stats, "/").unwrap();
    assert!(page.contains(&shop.address().to_string()), "the page tells servers' addresses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_moves_traffic_from_one_tag_to_another_without_a_reload() {
    let mut bed = Bed::new();
    let (blue, green) = (Web::start("blue").unwrap(), Web::start("green").unwrap());
    register(&bed, "web-blue", &blue, ("v1", &[])).await;
    register(&bed, "web-green", &green, ("v2", &[])).await;
    bed.client.kv_put("weights/web", br#"{"v1":100,"v2":0}"#).await.unwrap();
    bed.start();
    bed.until_serving("http_web", &["web-blue"]).await;
    let reloads = bed.reloads();
    let count = async |bed: &Bed| {
        let mut greens = 0;
        for _ in 0..40 {
            let answer = request(bed.front, "web").await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            greens += usize::from(answer.ends_with("green"));
        }
        greens
    };
    assert_eq!(count(&bed).await, 0);
    bed.client.kv_put("weights/web", br#"{"v1":50,"v2":50}"#).await.unwrap();
    bed.until_serving("http_web", &["web-blue", "web-green"]).await;
    let half = count(&bed).await;
    assert!((18..=22).contains(&half), "{half} of 40");
    bed.client.kv_put("weights/web", br#"{"v1":0,"v2":100}"#).await.unwrap();
    bed.until_serving("http_web", &["web-green"]).await;
    assert_eq!(count(&bed).await, 40);
    bed.client.kv_delete("weights/web").await.unwrap();
    bed.until_serving("http_web", &["web-blue", "web-green"]).await;
    assert_eq!(bed.reloads(), reloads);
    judged(&bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_with_its_instance_by_its_address_or_its_cookie_until_that_instance_goes() {
    for program in programs() {
        stay(Bed::on(program)).await;
    }
}

async fn stay(mut bed: Bed) {
    let webs = ["one", "two", "three"].map(|name| Web::start(name).unwrap());
    for (web, name) in webs.iter().zip(["one", "two", "three"]) {
        let (address, cookie) = ([("lb_sticky", "source")], [("lb_sticky", "cookie:SID")]);
        register(&bed, &format!("home-{name}"), web, ("", &address)).await;
        register(&bed, &format!("shop-{name}"), web, ("", &cookie)).await;
    }
    bed.start();
    bed.until_serving("http_home", &["home-one", "home-two", "home-three"]).await;
    bed.until_serving("http_shop", &["shop-one", "shop-two", "shop-three"]).await;
    let front = bed.front;

    // Nine clients by their addresses: all instances have some, and each client has one.
    let mut homes = BTreeMap::new();
    for _ in 0..4 {
        for client in 1..10 {
            let address = format!("127.0.1.{client}");
            let (name, _) = as_client((&address, front), "home", ("/", "")).await;
            assert_eq!(*homes.entry(address).or_insert(name.clone()), name);
        }
    }
    assert_eq!(homes.values().collect::<std::collections::BTreeSet<_>>().len(), 3, "{homes:?}");

    // Nine visitors from one address by the cookies they were given; strangers are shared out.
    let mut visitors = BTreeMap::new();
    for visitor in 0..9 {
        let path = format!("/login/SID={visitor}");
        let (name, cookie) = as_client(("127.0.0.1", front), "shop", (&path, "")).await;
        assert_eq!(cookie, format!("SID={visitor}"));
        visitors.insert(cookie, name);
    }
    assert_eq!(visitors.values().collect::<std::collections::BTreeSet<_>>().len(), 3);
    for (cookie, name) in visitors.iter().chain(&visitors).chain(&visitors) {
        assert_eq!(as_client(("127.0.0.1", front), "shop", ("/", cookie)).await.0, *name);
    }

    // Only those of the instance that goes move, at once though somebody keeps it from going, and nobody is refused.
    let on_two = |(key, name): (&String, &String)| (name == "two").then(|| key.clone());
    let address = homes.iter().find_map(on_two).unwrap();
    let cookie = visitors.iter().find_map(on_two).unwrap();
    let _held =
        [hold(&address, front, "home", "").await, hold("127.0.0.1", front, "shop", &cookie).await];
    for service in ["home", "shop"] {
        bed.client.deregister(&format!("{service}-two")).await.unwrap();
        let left = ["one", "three"].map(|name| format!("{service}-{name}"));
        bed.until_serving(&format!("http_{service}"), &[&left[0], &left[1]]).await;
    }
    for _ in 0..2 {
        let there = [(address.as_str(), "home", ""), ("127.0.0.1", "shop", cookie.as_str())];
        for (address, host, cookie) in there {
            let started = std::time::Instant::now();
            while as_client((address, front), host, ("/", cookie)).await.0 == "two" {
                assert!(started.elapsed() < SOON, "{host}: sticks to what drains\n{}", bed.log());
            }
        }
    }
    for (address, name) in &homes {
        let (now, _) = as_client((address, front), "home", ("/", "")).await;
        assert!(
            if name == "two" { now != "two" } else { now == *name },
            "{address}: {name}, {now}"
        );
    }
    for (cookie, name) in &visitors {
        let (now, _) = as_client(("127.0.0.1", front), "shop", ("/", cookie)).await;
        assert!(if name == "two" { now != "two" } else { now == *name }, "{cookie}: {name}, {now}");
    }
    assert!(bed.metric("confd_reloads_total").await < 1.5, "more than the first reload");
}

#[tokio::test(flavor = "multi_thread")]
async fn near_instances_have_all_requests_until_none_of_them_works() {
    for program in programs() {
        let mut bed = Bed::on(program);
        let own = bed.consul.node().to_owned();
        bed.environment.push(("NEAR".to_owned(), own));
        let (near, far) = (Web::start("near").unwrap(), Web::start("far").unwrap());
        register(&bed, "web-near", &near, ("", &[])).await;
        elsewhere(&bed, "web-far", &far).await;
        bed.start();
        bed.until_serving("http_web", &["web-near", "web-far"]).await;
        for _ in 0..10 {
            assert_eq!(who(bed.front, "web", "/").await, "near");
        }
        // The request that finds it dead is answered too.
        drop(near);
        for _ in 0..10 {
            assert_eq!(who(bed.front, "web", "/").await, "far");
        }
        let near = Web::start("near").unwrap();
        register(&bed, "web-near", &near, ("", &[])).await;
        let started = std::time::Instant::now();
        while who(bed.front, "web", "/").await != "near" {
            assert!(started.elapsed() < SOON, "the near one has none again\n{}", bed.log());
        }
        for _ in 0..10 {
            assert_eq!(who(bed.front, "web", "/").await, "near");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_of_the_named_node_are_preferred() {
    let mut bed = Bed::new();
    bed.environment.push(("NEAR".to_owned(), "elsewhere".to_owned()));
    let (one, two) = (Web::start("one").unwrap(), Web::start("two").unwrap());
    register(&bed, "web-one", &one, ("", &[])).await;
    register(&bed, "web-two", &two, ("", &[])).await;
    bed.start();
    bed.until_serving("http_web", &["web-one", "web-two"]).await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..6 {
        names.insert(request(bed.front, "web").await.unwrap().lines().last().unwrap().to_owned());
    }
    assert_eq!(names.len(), 2, "where the node has none, all others serve");
    let text = judged(&bed);
    assert_eq!(text.matches(" backup\n").count(), 2, "{text}");
}
