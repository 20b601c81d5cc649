//! Each client has its ambassador while it runs, and not longer.

use std::time::Duration;

use crate::harness::{Node, eventually};
use crate::proxy::Proxy;

#[test]
fn a_client_reaches_its_upstreams_through_the_ambassador_in_its_own_network() {
    let node = Node::new();
    let _agent = node.agent();
    let script = "echo served > /www/index.html; exec httpd -f -p 8080 -h /www";
    node.docker.cli(&["run", "-d", "--name", "web", "busybox", "sh", "-c", script]).unwrap();
    let address =
        node.docker.cli(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).unwrap();

    let client = node.client("client", "web:80", &["--add-host", "web:127.127.0.2"]);
    eventually("an ambassador", || node.settled());
    let ambassador = node.ambassadors()[&client].clone();
    assert_eq!(ambassador.upstreams, "web:80");

    eventually("HAProxy serves", || {
        node.docker.cli(&["exec", &ambassador.id, "ambassador", "healthcheck"]).is_ok()
    });
    let backend = format!("{address}:8080");
    let reconfigure = ["ambassador", "reconfigure", "127.127.0.2:80", &backend];
    node.docker.cli(&[&["exec", ambassador.id.as_str()], &reconfigure[..]].concat()).unwrap();
    let answer = node.docker.cli(&["exec", "client", "wget", "-qO-", "http://web/"]).unwrap();
    assert_eq!(answer, "served");
}

#[test]
fn ambassadors_follow_clients_that_come_restart_and_go() {
    let node = Node::new();
    let _agent = node.agent();
    let one = node.client("one", "rng:80,hasher:80", &[]);
    let two = node.client("two", "redis:6379", &[]);
    node.docker.run("bystander", &[]).unwrap();
    eventually("two ambassadors", || node.settled());
    let before = node.ambassadors();
    assert_eq!(before.keys().collect::<std::collections::BTreeSet<_>>(), [&one, &two].into());

    node.docker.cli(&["restart", "-t", "0", "one"]).unwrap();
    eventually("another one for the new network", || node.settled());
    let after = node.ambassadors();
    assert_ne!(after[&one].id, before[&one].id);
    assert_eq!(after[&one].started_at, node.started_at("one"));
    assert_eq!(after[&two], before[&two], "the other one is left alone");

    node.docker.cli(&["kill", "one"]).unwrap();
    node.docker.cli(&["rm", "-f", "two"]).unwrap();
    eventually("none", || node.ambassadors().is_empty());
}

#[test]
fn a_lost_ambassador_is_replaced() {
    let node = Node::new();
    let _agent = node.agent();
    let client = node.client("client", "rng:80", &[]);
    for loss in [&["kill"][..], &["rm", "-f"], &["stop", "-t", "0"]] {
        eventually("an ambassador", || node.settled());
        let lost = node.ambassadors()[&client].id.clone();
        node.docker.cli(&[loss, &[lost.as_str()]].concat()).unwrap();
        eventually("another one", || {
            node.settled() && node.ambassadors().get(&client).is_some_and(|one| one.id != lost)
        });
    }
}

#[test]
fn an_ambassador_that_ends_at_once_is_made_ever_more_slowly_and_its_last_words_are_told() {
    let node = Node::new();
    // An image whose program ends with an error: it knows no command `run`.
    let (before, image) = (node.log().len(), ["--image", "busybox-that-fails"]);
    node.docker.cli(&["tag", "busybox", image[1]]).unwrap();
    let build = ["container", "create", "--name", "made", "busybox"];
    node.docker.cli(&build).unwrap();
    let change = ["--change", "ENTRYPOINT [\"ls\", \"/no/such/place\"]"];
    node.docker.cli(&[&["commit"], &change[..], &["made", image[1]]].concat()).unwrap();
    let agent = node.agent_with(&image, &node.docker.url());
    let client = node.client("client", "rng:80", &[]);
    let log = || node.log()[before..].to_owned();
    let made = || log().matches("ambassador created").count();
    eventually("it was replaced", || made() > 1);
    std::thread::sleep(Duration::from_secs(4));
    // After pauses of 0.1, 0.2, 0.4, 0.8 s and so on; the engine would manage three a second.
    assert!(made() < 10, "{}", log());
    assert_eq!(log().matches("ended soon after its start").count(), 1, "{}", log());
    assert!(log().contains("/no/such/place: No such file"), "{}", log());
    assert!(log().contains("client=\"client\"") && log().contains("exit_code=1"), "{}", log());
    drop(agent);
    // One that cannot even be started.
    let build = ["container", "create", "--name", "other", "busybox"];
    node.docker.cli(&build).unwrap();
    let change = ["--change", "ENTRYPOINT [\"/no/such/program\"]"];
    node.docker.cli(&[&["commit"], &change[..], &["other", image[1]]].concat()).unwrap();
    let before = node.log().len();
    let agent = node.agent_with(&image, &node.docker.url());
    let failed = || node.log()[before..].matches("ambassador not created").count();
    eventually("it failed", || failed() > 1);
    std::thread::sleep(Duration::from_secs(4));
    assert!(failed() < 10, "{}", node.log());
    drop(agent);
    // Another image, another beginning.
    let _agent = node.agent();
    eventually("an ambassador", || node.settled() && node.ambassadors().contains_key(&client));
}

