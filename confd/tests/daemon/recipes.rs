//! The recipes of templates/recipes: rendered from a real Consul, judged by the programs that read the result.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use consul::{Client, Registration};
use testbed::haproxy::Web;
use testbed::port::free_port;
use testbed::process::Process;

use crate::bed::Bed;

/// Makes a recipe the only resource, its paths below the test's folder; returns where its result goes.
fn use_recipe(bed: &Bed, name: &str, dest: &str, more: &[(&str, &str)]) -> PathBuf {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/recipes").join(name);
    fs::remove_dir_all(bed.confdir()).unwrap();
    for kind in ["conf.d", "templates"] {
        for entry in fs::read_dir(recipes.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let mut text = fs::read_to_string(&path).unwrap();
            if kind == "conf.d" {
                for (old, new) in
                    [(dest, bed.folder.path().join("result").to_str().unwrap())].iter().chain(more)
                {
                    assert!(text.contains(old), "{old} is not in {}", path.display());
                    text = text.replace(old, new);
                }
            }
            bed.write(&format!("{kind}/{}", path.file_name().unwrap().to_str().unwrap()), &text);
        }
    }
    bed.folder.path().join("result")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Registers what should not be registered, as anybody with access to the agent could.
async fn register_odd_ones(client: &Client) {
    for (id, name, address, port) in [
        ("odd \"quoted\" {x}; }", "odd", "10.0.0.9", 80),
        ("no-port", "portless", "10.0.0.8", 0),
        ("name", "by-name", "db.example.org", 5432),
        ("six", "six", "fd00::6", 8080),
        ("strange", "str;ange {name}", "10.0.0.7", 80),
    ] {
        let registration = Registration {
            id: id.to_owned(),
            name: name.to_owned(),
            address: address.to_owned(),
            port,
            tags: vec!["http".to_owned(), "metrics".to_owned(), "a\"b\\c".to_owned()],
            meta: [("metrics_path".to_owned(), "/x\"y".to_owned())].into(),
            ..Registration::default()
        };
        client.register(&registration).await.unwrap();
    }
    let node = serde_json::json!({
        "Node": {"Verb": "set", "Node": {"Node": "日本", "Address": "10.0.0.5"}},
    });
    client.txn(&[consul::TxnOp::Other(node)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_serves_what_its_recipe_renders() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
    let folder = bed.folder.path().to_owned();
    let conf = folder.join("nginx.conf");
    let run = format!("-c {}", conf.display());
    let result = use_recipe(
        &bed,
        "nginx",
        "/etc/nginx/conf.d/services.conf",
        &[
            ("nginx -s reload", &format!("nginx {run} -s reload")),
            ("min = \"200ms\"", "min = \"10ms\""),
            ("\"2s\"\n", "\"100ms\"\n"),
        ],
    );
    fs::write(&result, "").unwrap();
    let text = format!(
        "daemon off;\nuser root;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{}}\nhttp {{\n    access_log off;\n    include {1};\n}}\n",
        folder.display(),
        result.display()
    );
    fs::write(&conf, text).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.arg("-c").arg(&conf);
    let log = fs::File::create(folder.join("nginx.log")).unwrap();
    let nginx =
        Process::spawn(&nginx, Some(&log)).expect("nginx is installed (setup/packages test)");
    let _nginx = Nginx(nginx);
    bed.until("nginx runs", |_| {
        fs::read_to_string(folder.join("pid")).is_ok_and(|pid| !pid.is_empty())
    })
    .await;
    register_odd_ones(&bed.client).await;
    bed.register("web", "a", a.address(), &["http"]).await;
    let port = free_port().unwrap();
    bed.environment.push(("HTTP_PORT".to_owned(), port.to_string()));
    bed.start();
    let front = SocketAddr::from(([127, 0, 0, 1], port));
    until_answered(&bed, front, "web", "a").await;
    until_answered(&bed, front, "unknown", "no such service").await;
    bed.register("web", "b", b.address(), &["http"]).await;
    until_answered(&bed, front, "web", "b").await;
    bed.client.deregister("a").await.unwrap();
    bed.until("a is gone from the file", |_| {
        !fs::read_to_string(&result).unwrap().contains(&a.address().to_string())
    })
    .await;
    assert!(bed.metric("confd_rejections_total").await < 0.5);
}

/// Ends nginx's workers, too, which outlive a master that is killed.
struct Nginx(Process);

impl Drop for Nginx {
    fn drop(&mut self) {
        self.0.stop().unwrap();
    }
}

async fn until_answered(bed: &Bed, front: SocketAddr, host: &str, answer: &str) {
    let mut last = String::new();
    let end = std::time::Instant::now() + crate::bed::SOON;
    while !last.trim_end().ends_with(answer) {
        assert!(std::time::Instant::now() < end, "{host} answered {last:?}\n{}", bed.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        last = tokio::time::timeout(
            std::time::Duration::from_secs(2),
            crate::bed::request(front, host),
        )
        .await
        .ok()
        .flatten()
        .unwrap_or_default();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_takes_the_targets_of_its_recipe() {
    let bed = Bed::new();
    let result = use_recipe(&bed, "prometheus", "/etc/prometheus/targets.json", &[]);
    // Nothing to list is a list, too.
    let output = bed.run(&["--once"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&fs::read_to_string(&result).unwrap()).unwrap(),
        serde_json::json!([])
    );
    register_odd_ones(&bed.client).await;
    bed.register("web", "a", SocketAddr::from(([10, 0, 0, 1], 9100)), &["metrics"]).await;
    let output = bed.run(&["--once"]);
    assert!(output.status.success(), "{}", said(&output));
    let targets: Vec<serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(&result).unwrap()).unwrap();
    assert_eq!(targets.len(), 5, "{targets:#?}");
    let web = targets.iter().find(|t| t["labels"]["service"] == "web").unwrap();
    assert_eq!(web["targets"], serde_json::json!(["10.0.0.1:9100"]));
    assert_eq!(web["labels"]["__metrics_path__"], "/metrics");
    let odd = targets.iter().find(|t| t["labels"]["service"] == "odd").unwrap();
    assert_eq!(odd["labels"]["id"], "odd \"quoted\" {x}; }");
    assert_eq!(odd["labels"]["__metrics_path__"], "/x\"y");
    let conf = bed.folder.path().join("prometheus.yml");
    let text = format!(
        "scrape_configs:\n  - job_name: services\n    file_sd_configs:\n      - files: [{}.json]\n",
        result.display()
    );
    fs::write(&conf, text).unwrap();
    fs::copy(&result, result.with_extension("json")).unwrap();
    let checked = Command::new("promtool").args(["check", "config"]).arg(&conf).output();
    let checked = checked.expect("promtool is installed (setup/packages test)");
    assert!(checked.status.success() && !said(&checked).contains("WARNING"), "{}", said(&checked));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_recipe_writes_names_and_tells_the_server() {
    let mut bed = Bed::new();
    let pid = bed.folder.path().join("pid");
    let result = use_recipe(
        &bed,
        "hosts",
        "/etc/dnsmasq.services",
        &[("/run/dnsmasq/dnsmasq.pid", pid.to_str().unwrap())],
    );
    // Stands for the name server: it says so when it is told to read again. A shell cannot trap what was ignored before it
    // began, as it is under nohup.
    let [told, ready] = ["told", "ready"].map(|name| bed.folder.path().join(name));
    let mut server = Command::new("env");
    server
        .args(["--default-signal=HUP", "sh", "-c"])
        .arg("trap 'echo >>\"$0\"' HUP; echo >\"$1\"; while :; do sleep 0.05; done")
        .args([&told, &ready]);
    let server = Process::spawn(&server, None).unwrap();
    bed.until("the server listens to the signal", |_| ready.exists()).await;
    fs::write(&pid, format!("{}\n", server.pid())).unwrap();
    register_odd_ones(&bed.client).await;
    bed.register("web", "a", SocketAddr::from(([10, 0, 0, 1], 80)), &[]).await;
    bed.start();
    bed.until("the server is told", |_| told.exists()).await;
    let text = fs::read_to_string(&result).unwrap();
    assert!(!text.contains("10.0.0.5"), "{text}");
    for line in text.lines() {
        let (address, name) = line.split_once(' ').expect("an address and a name");
        address.parse::<std::net::IpAddr>().unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)), "{line}");
    }
    assert!(
        text.contains("10.0.0.1 web.internal\n") && text.contains("fd00::6 six.internal\n"),
        "{text}"
    );
    assert!(!text.contains("by-name") && text.contains(".node.internal\n"), "{text}");
}
