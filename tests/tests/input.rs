//! What people get wrong, or do on purpose: hostile labels, broken templates, a second start.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tests::{coins, compose, eventually, http, rng_addresses, settle};

/// Where the stack's confd reads its templates: a copy that belongs to the suite.
fn template() -> PathBuf {
    PathBuf::from(std::env::var_os("TEMPLATES").expect("tests/run names the templates"))
        .join("templates/haproxy.cfg.tera")
}

/// Returns the ids of every running container of the stack.
async fn ids() -> BTreeSet<String> {
    let ids = compose::compose(&["ps", "--quiet"]).await.unwrap();
    ids.split_whitespace().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_second_start_changes_nothing() {
    settle(1, 1).await.unwrap();
    let before = ids().await;
    settle(1, 1).await.unwrap();
    assert_eq!(ids().await, before);
}

#[tokio::test]
async fn hostile_labels_harm_nobody() {
    let (ambassador, _) = settle(2, 1).await.unwrap();
    let (since, reloads) = (coins::now(), ambassador.reloads().await.unwrap());
    let rng = compose::containers("rng").await.unwrap().remove(0);
    let image =
        compose::docker(&["inspect", "--format", "{{.Config.Image}}", &rng.id]).await.unwrap();
    let network =
        compose::docker(&["network", "ls", "--quiet", "--filter", "name=_backends"]).await.unwrap();
    let hostile = [
        "SERVICE_NAME=evil\n  server own 127.0.0.1:1",
        "SERVICE_TAGS=http,\"}\n global\n daemon",
        "SERVICE_a.b\u{7}=x\ny",
        "SERVICE_80_CHECK_HTTP=\n/",
        "SERVICE_WEIGHT=many",
    ];
    let mut args =
        vec!["run", "--detach", "--rm", "--name", "hostile", "--network", network.trim()];
    for label in &hostile {
        args.extend(["--label", label]);
    }
    args.extend([image.trim(), "rng"]);
    compose::docker(&args).await.unwrap();

    // The hostile container is registered under a cleaned name or refused, and either is logged.
    let warned = || async {
        let log = compose::compose(&["logs", "--no-color", "registrator"]).await.ok()?;
        log.lines().any(|line| line.contains("WARN") && line.contains("hostile")).then_some(())
    };
    let result =
        eventually("registrator names the container", Duration::from_secs(5), warned).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let config =
        compose::compose(&["exec", "-T", "ambassador", "cat", "/run/ambassador/haproxy.cfg"]).await;
    compose::docker(&["rm", "--force", "hostile"]).await.unwrap();
    result.unwrap();
    let config = config.unwrap();
    for line in config.lines().map(str::trim_start) {
        assert!(!line.starts_with("server own") && !line.starts_with("daemon"), "{config}");
    }
    assert_eq!(ambassador.serving("rng").await.unwrap(), rng_addresses().await.unwrap());
    coins::expect_no_worker_errors(&since).await.unwrap();
    println!(
        "reloads for a service of a new name: {}",
        ambassador.reloads().await.unwrap() - reloads
    );
}

#[tokio::test]
async fn an_edited_template_is_followed_and_a_broken_one_is_refused() {
    let (ambassador, _) = settle(2, 1).await.unwrap();
    let (path, since) = (template(), coins::now());
    let good = std::fs::read_to_string(&path).unwrap();

    // Text that Tera refuses, then text that HAProxy refuses: both are named in the log, neither goes live.
    for (broken, message) in [
        (format!("{good}\n{{{{ nonsense }}}}\n"), "nonsense"),
        (format!("{good}\nbackend broken\n    no-such-keyword\n"), "no-such-keyword"),
    ] {
        let reloads = ambassador.reloads().await.unwrap();
        std::fs::write(&path, broken).unwrap();
        let reported = || async {
            let log =
                compose::compose(&["logs", "--no-color", "--since", &since, "confd"]).await.ok()?;
            log.contains(message).then_some(())
        };
        let result =
            eventually("confd reports the template", Duration::from_secs(10), reported).await;
        std::fs::write(&path, &good).unwrap();
        result.unwrap();
        assert_eq!(ambassador.reloads().await.unwrap(), reloads, "a refused text was loaded");
    }

    // A good edit is live without anybody's help, and undone the same way.
    std::fs::write(&path, format!("{good}\nlisten edited\n    mode http\n    bind 127.0.0.1:8499\n    stats enable\n    stats uri /\n")).unwrap();
    let followed = |present: bool| {
        let ambassador = ambassador.clone();
        move || {
            let ambassador = ambassador.clone();
            async move { (ambassador.proxies().await.ok()?.contains("edited") == present).then_some(()) }
        }
    };
    let result = eventually("the edit is live", Duration::from_secs(10), followed(true)).await;
    std::fs::write(&path, &good).unwrap();
    let ((), took) = result.unwrap();
    println!("an edited template was live after {took:?}");
    eventually("the edit is undone", Duration::from_secs(10), followed(false)).await.unwrap();
    coins::expect_no_worker_errors(&since).await.unwrap();
}

#[tokio::test]
async fn consuls_interface_and_the_statistics_are_published() {
    settle(1, 1).await.unwrap();
    let ui = http::get("http://127.0.0.1:8500/ui/").await.unwrap();
    assert_eq!(ui.status, 200);
    assert!(String::from_utf8_lossy(&ui.body).to_lowercase().contains("consul"));
    let metrics = http::get("http://127.0.0.1:8404/metrics").await.unwrap();
    assert!(String::from_utf8_lossy(&metrics.body).contains("haproxy_server_status"));
}