#[test]
fn an_engine_that_lists_and_tells_no_events_is_asked_ever_more_slowly() {
    let node = Node::new();
    let proxy = Proxy::start(&node.docker.socket(), "/events");
    let before = node.log().len();
    let _agent = node.agent_with(&[], &proxy.url());
    // Pauses of 0.1, 0.2, 0.4, 0.8 s and so on, or for ever of 0.1 s.
    let pauses = || node.log()[before..].matches("delay=").count();
    eventually("it was refused", || pauses() > 0);
    std::thread::sleep(Duration::from_secs(4));
    assert!(pauses() < 12, "{}", node.log());
    // What it lists it cares for all the same.
    let client = node.client("client", "rng:80", &[]);
    eventually("an ambassador", || node.ambassadors().contains_key(&client));
}

#[test]
fn a_client_that_asks_for_nonsense_keeps_nobody_else_from_an_ambassador() {
    let node = Node::new();
    let agent = node.agent();
    node.client("bad", "rng", &[]);
    node.client("shared", "rng:80", &["--network", "host"]);
    // A part of this system is nobody's client.
    node.docker.cli(&["tag", "busybox", "acme/consul:1"]).unwrap();
    let asks = ["--label", "ambassador.upstreams=rng:80", "acme/consul:1"];
    node.docker.cli(&[&["run", "-d", "--init"][..], &asks].concat()).unwrap();
    let good = node.client("good", "rng:80", &[]);
    eventually("an ambassador", || node.ambassadors().contains_key(&good));
    assert_eq!(node.ambassadors().len(), 1);
    for reason in ["SERVICE:PORT", "its network is not its own", "a part of the system"] {
        eventually("said", || node.log().contains(reason));
    }
    agent.stop().unwrap();
    // Once is not enough for `create`: who runs it by hand wants to know.
    let project = ["--label", "com.docker.compose.project=shop"];
    node.client("bad-too", "rng", &project);
    let ours = node.client("ours", "rng:80", &project);
    let created = node.command(&["create", "--project", "shop"]).output().unwrap();
    assert_eq!(created.status.code(), Some(1));
    assert!(node.ambassadors().contains_key(&ours));
}

#[test]
fn a_container_that_cannot_be_inspected_keeps_nobody_else_from_an_ambassador() {
    let node = Node::new();
    let bad = node.client("bad", "rng:80", &[]);
    let refused = format!("/containers/{bad}/json");
    let proxy = Proxy::start(&node.docker.socket(), &refused);
    let agent = node.agent_with(&[], &proxy.url());
    let good = node.client("good", "rng:80", &[]);
    eventually("an ambassador", || node.ambassadors().contains_key(&good));
    assert_eq!(node.ambassadors().len(), 1);
    assert!(node.log().contains("cannot inspect"), "{}", node.log());
    node.docker.cli(&["rm", "-f", "good"]).unwrap();
    eventually("none", || node.ambassadors().is_empty());
    drop(agent);
    // `create` fails if it is one of the project that is meant.
    for (project, code) in [("", 1), ("shop", 0)] {
        let mut create = node.command(&["create", "--project", project]);
        let created = create.env("DOCKER_HOST", proxy.url()).output().unwrap();
        assert_eq!(created.status.code(), Some(code), "{project:?}: {created:?}");
    }

    // An ambassador that is there stays while its client cannot be inspected.
    let direct = node.agent();
    eventually("its ambassador", || node.ambassadors().contains_key(&bad));
    drop(direct);
    let before = node.ambassadors();
    let _agent = node.agent_with(&[], &proxy.url());
    let other = node.client("other", "rng:80", &[]);
    eventually("an ambassador", || node.ambassadors().contains_key(&other));
    assert_eq!(node.ambassadors()[&bad], before[&bad]);
}

