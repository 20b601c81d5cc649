//! The commands beside the daemon, and their exit codes.

use std::process::Output;

use testbed::haproxy::Web;

use crate::bed::Bed;

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns what a command shows on a terminal.
fn on_a_terminal(bed: &Bed, command: &str, no_color: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let plain = bed.command(&words);
    let all = std::iter::once(plain.get_program()).chain(plain.get_args());
    let line: Vec<_> = all.map(|word| format!("'{}'", word.display())).collect();
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    script.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.env("NO_COLOR", no_color).stdin(std::process::Stdio::null());
    String::from_utf8(script.output().unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn once_makes_everything_live_and_exits() {
    let web = Web::start("a").unwrap();
    let bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    let output = bed.run(&["--once"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(bed.serving("http_web"), ["a".to_owned()].into());
    let b = Web::start("b").unwrap();
    bed.register("web", "b", b.address(), &["http"]).await;
    assert_eq!(code(&bed.run(&["--once"])), 0);
    // Also what waits for its first check is finished, not left without weight.
    assert_eq!(bed.serving("http_web"), ["a".to_owned(), "b".to_owned()].into());
    bed.write("templates/haproxy.cfg.tera", "nonsense\n");
    let output = bed.run(&["--once"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("nonsense"), "{}", err(&output));
    // What does not parse is a mistake of another kind than what is refused.
    bed.write("templates/haproxy.cfg.tera", "{{ nonsense\n");
    for args in [&["--once"][..], &["render", "haproxy"]] {
        let output = bed.run(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(err(&output).contains("haproxy.cfg.tera:1"), "{args:?}: {}", err(&output));
    }
    bed.write("conf.d/haproxy.toml", "nonsense\n");
    assert_eq!(code(&bed.run(&["--once"])), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_needs_no_source_and_names_every_mistake() {
    let bed = Bed::new();
    let output = bed.run(&["check"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    bed.write("templates/haproxy.cfg.tera", "\n{{ service(nam=\"x\") }}\n");
    bed.write("conf.d/other.toml", "[template]\nsrc = \"x\"\ndest = \"/x\"\nmodus = 1\n");
    let output = bed.run(&["check"]);
    assert_eq!(code(&output), 2);
    for words in ["haproxy.cfg.tera:2", "other.toml", "line 4", "modus"] {
        assert!(err(&output).contains(words), "{words}: {}", err(&output));
    }
    let output = bed.run(&["check", "--json"]);
    assert_eq!(code(&output), 2);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json[0]["resource"], &json[0]["good"]), (&"haproxy".into(), &false.into()));
    assert!(json[1]["problem"].as_str().unwrap().contains("modus"), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_change_and_what_haproxy_would_be_told() {
    let (a, b) = (Web::start("a").unwrap(), Web::start("b").unwrap());
    let bed = Bed::new();
    bed.register("web", "a", a.address(), &["http"]).await;
    let before = std::fs::read_to_string(bed.haproxy.folder().join("haproxy.cfg")).unwrap();
    let output = bed.run(&["render", "haproxy"]);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("backend http_web"),
        "{}",
        err(&output)
    );
    let output = bed.run(&["render", "haproxy", "--diff"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("+backend http_web") && text.contains("reload"), "{text}");
    let after = std::fs::read_to_string(bed.haproxy.folder().join("haproxy.cfg")).unwrap();
    assert_eq!(before, after, "a dry run wrote");
    assert_eq!(code(&bed.run(&["--once"])), 0);
    bed.register("web", "b", b.address(), &["http"]).await;
    let output = bed.run(&["render", "haproxy", "--diff"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("+    server :node1:b ") && text.contains("add") && !text.contains("reload"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_slice(&bed.run(&["render", "haproxy", "--diff", "--json"]).stdout)
            .unwrap();
    assert_eq!((&json[0]["changed"], &json[0]["reload"]), (&true.into(), &false.into()), "{json}");
    assert!(json[0]["diff"].as_str().unwrap().contains("+    server :node1:b "), "{json}");
    assert!(json[0]["steps"][0].as_str().unwrap().starts_with("add http_web/:node1:b"), "{json}");
    let json: serde_json::Value =
        serde_json::from_slice(&bed.run(&["render", "haproxy", "--json"]).stdout).unwrap();
    assert!(json[0]["text"].as_str().unwrap().contains("backend http_web"), "{json}");
    assert_eq!(code(&bed.run(&["render", "nothing"])), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_the_daemon() {
    let mut bed = Bed::new();
    assert_eq!(code(&bed.run(&["healthcheck"])), 1);
    bed.start();
    bed.until("it is healthy", |bed| code(&bed.run(&["healthcheck"])) == 0).await;
}

#[test]
fn mistakes_in_flags_are_usage_errors() {
    let run = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_confd")).args(args).output().unwrap()
    };
    assert_eq!(code(&run(&["--no-such-flag"])), 2);
    assert_eq!(code(&run(&["--confdir", "/no/such/folder"])), 2);
    assert_eq!(code(&run(&["--help"])), 0);
    let said = err(&run(&["check", "--confdir", "/no/such/folder"]));
    assert!(said.contains("/no/such/folder/conf.d"), "{said}");
    // Those of Consul may stand behind a command, as all others.
    let output = run(&["render", "x", "--consul-addr", "ftp://x", "--confdir", "/no/such/folder"]);
    assert!(code(&output) == 2 && err(&output).contains("--consul-addr: "), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_are_listed_compared_and_gone_back_to() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until("one is accepted", |bed| bed.log().contains("generation=1")).await;
    bed.register("web", "b", web.address(), &["http"]).await;
    bed.until("two are accepted", |bed| bed.log().contains("generation=2")).await;
    let out = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let history = out(&bed.run(&["history"]));
    assert_eq!(history.lines().count(), 3, "{history}");
    let json: serde_json::Value =
        serde_json::from_str(&out(&bed.run(&["history", "--json"]))).unwrap();
    assert_eq!((&json[0]["generation"], &json[0]["added"]), (&2.into(), &1.into()));
    let diff = out(&bed.run(&["diff", "1", "2"]));
    assert!(diff.contains("+    server :node1:b ") && !diff.contains("-    server"), "{diff}");
    let json: serde_json::Value =
        serde_json::from_slice(&bed.run(&["diff", "1", "2", "--json"]).stdout).unwrap();
    assert_eq!((&json["added"], &json["removed"]), (&1.into(), &0.into()), "{json}");
    assert_eq!(code(&bed.run(&["diff", "1", "7"])), 1);

    // Colours are for terminals only, and for those who want them.
    for (command, no_color, colour) in [
        ("diff 1 2", "", Some("\u{1b}[32m+    server :node1:b ")),
        ("history", "", Some("\u{1b}[1mgeneration")),
        ("status", "", Some("haproxy: \u{1b}[32mlive")),
        ("check", "", Some("\u{1b}[32mgood")),
        ("diff 1 2", "1", None),
        ("status", "1", None),
    ] {
        let shown = on_a_terminal(&bed, command, no_color);
        match colour {
            Some(colour) => assert!(shown.contains(colour), "{command}: {shown:?}"),
            None => assert!(!shown.contains('\u{1b}'), "{command}: {shown:?}"),
        }
    }

    // Back to the first one, until something changes.
    let output = bed.run(&["rollback", "1"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    bed.until_serving("http_web", &["a"]).await;
    bed.register("web", "c", web.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b", "c"]).await;

    // Pinned, nothing changes it, not even a restart.
    assert_eq!(code(&bed.run(&["rollback", "1", "--pin"])), 0);
    bed.until_serving("http_web", &["a"]).await;
    bed.register("web", "d", web.address(), &["http"]).await;
    bed.confd().kill().unwrap();
    bed.start();
    bed.until("it listens", |bed| code(&bed.run(&["status"])) == 0).await;
    let status = out(&bed.run(&["status", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(json["haproxy"]["Ok"]["pinned"], 1, "{status}");
    bed.until_serving("http_web", &["a"]).await;
    assert_eq!(code(&bed.run(&["unpin"])), 0);
    bed.until_serving("http_web", &["a", "b", "c", "d"]).await;
    bed.until("it is live", |bed| out(&bed.run(&["status"])).starts_with("haproxy: live")).await;
    assert_eq!(code(&bed.run(&["rollback", "99"])), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_rollback_counts_and_one_without_a_pin_ends_a_pin() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until("one is accepted", |bed| bed.log().contains("generation=1")).await;
    bed.register("web", "b", web.address(), &["http"]).await;
    bed.until("two are accepted", |bed| bed.log().contains("generation=2")).await;
    let pinned = bed.folder.path().join("state/haproxy/pinned");
    // One that has not accepted anything is not meant.
    bed.write("templates/waits.tera", "{{ not_ready(why=\"it waits\") }}");
    bed.write("conf.d/waits.toml", "[template]\nsrc = \"waits.tera\"\ndest = \"/nowhere/x\"\n");
    bed.until("it waits", |bed| bed.log().contains("it waits")).await;
    for args in [&["rollback", "1"][..], &["rollback", "1", "--pin"], &["rollback", "1"]] {
        assert_eq!(code(&bed.run(args)), 0);
        assert_eq!(pinned.exists(), args.len() == 3);
    }
    bed.until_serving("http_web", &["a"]).await;
    // A wake-up that changes nothing of the text ends nothing, nor does a restart.
    bed.client.kv_put("weights/other", b"{}").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(bed.serving("http_web"), ["a".to_owned()].into());
    bed.confd().kill().unwrap();
    bed.start();
    bed.until("it is live", |bed| {
        String::from_utf8_lossy(&bed.run(&["status"]).stdout).starts_with("haproxy: live")
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(bed.serving("http_web"), ["a".to_owned()].into());
    let json = bed.run(&["rollback", "1", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["haproxy"]["Ok"].is_string(), "{json}");
    bed.register("web", "c", web.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accept_lets_go_what_the_guard_holds() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    for n in 0..6 {
        bed.register("web", &format!("i{n}"), web.address(), &["http"]).await;
    }
    bed.age_consul().await;
    bed.start();
    bed.until("all serve", |bed| bed.serving("http_web").len() == 6).await;
    bed.until("it is remembered", |bed| bed.log().contains(" accepted resource=")).await;
    bed.consul.kill().unwrap();
    bed.consul.restart().unwrap();
    bed.until("the removal is held", |bed| bed.log().contains("holding what vanished")).await;
    let status = bed.run(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("consul lost its state"), "{status}");
    bed.until("both questions are held", |bed| {
        String::from_utf8_lossy(&bed.run(&["status"]).stdout).contains("service web")
    })
    .await;
    assert_eq!(code(&bed.run(&["accept"])), 0);
    bed.until_serving("http_web", &[]).await;
}
