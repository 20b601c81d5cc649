//! This node's containers as the source: no Consul, no registrator.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use testbed::docker::Docker;
use testbed::tls::{Certificates, SecureDocker};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;

use crate::bed::Bed;

/// Returns the IDs that the file lists.
fn listed(bed: &Bed) -> BTreeSet<String> {
    let text = fs::read_to_string(bed.folder.path().join("out")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

/// Makes one resource the only one: a list of the instances of the service web.
fn list(bed: &Bed) {
    fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let dest = bed.folder.path().join("out");
    bed.write(
        "conf.d/t.toml",
        &format!("[template]\nsrc = \"t\"\ndest = {:?}\n", dest.display().to_string()),
    );
    let template = "{% for one in service(name=\"web\", tag=\"http\") %}{{ one.id }}\n{% endfor %}";
    bed.write("templates/t", template);
}

/// A connection to the engine that can be cut: everybody who uses it loses it, and gets another one unless it is away.
struct Wire(tokio::sync::watch::Sender<bool>);

impl Wire {
    /// Leads from the address that is returned to the engine's socket.
    async fn to(engine: &Docker) -> (Self, String) {
        let socket = engine.url().trim_start_matches("unix://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let (cut, mut cuts) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            let mut all = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (mut here, socket) = (accepted.unwrap().0, socket.clone());
                        if *cuts.borrow() {
                            continue;
                        }
                        all.spawn(async move {
                            let mut there = UnixStream::connect(socket).await?;
                            tokio::io::copy_bidirectional(&mut here, &mut there).await
                        });
                    }
                    Ok(()) = cuts.changed() => all.abort_all(),
                }
            }
        });
        (Self(cut), address)
    }

    fn cut(&self) {
        self.0.send_replace(false);
    }

    fn set_away(&self, away: bool) {
        self.0.send_replace(away);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_about_to_stop_gets_no_traffic_though_the_connection_to_the_engine_was_lost() {
    let docker = Docker::start().unwrap();
    let (wire, address) = Wire::to(&docker).await;
    let mut bed = Bed::new();
    list(&bed);
    for (name, value) in [
        ("CONSUL_HTTP_ADDR", "http://127.0.0.1:9"),
        ("DOCKER_HOST", &address),
        ("CONFD_SOURCE", "docker"),
        ("CONFD_HOSTNAME", "n1"),
        // As Compose files leave them, and as registrator takes them.
        ("CONFD_INTERNAL", "yes"),
        ("CONFD_EXPLICIT", ""),
    ] {
        bed.environment.push((name.into(), value.into()));
    }
    let labels = ["--label", "SERVICE_NAME=web", "--label", "SERVICE_TAGS=http", "--expose", "80"];
    let ids = |names: &[&str]| names.iter().map(|name| format!("n1:{name}:80")).collect();
    docker.run("wa", &labels).unwrap();
    // Without an init of its own `sleep` is process 1, and takes no notice of the signal.
    let deaf = ["run", "-d", "--name", "wb", "--stop-timeout", "12"];
    let command = [testbed::docker::IMAGE, "sleep", "infinity"];
    docker.cli(&[&deaf[..], &labels, &command].concat()).unwrap();
    bed.start();
    bed.until("both are listed", |bed| listed(bed) == ids(&["wa", "wb"])).await;
    docker.cli(&["kill", "--signal", "TERM", "wb"]).unwrap();
    bed.until("the deaf one is not", |bed| listed(bed) == ids(&["wa"])).await;
    let told = std::time::Instant::now();
    wire.cut();
    docker.run("wc", &labels).unwrap();
    bed.until("the engine is followed again", |bed| listed(bed).contains("n1:wc:80")).await;
    if told.elapsed() < Duration::from_secs(10) {
        assert_eq!(listed(&bed), ids(&["wa", "wc"]));
    }
    bed.until("it has survived", |bed| listed(bed) == ids(&["wa", "wb", "wc"])).await;
    assert!(told.elapsed() > Duration::from_secs(10), "after {:?} only", told.elapsed());

    // What happens meanwhile is found out: it is told to stop, and later started again.
    wire.set_away(true);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    docker.cli(&["kill", "--signal", "TERM", "wb"]).unwrap();
    wire.set_away(false);
    bed.until("it is about to stop", |bed| listed(bed) == ids(&["wa", "wc"])).await;
    wire.set_away(true);
    docker.cli(&["restart", "--time", "0", "wb"]).unwrap();
    let started = std::time::Instant::now();
    wire.set_away(false);
    bed.until("it runs", |bed| listed(bed) == ids(&["wa", "wb", "wc"])).await;
    assert!(started.elapsed() < Duration::from_secs(8), "after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_consul_could_answer_is_an_error_at_once_that_names_the_line() {
    let docker = Docker::start().unwrap();
    let mut bed = Bed::new();
    list(&bed);
    bed.environment.push(("DOCKER_HOST".into(), docker.url()));
    bed.environment.push(("CONFD_SOURCE".into(), "docker".into()));
    let question =
        "\n{% for one in service(name=\"web\", filter=\"Checks is empty\") %}{% endfor %}";
    bed.write("templates/t", question);
    let started = std::time::Instant::now();
    let output = bed.run(&["--once", "--once-timeout", "5m"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = ["by_tag", "--source docker", ":2:"];
    assert!(lines.iter().all(|what| said.contains(what)), "{said}");
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_the_source_once_and_for_as_long_as_they_change() {
    let docker = Docker::start().unwrap();
    let mut bed = Bed::new();
    list(&bed);
    // Nobody answers there, and nobody needs to.
    bed.environment.push(("CONSUL_HTTP_ADDR".into(), "http://127.0.0.1:9".into()));
    bed.environment.push(("DOCKER_HOST".into(), docker.url()));
    bed.environment.push(("CONFD_SOURCE".into(), "docker".into()));
    bed.environment.push(("CONFD_HOSTNAME".into(), "n1".into()));
    bed.environment.push(("CONFD_INTERNAL".into(), "true".into()));
    // As registrator does: text, or a template over what the engine says, which may hold a comma.
    let tags = "{% if Config.Image in [\"busybox\", \"x\"] %}http{% endif %},extra";
    bed.environment.push(("CONFD_TAGS".into(), tags.into()));
    let labels = ["--label", "SERVICE_NAME=web", "--expose", "80"];
    docker.run("wa", &labels).unwrap();
    let output = bed.run(&["--once"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ids = |names: &[&str]| names.iter().map(|name| format!("n1:{name}:80")).collect();
    assert_eq!(listed(&bed), ids(&["wa"]));

    bed.start();
    docker.run("wb", &labels).unwrap();
    bed.until("the second is listed", |bed| listed(bed) == ids(&["wa", "wb"])).await;
    docker.cli(&["pause", "wb"]).unwrap();
    bed.until("a paused one is not", |bed| listed(bed) == ids(&["wa"])).await;
    docker.cli(&["unpause", "wb"]).unwrap();
    bed.until("it is again", |bed| listed(bed) == ids(&["wa", "wb"])).await;
    docker.cli(&["kill", "--signal", "WINCH", "wb"]).unwrap();
    docker.cli(&["rename", "wa", "wc"]).unwrap();
    bed.until("its new name counts", |bed| listed(bed) == ids(&["wb", "wc"])).await;
    docker.cli(&["rm", "--force", "wc"]).unwrap();
    bed.until("one that is gone is not listed", |bed| listed(bed) == ids(&["wb"])).await;
    docker.kill().unwrap();
    docker.launch().unwrap();
    docker.run("wd", &labels).unwrap();
    bed.until("an engine that returns is followed", |bed| listed(bed).contains("n1:wd:80")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_behind_tls_is_followed_and_not_with_anothers_certificates() {
    let engine = SecureDocker::start().unwrap();
    let labels = ["--label", "SERVICE_NAME=web", "--label", "SERVICE_TAGS=http", "--expose", "80"];
    engine.run("wa", &labels).unwrap();
    let others = Certificates::new().unwrap();
    let mut bed = Bed::new();
    list(&bed);
    let folder = |certificates: &Certificates| certificates.folder().display().to_string();
    for (name, value) in [
        ("CONSUL_HTTP_ADDR", "http://127.0.0.1:9"),
        ("DOCKER_HOST", &engine.secure_url()),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", &folder(&others)),
        ("CONFD_SOURCE", "docker"),
        ("CONFD_HOSTNAME", "n1"),
        ("CONFD_INTERNAL", "true"),
    ] {
        bed.environment.push((name.into(), value.into()));
    }
    bed.start();
    let refused = format!("docker at {} did not", engine.secure_url());
    bed.until("the refusal is reported", |bed| bed.log().contains(&refused)).await;
    assert!(listed(&bed).is_empty());
    bed.confd().stop().unwrap();
    bed.environment.push(("DOCKER_CERT_PATH".into(), folder(engine.certificates())));
    bed.start();
    bed.until("it is listed", |bed| listed(bed).contains("n1:wa:80")).await;
}
