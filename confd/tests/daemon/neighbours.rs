//! Several confd at a time, and what an earlier one left.

use std::fs;

use testbed::haproxy::Web;

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_beside_the_daemon_leaves_it_its_ears() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until("it listens", |bed| bed.run(&["status"]).status.success()).await;
    let output = bed.run(&["--once"]);
    assert!(output.status.success(), "{output:?}");
    let output = bed.run(&["status"]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_do_not_share_a_state_folder() {
    let mut bed = Bed::new();
    bed.start();
    bed.until("it listens", |bed| bed.run(&["status"]).status.success()).await;
    let output = bed.run(&[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another confd uses") && said.contains("--state-dir"), "{said}");
    assert!(bed.run(&["status"]).status.success());
    // One that has ended, however, is nobody.
    bed.confd().kill().unwrap();
    bed.start();
    bed.until("the next one listens", |bed| bed.run(&["status"]).status.success()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_begun_is_removed() {
    let mut bed = Bed::new();
    let left = bed.haproxy.folder().join(".haproxy.cfg.AbCdEf.staged");
    let other = bed.haproxy.folder().join(".other.cfg.AbCdEf.staged");
    for path in [&left, &other] {
        fs::write(path, "half of a te").unwrap();
    }
    bed.start();
    bed.until("it is removed", |_| !left.exists()).await;
    assert!(other.exists(), "that is somebody else's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_its_workers_until_that_goes_or_moves() {
    let mut bed = Bed::new();
    std::fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let [one, two] = ["one", "two"].map(|name| bed.folder.path().join(name));
    for name in ["a", "b"] {
        bed.write(&format!("templates/{name}.tera"), name);
    }
    let resource = |bed: &Bed, name: &str, src: &str, dest: &std::path::Path| {
        let text = format!("[template]\nsrc = \"{src}.tera\"\ndest = \"{}\"\n", dest.display());
        bed.write(&format!("conf.d/{name}.toml"), &text);
    };
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let status = |bed: &Bed| -> serde_json::Value {
        serde_json::from_slice(&bed.run(&["status", "--json"]).stdout).unwrap_or_default()
    };
    resource(&bed, "b", "b", &one);
    bed.start();
    bed.until("it is written", |_| read(&one) == "b").await;
    // A copy, whose name comes first.
    resource(&bed, "a", "a", &one);
    bed.until("it is refused", |bed| {
        let said = status(bed)["a (files)"]["Err"].as_str().unwrap_or_default().to_owned();
        said.contains("a.toml") && said.contains("b.toml")
    })
    .await;
    let said = status(&bed);
    assert!(said["b"]["Ok"]["phase"] == "live" && said["b (files)"].is_null(), "{said}");
    assert_eq!(read(&one), "b");
    // Also while the file of its owner is wrong.
    bed.write("conf.d/b.toml", "nonsense\n");
    bed.until("the mistake is seen", |bed| !status(bed)["b (files)"].is_null()).await;
    let said = status(&bed);
    assert!(said["a (files)"]["Err"].as_str().unwrap().contains("b.toml"), "{said}");
    assert_eq!(read(&one), "b");
    // The owner moves, then both change places.
    resource(&bed, "b", "b", &two);
    bed.until("both are written", |_| read(&one) == "a" && read(&two) == "b").await;
    resource(&bed, "a", "a", &two);
    resource(&bed, "b", "b", &one);
    bed.until("both are written", |_| read(&two) == "a" && read(&one) == "b").await;
    bed.until("all is well", |bed| {
        let said = status(bed);
        said["a"]["Ok"]["phase"] == "live" && said["a (files)"].is_null()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_move_keeps_its_destination_and_its_worker() {
    let mut bed = Bed::new();
    std::fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let [one, two] = ["one", "two"].map(|name| bed.folder.path().join(name));
    let template =
        |name: &str| format!("{name} {{{{ key_or(path=\"color\", default=\"none\") }}}}");
    let resource = |bed: &Bed, name: &str, dest: &std::path::Path| {
        let text = format!("[template]\nsrc = \"{name}.tera\"\ndest = \"{}\"\n", dest.display());
        bed.write(&format!("conf.d/{name}.toml"), &text);
    };
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let refused = |bed: &Bed, name: &str, owner: &str| {
        let output = bed.run(&["status", "--json"]);
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        said[format!("{name} (files)")]["Err"].as_str().is_some_and(|why| why.contains(owner))
    };
    for name in ["a", "b"] {
        bed.write(&format!("templates/{name}.tera"), &template(name));
    }
    resource(&bed, "a", &one);
    bed.start();
    bed.until("it is written", |_| read(&one) == "a none").await;
    // All in one: it is to make way for another, and its template is wrong.
    let at_once = |bed: &Bed, edits: &dyn Fn(&Bed)| {
        bed.confd().signal(nix::sys::signal::Signal::SIGSTOP).unwrap();
        edits(bed);
        bed.confd().signal(nix::sys::signal::Signal::SIGCONT).unwrap();
    };
    at_once(&bed, &|bed| {
        bed.write("templates/a.tera", "{{ nonsense");
        resource(bed, "a", &two);
        resource(bed, "b", &one);
    });
    bed.until("the other one is refused", |bed| refused(bed, "b", "a.toml")).await;
    bed.client.kv_put("color", b"red").await.unwrap();
    bed.until("it goes on where it was", |_| read(&one) == "a red").await;
    let said = bed.log().matches("ERROR").count();
    assert_eq!(said, 2, "{}", bed.log());
    bed.write("templates/a.tera", &template("a"));
    bed.until("both are where they should be", |_| read(&two) == "a red" && read(&one) == "b red")
        .await;
    // Nor do two change places if one cannot.
    at_once(&bed, &|bed| {
        bed.write("templates/a.tera", "{{ nonsense");
        resource(bed, "a", &one);
        resource(bed, "b", &two);
    });
    bed.until("the other one is refused", |bed| refused(bed, "b", "a.toml")).await;
    bed.client.kv_put("color", b"blue").await.unwrap();
    bed.until("both go on", |_| read(&two) == "a blue" && read(&one) == "b blue").await;
    bed.write("templates/a.tera", &template("a"));
    bed.until("they change places", |_| read(&one) == "a blue" && read(&two) == "b blue").await;
}
