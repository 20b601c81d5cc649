//! Faults and floods of changes under a client that never stops asking: it loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use consul::Registration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::consul::Consul;
use testbed::haproxy::{Load, Web, programs};

use crate::bed::Bed;

/// Lets whoever asks for anything reach the service `web`, however its instances behave.
fn open(bed: &Bed) {
    bed.write(
        "templates/haproxy.cfg.tera",
        &bed.template().replace("default_backend no-such-service", "default_backend http_web"),
    );
    bed.append("conf.d/haproxy.toml", "\n[template.flap]\nlimit = 0\n");
}

/// Whether there is time for all of it: `STORMS=1`.
fn long() -> bool {
    std::env::var_os("STORMS").is_some_and(|value| !value.is_empty())
}

/// Ends the requests, of which there must have been some, all answered.
fn unharmed(load: Load) {
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(!tally.answers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guard_holds_is_let_go_without_a_lost_request() {
    let (old, new) = (Web::start("old").unwrap(), Web::start("new").unwrap());
    let mut bed = Bed::new();
    open(&bed);
    for n in 0..6 {
        bed.register("web", &format!("old{n}"), old.address(), &["http"]).await;
    }
    bed.age_consul().await;
    bed.start();
    bed.until("all serve", |bed| bed.serving("http_web").len() == 6).await;
    bed.until("it is remembered", |bed| bed.log().contains(" accepted resource=")).await;
    let load = Load::start(bed.front);
    bed.consul.kill().unwrap();
    bed.consul.restart().unwrap();
    bed.until("all are held", |bed| {
        String::from_utf8_lossy(&bed.run(&["status"]).stdout).contains("service web")
    })
    .await;
    bed.register("web", "new", new.address(), &["http"]).await;
    bed.until("the new one serves beside them", |bed| bed.serving("http_web").len() == 7).await;
    assert!(bed.run(&["accept"]).status.success());
    bed.until_serving("http_web", &["new"]).await;
    bed.until("the file follows", |bed| bed.written() == ["new".to_owned()].into()).await;
    // Nobody may need the old ones now, but for what is on its way to them.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(old);
    tokio::time::sleep(Duration::from_millis(300)).await;
    unharmed(load);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_while_without_consul_harms_nobody() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::with(Consul::options().persistent().start().unwrap());
    open(&bed);
    bed.register("web", "a", a.address(), &["http"]).await;
    bed.register("web", "gone", a.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a", "gone"]).await;
    let (load, reloads) = (Load::start(bed.front), bed.reloads());
    bed.consul.stop().unwrap();
    tokio::time::sleep(Duration::from_secs(if long() { 15 } else { 4 })).await;
    bed.until_serving("http_web", &["a", "gone"]).await;
    bed.consul.restart().unwrap();
    bed.register("web", "b", b.address(), &["http"]).await;
    bed.client.deregister("gone").await.unwrap();
    bed.until_serving("http_web", &["a", "b"]).await;
    assert_eq!(bed.reloads(), reloads);
    unharmed(load);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consul_that_hangs_is_asked_again_until_it_answers() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let mut bed = Bed::new();
    open(&bed);
    bed.register("web", "a", a.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    bed.until("it is remembered", |bed| bed.log().contains(" accepted resource=")).await;
    let load = Load::start(bed.front);
    // It accepts connections, and never says a word on them; confd has to start like that too.
    bed.consul.pause().unwrap();
    bed.confd().stop().unwrap();
    bed.start();
    bed.until("a request is given up", |bed| bed.log().contains("will retry")).await;
    bed.until_serving("http_web", &["a"]).await;
    bed.consul.resume().unwrap();
    bed.register("web", "b", b.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    unharmed(load);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_service_is_followed_change_after_change() {
    let mut bed = Bed::new();
    let entry = |n: usize, port: usize| {
        let service = serde_json::json!({"ID": format!("i{n}"), "Service": "web", "Address": "127.0.0.1", "Port": port,
            "Tags": ["http"]});
        consul::TxnOp::Other(
            serde_json::json!({"Service": {"Verb": "set", "Node": "far", "Service": service}}),
        )
    };
    let node = serde_json::json!({"Node": "far", "Address": "127.0.0.1"});
    let node = serde_json::json!({"Node": {"Verb": "set", "Node": node}});
    bed.client.txn(&[consul::TxnOp::Other(node)]).await.unwrap();
    let all: Vec<_> = (0..600).map(|n| entry(n, 1000 + n)).collect();
    for batch in all.chunks(64) {
        bed.client.txn(batch).await.unwrap();
    }
    bed.start();
    bed.until("all are listed", |bed| bed.written().len() == 600).await;
    // More than are taken in within a second: the rest is a little late, and none is missed.
    for change in 0..25 {
        bed.client.txn(&[entry(change, 9000 + change)]).await.unwrap();
        let port = format!(" 127.0.0.1:{} ", 9000 + change);
        bed.until("the change is written", |bed| {
            fs::read_to_string(bed.haproxy.folder().join("haproxy.cfg")).unwrap().contains(&port)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_changes_lose_nothing_and_end_exactly_right() {
    // The older one has fewer commands, so more can go wrong with it.
    for program in &programs()[..if long() { programs().len() } else { 1 }] {
        let web = Web::start("web").unwrap();
        let mut bed = Bed::on(program);
        open(&bed);
        let instance = |n: u16, weight: u16| Registration {
            id: format!("i{n}"),
            name: "web".into(),
            address: web.address().ip().to_string(),
            port: web.address().port(),
            tags: vec!["http".into()],
            meta: [("container-port".to_owned(), "80".to_owned())].into(),
            weights: consul::Weights { passing: weight, warning: weight },
            ..Registration::default()
        };
        bed.client.register(&instance(0, 1)).await.unwrap();
        bed.start();
        bed.until_serving("http_web", &["i0"]).await;
        let (load, reloads) = (Load::start(bed.front), bed.reloads());
        let mut weights = BTreeMap::from([(0_u16, 1_u16)]);
        for change in 0..1000_u16 {
            // Each one comes, changes its weight, and goes, at another pace than its neighbours; the first one stays.
            let n = change * 7 % 19 + 1;
            if change * 11 % 5 < 2 && weights.remove(&n).is_some() {
                bed.client.deregister(&format!("i{n}")).await.unwrap();
            } else {
                let weight = change % 9 + 1;
                bed.client.register(&instance(n, weight)).await.unwrap();
                weights.insert(n, weight);
            }
        }
        let wanted: BTreeSet<String> = weights.keys().map(|n| format!("i{n}")).collect();
        assert!((2..20).contains(&wanted.len()), "{wanted:?}");
        bed.until("the file agrees", |bed| bed.written() == wanted).await;
        bed.until("exactly these serve", |bed| bed.serving("http_web") == wanted).await;
        bed.until("with these weights", |bed| {
            weights.iter().all(|(n, weight)| {
                let answer =
                    bed.haproxy.command(&format!("get weight http_web/:node1:i{n}")).unwrap();
                answer.trim_end().ends_with(&format!("(initial {weight})"))
                    || answer.starts_with(&format!("{weight} "))
            })
        })
        .await;
        let more = bed.reloads() - reloads;
        assert!(more <= 3, "{more} reloads for what needs none");
        unharmed(load);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_someone_did_by_hand_is_repaired_on_a_hangup_signal() {
    for program in programs() {
        let web = Web::start("web").unwrap();
        let mut bed = Bed::on(program);
        for id in ["a", "b", "c"] {
            bed.register("web", id, web.address(), &["http"]).await;
        }
        bed.start();
        bed.until_serving("http_web", &["a", "b", "c"]).await;
        bed.until("it is remembered", |bed| bed.log().contains(" accepted resource=")).await;
        let reloads = bed.reloads();
        for command in [
            "set server http_web/:node1:a state maint",
            "set server http_web/:node1:b weight 0",
            "set server http_web/:node1:c state maint",
            "del server http_web/:node1:c",
        ] {
            bed.haproxy.command(command).unwrap();
        }
        assert!(bed.serving("http_web").is_empty());
        let state = bed.haproxy.command("show servers state http_web").unwrap();
        assert!(!state.contains(":c "), "{state}");
        kill(Pid::from_raw(bed.confd().pid()), Signal::SIGHUP).unwrap();
        bed.until_serving("http_web", &["a", "b", "c"]).await;
        assert_eq!(bed.reloads(), reloads);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_edited_by_hand_is_put_right_and_reloaded_only_where_it_was_loaded() {
    for program in programs() {
        let web = Web::start("web").unwrap();
        let mut bed = Bed::on(program);
        let told = bed.folder.path().join("told");
        let resource = bed.confdir().join("conf.d/haproxy.toml");
        let text = std::fs::read_to_string(resource).unwrap();
        let also = format!(
            "apply = [\"haproxy\", \"reload_cmd\"]\nreload_cmd = \"echo told >> {}\"",
            told.display()
        );
        bed.write("conf.d/haproxy.toml", &text.replace("apply = \"haproxy\"", &also));
        bed.register("web", "a", web.address(), &["http"]).await;
        bed.start();
        bed.until_serving("http_web", &["a"]).await;
        bed.until("it is remembered", |bed| bed.log().contains(" accepted resource=")).await;
        let file = bed.haproxy.folder().join("haproxy.cfg");
        let read = || std::fs::read_to_string(&file).unwrap();
        let (ours, reloads) = (read(), bed.reloads());
        let commands = || std::fs::read_to_string(&told).unwrap_or_default().lines().count();
        let edited = format!("{ours}\nbackend edited\n    mode http\n");
        let runs_edited =
            |bed: &Bed| bed.haproxy.command("show backend").is_ok_and(|all| all.contains("edited"));
        // HAProxy has not read it, others may have.
        let before = commands();
        std::fs::write(&file, &edited).unwrap();
        bed.confd().signal(Signal::SIGHUP).unwrap();
        bed.until("it is put right", |_| read() == ours).await;
        bed.until("others are told", |_| commands() > before).await;
        assert_eq!(bed.reloads(), reloads);
        // HAProxy has read it, while confd is there and while it is not.
        for away in [false, true] {
            let before = commands();
            if away {
                bed.confd().kill().unwrap();
            }
            std::fs::write(&file, &edited).unwrap();
            bed.reload();
            bed.until("it runs what was edited", runs_edited).await;
            if away {
                bed.start();
            } else {
                bed.confd().signal(Signal::SIGHUP).unwrap();
            }
            bed.until("it is put right", |bed| read() == ours && !runs_edited(bed)).await;
            bed.until("others are told", |_| commands() > before).await;
            bed.until_serving("http_web", &["a"]).await;
        }
    }
}
