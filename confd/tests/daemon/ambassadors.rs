//! A resource for each ambassador: containers of a real engine, each with an HAProxy where it shares its directory.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use consul::Query;
use serde_json::json;
use testbed::docker::Docker;
use testbed::haproxy::{Haproxy, Web, programs};
use testbed::port::free_port;

use crate::bed::{Bed, SOON, request};

/// Starts what the engine knows as the ambassador of the client with the ID `client`.
fn ambassador(docker: &Docker, name: &str, client: &str, upstreams: &str) {
    let client = format!("ambassador.container={client}");
    let upstreams = format!("ambassador.upstreams={upstreams}");
    let labels = ["--label", &client, "--label", &upstreams, "--label", "ambassador.project=shop"];
    docker.run(name, &labels).unwrap();
}

/// Asks where the ambassador listens for its client.
async fn answers(port: u16, name: &str) -> bool {
    let front = SocketAddr::from(([127, 127, 0, 2], port));
    request(front, "web").await.is_some_and(|answer| answer.ends_with(name))
}

/// Returns what is told about the ambassador `id`.
async fn published(bed: &Bed, id: &str) -> serde_json::Value {
    let (key, started) = (format!("ambassadors/node1/{id}"), std::time::Instant::now());
    loop {
        if let Some(pair) = bed.client.kv_get(&key, &Query::default()).await.unwrap().value {
            return serde_json::from_slice(&pair.value).unwrap();
        }
        assert!(started.elapsed() < SOON, "{key} is not told\n{}", bed.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ambassador_has_its_own_file_and_the_end_of_one_changes_no_other() {
    let docker = Docker::start().unwrap();
    let mut bed = Bed::new();
    bed.environment.push(("DOCKER_HOST".to_owned(), docker.url()));
    let run = bed.folder.path().join("run");
    fs::create_dir(&run).unwrap();
    let stock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/ambassadors");
    fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    for part in
        ["conf.d/ambassadors.toml", "templates/ambassadors.tera", "templates/ambassador.cfg.tera"]
    {
        let text = fs::read_to_string(stock.join(part)).unwrap();
        bed.write(part, &text.replace("/run/ambassador", &run.display().to_string()));
    }
    let nothing =
        "defaults\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n";
    let second = Haproxy::start(&programs()[0], nothing).unwrap();
    // One client runs, of the other there is only what its ambassador says.
    let client = docker.run("shop-worker-1", &["--label", "ambassador.upstreams=web"]).unwrap();
    let (client, other) = (client.trim(), format!("bbbbbbbbbbb2{}", "0".repeat(52)));
    let (one, two) = (&client[..12], "bbbbbbbbbbb2");
    let ports = [free_port().unwrap(), free_port().unwrap()];
    let web = Web::start("a").unwrap();
    bed.register("web", "web-a", web.address(), &["http"]).await;
    let text = |id: &str| fs::read_to_string(run.join(id).join("haproxy.cfg")).unwrap_or_default();
    let folder = bed.folder.path().to_owned();
    let state = |id: &str| folder.join(format!("state/ambassadors-{id}"));
    let (state_one, state_two) = (state(one), state(two));

    // One that was there while confd was not has left something behind.
    fs::create_dir_all(state("ccccccccccc3").join("generations")).unwrap();
    docker.run("evil", &["--label", "ambassador.container=../../../../etc"]).unwrap();
    symlink(bed.haproxy.folder(), run.join(one)).unwrap();
    ambassador(&docker, "one", client, &format!("web:{}", ports[0]));
    bed.start();
    let took =
        bed.until("the first is configured", |_| text(one).contains("server :node1:web-a ")).await;
    println!("an ambassador that was there before confd: configured {took:?} after its start");
    bed.until("it is remembered", |_| state_one.join("accepted").exists()).await;
    assert!(answers(ports[0], "a").await);
    assert!(!state("ccccccccccc3").exists(), "{}", bed.log());
    assert!(bed.log().contains("is no container's ID"), "{}", bed.log());

    // One that comes later, and whose directory is there later still.
    ambassador(&docker, "two", &other, &format!("web:{}", ports[1]));
    bed.until("it is waited for", |bed| bed.log().contains(two)).await;
    symlink(second.folder(), run.join(two)).unwrap();
    let took =
        bed.until("the second is configured", |_| text(two).contains("server :node1:web-a ")).await;
    println!("one whose directory came later: configured {took:?} after that");
    bed.until("it is remembered", |_| state_two.join("accepted").exists()).await;
    assert!(answers(ports[1], "a").await);
    assert!(
        !text(one).contains(&format!(":{}", ports[1]))
            && !text(two).contains(&format!(":{}", ports[0]))
    );

    // Others read which client's ambassador it is, and of which project.
    for (id, name) in [(one, json!("shop-worker-1")), (two, json!(null))] {
        let document = published(&bed, id).await;
        assert_eq!(document["id"], *id, "{document}");
        assert_eq!(document["client"], name, "{document}");
        assert_eq!(document["project"], "shop", "{document}");
    }

    let output = bed.run(&["render", &format!("ambassadors-{one}")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), text(one));
    // Instances of the named node come first.
    let usual = bed.environment.clone();
    for (near, others) in [("elsewhere", true), ("node1", false)] {
        bed.environment.push(("NEAR".to_owned(), near.to_owned()));
        let output = bed.run(&["render", &format!("ambassadors-{one}")]);
        let rendered = String::from_utf8_lossy(&output.stdout);
        let line = rendered.lines().find(|line| line.contains("server :node1:web-a ")).unwrap();
        assert!(line.ends_with(" backup") == others && rendered.contains("allbackups"), "{line}");
        bed.environment.clone_from(&usual);
    }
    assert!(!bed.run(&["render", "ambassadors-ccccccccccc3"]).status.success());
    assert!(bed.run(&["check"]).status.success());

    // The end of one is nothing to the other.
    let (before, reloads) = (text(one), bed.reloads());
    docker.cli(&["rm", "-f", "two"]).unwrap();
    bed.until("the second is forgotten", |_| !state_two.exists()).await;
    let status = String::from_utf8(bed.run(&["status"]).stdout).unwrap();
    assert!(status.contains(one) && !status.contains(two), "{status}");
    assert_eq!((text(one), bed.reloads()), (before, reloads));
    assert!(!bed.log().contains("ERROR"), "{}", bed.log());

    // An engine that is away changes nothing, and keeps nothing up.
    docker.kill().unwrap();
    bed.until("it is missed", |bed| bed.log().contains("cannot follow this node's ambassadors"))
        .await;
    let other = Web::start("b").unwrap();
    bed.register("web", "web-b", other.address(), &["http"]).await;
    bed.until("a change goes on", |_| text(one).contains("server :node1:web-b ")).await;
    assert!(state_one.exists());
    assert_eq!(bed.reloads(), reloads);
}
