//! What is wrong is said for as long as it is, and harms nothing else.

use std::fs;

use serde_json::Value;
use testbed::haproxy::Web;

use crate::bed::Bed;

/// What `confd status` says, by resource, and whether it counts as a failure.
fn status(bed: &Bed) -> (Value, bool) {
    let output = bed.run(&["status", "--json"]);
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), !output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendering_that_fails_is_reported_until_one_succeeds() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.write(
        "templates/haproxy.cfg.tera",
        &(bed.template() + "{{ key_or(path=\"size\", default=\"1\") | int }}\n")
            .replace("{{ key_or", "#{{ key_or"),
    );
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    bed.until("it is live", |bed| status(bed).0["haproxy"]["Ok"]["phase"] == "live").await;
    bed.client.kv_put("size", b"large").await.unwrap();
    bed.until("it fails", |bed| status(bed).0["haproxy"]["Ok"]["phase"] == "failing").await;
    // Further changes are further attempts, and the same mistake.
    for id in ["b", "c", "d"] {
        bed.register("web", id, web.address(), &["http"]).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(status(&bed).0["haproxy"]["Ok"]["phase"], "failing", "{}", bed.log());
    }
    assert_eq!(bed.get("/readyz").await.unwrap().0, 503);
    let said = bed.log().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(said, 1, "{}", bed.log());
    bed.client.kv_put("size", b"7").await.unwrap();
    bed.until_serving("http_web", &["a", "b", "c", "d"]).await;
    bed.until("it is live", |bed| status(bed).0["haproxy"]["Ok"]["phase"] == "live").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_haproxy_was_told_of_a_text_that_is_then_refused_is_taken_back() {
    let [a, c] = ["a", "c"].map(|name| Web::start(name).unwrap());
    let mut bed = Bed::new();
    // HAProxy takes the end of `c` at runtime, but not the options of `d`; nor does its check.
    let text = format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n\
         backend b\n    balance roundrobin\n    server a {}\n\
         {{% if key_or(path=\"mode\", default=\"\") == \"bad\" %}}    server d {} proto nonsense\n\
         {{% else %}}    server c {}\n{{% endif %}}",
        a.address(),
        c.address(),
        c.address()
    );
    bed.write("templates/haproxy.cfg.tera", &text);
    bed.start();
    bed.until_serving("b", &["a", "c"]).await;
    bed.until("it is remembered", |bed| bed.log().contains("generation=1")).await;
    bed.client.kv_put("mode", b"bad").await.unwrap();
    bed.until("it is refused", |bed| bed.log().contains("rejected by its check")).await;
    bed.until_serving("b", &["a", "c"]).await;
    assert_eq!(bed.written(), ["a".to_owned(), "c".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_port_is_taken_is_left_out_and_the_others_go_on() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    let register = async |bed: &Bed, name: &str, port: u16| {
        let registration = consul::Registration {
            id: name.into(),
            name: name.into(),
            address: web.address().ip().to_string(),
            port: web.address().port(),
            meta: [("container-port".to_owned(), port.to_string())].into(),
            ..consul::Registration::default()
        };
        bed.client.register(&registration).await.unwrap();
    };
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    // All at once, so that one of them must be found among the others.
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    bed.confd().signal(nix::sys::signal::Signal::SIGSTOP).unwrap();
    for name in ["one", "two", "three"] {
        register(&bed, name, testbed::port::free_port().unwrap()).await;
    }
    register(&bed, "taken", taken.local_addr().unwrap().port()).await;
    bed.confd().signal(nix::sys::signal::Signal::SIGCONT).unwrap();
    for name in ["one", "two", "three"] {
        bed.until_serving(&format!("tcp_{name}"), &[name]).await;
    }
    bed.until("it is named", |bed| bed.log().contains("left out:")).await;
    assert_eq!(bed.log().matches("left out:").count(), 1, "{}", bed.log());
    bed.until("it is shown", |bed| {
        status(bed).0["haproxy"]["Ok"]["left_out"] == serde_json::json!(["taken"])
    })
    .await;
    bed.register("web", "b", web.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    // It has its chance when there is news of it.
    drop(taken);
    bed.confd().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    bed.until_serving("tcp_taken", &["taken"]).await;
}

/// Has the stock resource reload HAProxy no sooner than this after the last time.
fn reload_seldom(bed: &Bed, interval: &str) {
    let file = "conf.d/haproxy.toml";
    let text = fs::read_to_string(bed.confdir().join(file)).unwrap();
    let usual = "reload_min_interval = \"1s\"";
    assert!(text.contains(usual), "{text}");
    bed.write(file, &text.replace(usual, &format!("reload_min_interval = {interval:?}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_haproxy_refuses_to_load_does_not_stay_on_the_disk_though_nobody_knows_what_it_runs() {
    let mut bed = Bed::new();
    // Long enough for what follows to come before the next reload.
    reload_seldom(&bed, "8s");
    let nothing = "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n";
    let port = "{{ key_or(path=\"port\", default=\"0\") }}";
    let text = format!("{nothing}frontend f\n    bind 127.0.0.1:{port}\n");
    let free = testbed::port::free_port().unwrap().to_string();
    bed.client.kv_put("port", free.as_bytes()).await.unwrap();
    bed.write("templates/haproxy.cfg.tera", &text);
    bed.start();
    bed.until("it is remembered", |bed| bed.log().contains("generation=1")).await;
    let file = bed.haproxy.folder().join("haproxy.cfg");
    let good = fs::read_to_string(&file).unwrap();
    // Somebody else has HAProxy load a file of theirs.
    let before = bed.haproxy.worker().unwrap();
    fs::write(&file, nothing).unwrap();
    bed.reload();
    bed.until("it is loaded", |bed| bed.haproxy.worker().is_ok_and(|now| now != before)).await;
    bed.confd().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    bed.until("it is seen", |bed| bed.log().contains("by someone else")).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    bed.client.kv_put("port", port.as_bytes()).await.unwrap();
    bed.until("it is written", |_| fs::read_to_string(&file).unwrap().contains(&port)).await;
    bed.until("it is refused", |bed| status(bed).0["haproxy"]["Ok"]["phase"] == "failing").await;
    bed.until("the last good one is there", |_| fs::read_to_string(&file).unwrap() == good).await;
    bed.haproxy.restart().unwrap();
    drop(taken);
    bed.confd().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    bed.until("it is live", |bed| status(bed).0["haproxy"]["Ok"]["phase"] == "live").await;
    assert!(fs::read_to_string(&file).unwrap().contains(&port));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_read_for_a_moment_changes_nothing() {
    let (bed, web) = Bed::serving_web().await;
    let (folder, aside) = (bed.confdir().join("conf.d"), bed.confdir().join("aside"));
    fs::rename(&folder, &aside).unwrap();
    bed.until("it is missed", |bed| bed.log().contains("what was before stays")).await;
    bed.register("web", "b", web.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    assert!(!bed.log().contains("is gone"), "{}", bed.log());
    let (said, failed) = status(&bed);
    assert!(failed && said["conf.d"]["Err"].as_str().unwrap().contains("conf.d"), "{said}");
    fs::rename(&aside, &folder).unwrap();
    bed.until("all is well", |bed| !status(bed).1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_resources_whose_files_are_wrong_with_a_worker_and_without() {
    let mut bed = Bed::new();
    bed.write("conf.d/other.toml", "nonsense\n");
    bed.start();
    bed.until("it is live", |bed| status(bed).0["haproxy"]["Ok"]["phase"] == "live").await;
    let (said, failed) = status(&bed);
    assert!(
        failed && said["other (files)"]["Err"].as_str().unwrap().contains("other.toml"),
        "{said}"
    );
    bed.write("templates/haproxy.cfg.tera", "{{ nonsense\n");
    bed.until("it is said", |bed| status(bed).0["haproxy (files)"]["Err"].is_string()).await;
    let one = bed.run(&["status", "--resource", "other"]);
    assert!(String::from_utf8_lossy(&one.stderr).contains("other.toml"), "{one:?}");
    assert!(!bed.log().contains("is gone"), "{}", bed.log());
    fs::remove_file(bed.confdir().join("conf.d/other.toml")).unwrap();
    bed.until("it is forgotten", |bed| status(bed).0["other (files)"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_lets_go_nothing_that_is_held() {
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
    bed.until("both questions are held", |bed| {
        bed.log().matches("holding what vanished").count() >= 2
    })
    .await;
    bed.append("conf.d/haproxy.toml", "\n[template.flap]\nlimit = 0\n");
    bed.until("another worker goes on", |bed| bed.log().contains("stopped")).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    bed.until_serving("http_web", &all).await;
    bed.until("it holds the same", |bed| {
        let held = &status(bed).0["haproxy"]["Ok"]["held"];
        held.as_array().is_some_and(|held| held.len() == 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_asked_for_stops_no_other() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    for (id, name) in [("odd1", ".."), ("odd2", "a//b"), ("good", "web")] {
        bed.register(name, id, web.address(), &["http"]).await;
    }
    bed.start();
    bed.until_serving("http_web", &["good"]).await;
    bed.until("it is live", |bed| status(bed).0["haproxy"]["Ok"]["phase"] == "live").await;
    for name in ["..", "a//b"] {
        assert!(bed.log().contains(&format!("name={name:?}")), "{name}: {}", bed.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_consul_does_not_take_is_a_mistake_in_a_line_of_its_template() {
    let bed = Bed::new();
    let dest = bed.folder.path().join("out");
    fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let resource = format!("[template]\nsrc = \"t\"\ndest = \"{}\"\n", dest.display());
    bed.write("conf.d/t.toml", &resource);
    for question in [
        "service(name=\"web\", filter=\"Nonsense ==\")",
        "service(name=\"\")",
        "key(path=\"a//b\")",
    ] {
        bed.write("templates/t", &format!("\n\n{{{{ {question} }}}}\n"));
        let output = bed.run(&["--once"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("t:3"), "{question}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_come_and_go_while_a_reload_has_to_wait() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    reload_seldom(&bed, "1h");
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    let reloads = bed.reloads();
    bed.register("other", "o", web.address(), &["http"]).await;
    bed.until("it is written", |bed| bed.written().contains("o")).await;
    bed.register("web", "b", web.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    bed.client.deregister("a").await.unwrap();
    bed.until_serving("http_web", &["b"]).await;
    assert_eq!(bed.reloads(), reloads);
}