#[test]
fn what_confd_could_not_be_told_is_tried_again_and_keeps_no_client_from_its_ambassador() {
    let node = Node::new();
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("confd");
    std::fs::write(&in_the_way, "").unwrap();
    let flags = ["--dir", folder.path().to_str().unwrap()];
    let _agent = node.agent_with(&flags, &node.docker.url());
    let client = node.client("client", "rng:80", &[]);
    eventually("an ambassador", || node.settled());
    assert!(node.log().contains("confd is not told"), "{}", node.log());
    std::fs::remove_file(&in_the_way).unwrap();
    let resource = in_the_way.join(format!("conf.d/{}.toml", &client[..12]));
    let taken = eventually("told", || resource.exists());
    // Everything is looked at again every thirty seconds, whether it was tried again or not.
    assert!(taken < Duration::from_secs(25), "by a retry and not by chance: {taken:?}");
    // The ambassador's own directory is in the volume, which is not what the agent has there.
    let said = || node.log().matches("confd cannot configure them: is the volume").count();
    eventually("that it cannot be seen is said", || said() == 1);
}

#[test]
fn create_waits_until_its_ambassadors_can_be_configured() {
    let node = Node::new();
    let folder = node.volume("shop");
    let project = ["--label", "com.docker.compose.project=shop"];
    let clients: Vec<_> =
        (0..4).map(|n| node.client(&format!("client-{n}"), "rng:80", &project)).collect();
    let dir = folder.to_str().unwrap();
    node.ask(&["create", "--project", "shop", "--volume", "shop", "--dir", dir]);
    for client in &clients {
        let socket = folder.join(&client[..12]).join("master.sock");
        assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok(), "{}", socket.display());
    }
}

#[test]
fn create_beside_an_agent_or_another_create_succeeds_all_the_same() {
    let node = Node::new();
    let folder = node.volume("shop");
    let dir = folder.to_str().unwrap();
    let words = ["create", "--project", "shop", "--volume", "shop", "--dir", dir];
    let _agent = node.agent_with(&["--volume", "shop", "--dir", dir], &node.docker.url());
    for number in 0..5 {
        let project = ["--label", "com.docker.compose.project=shop"];
        node.client(&format!("client-{number}"), "rng:80", &project);
        let mut other = node.command(&words).spawn().unwrap();
        node.ask(&words);
        assert!(other.wait().unwrap().success());
    }
    eventually("one for each", || node.settled());
}

#[test]
fn create_and_delete_do_once_what_the_agent_does_for_one_project() {
    let node = Node::new();
    let project = ["--label", "com.docker.compose.project=shop"];
    let ours = node.client("ours", "rng:80", &project);
    node.client("stopped", "rng:80", &project);
    let other = node.client("other", "rng:80", &["--label", "com.docker.compose.project=other"]);
    node.docker.cli(&["stop", "-t", "0", "stopped"]).unwrap();

    node.ask(&["create", "--project", "shop"]);
    let created = node.ambassadors();
    assert_eq!(created.keys().collect::<Vec<_>>(), [&ours]);
    node.ask(&["create", "--project", "shop"]);
    assert_eq!(node.ambassadors(), created, "a second time changes nothing");

    node.ask(&["create", "--project", "other"]);
    node.docker.cli(&["stop", "-t", "0", &created[&ours].id]).unwrap();
    node.ask(&["delete", "--project", "shop"]);
    assert_eq!(node.ambassadors().keys().collect::<Vec<_>>(), [&other]);
}

#[test]
fn an_agent_tells_prometheus_what_it_does_and_whether_it_can() {
    let node = Node::new();
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], testbed::port::free_port().unwrap()));
    let agent = node.command(&["agent", "--listen", &listen.to_string()]);
    let _agent = testbed::process::Process::spawn(&agent, None).unwrap();
    let get = |path: &str| testbed::haproxy::get(listen, path);
    eventually("ready", || get("/readyz").is_ok());
    node.client("client", "rng:80", &[]);
    let numbers = || get("/metrics").unwrap_or_default();
    eventually("counted", || {
        let numbers = numbers();
        numbers.contains("ambassador_agent_created_total 1\n")
            && numbers.contains("ambassador_agent_clients 1\n")
    });
    node.docker.cli(&["rm", "-f", "client"]).unwrap();
    eventually("counted down", || numbers().contains("ambassador_agent_removed_total 1\n"));
    node.docker.stop().unwrap();
    eventually("not ready", || get("/healthz").is_ok() && get("/readyz").is_err());
    node.docker.launch().unwrap();
    eventually("ready again", || get("/readyz").is_ok());
}
