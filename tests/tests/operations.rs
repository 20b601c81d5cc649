//! What people do around a running system: back redis up, listen on its wire, take everything down.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use tests::unregistered::{self, NETWORK};
use tests::{coins, compose, eventually, http, settle};

const IMAGE: &str = "ambassador/redis";

/// Runs a redis command in a container beside the container `of`, in its network.
async fn beside(of: &str, command: &[&str]) -> anyhow::Result<String> {
    let network = format!("container:{of}");
    let head = ["run", "--rm", "--network", &network, "--entrypoint", "redis-cli", IMAGE];
    compose::docker(&[&head, command].concat()).await
}

#[tokio::test]
async fn a_backup_made_by_a_helper_container_restores_the_wallet() {
    settle(3, 1).await.unwrap();
    let mined = || async { (coins::hashes().await.ok()?.0 > 50.0).then_some(()) };
    eventually("fifty hashes are mined", Duration::from_mins(1), mined).await.unwrap();
    settle(0, 1).await.unwrap(); // so that the numbers stand still
    let redis = &compose::containers("redis").await.unwrap()[0].id;
    let before = (
        coins::redis(&["GET", "hashes"]).await.unwrap(),
        coins::redis(&["HLEN", "wallet"]).await.unwrap(),
    );

    assert_eq!(beside(redis, &["SAVE"]).await.unwrap().trim(), "OK");
    let copy = ["--entrypoint", "cp", IMAGE, "/data/dump.rdb", "/backup/"];
    let volumes = [
        "run",
        "--rm",
        "--user",
        "0",
        "--volumes-from",
        redis,
        "--volume",
        "operations-backup:/backup",
    ];
    compose::docker(&[&volumes[..], &copy].concat()).await.unwrap();

    let restored = ["run", "--detach", "--name", "operations-restored", "--network", "none"];
    let volume = ["--volume", "operations-backup:/data", "--user", "0", IMAGE];
    compose::docker(&[&restored[..], &volume].concat()).await.unwrap();
    let number = |command: [&'static str; 2]| async move {
        let number = beside("operations-restored", &command).await.ok()?;
        number.trim().parse::<u64>().ok().map(|_| number)
    };
    let limit = Duration::from_secs(30);
    let (hashes, _) =
        eventually("the copy answers", limit, || number(["GET", "hashes"])).await.unwrap();
    let (coins, _) =
        eventually("the copy answers", limit, || number(["HLEN", "wallet"])).await.unwrap();
    compose::docker(&["rm", "--force", "operations-restored"]).await.unwrap();
    compose::docker(&["volume", "rm", "operations-backup"]).await.unwrap();
    println!("restored {} hashes and {} coins", hashes.trim(), coins.trim());
    assert_eq!((hashes, coins), before);
}

/// Makes an image of one program of this machine and its libraries: the suite's engine reaches no registry.
async fn image_of(program: &str, name: &str) {
    let script = format!(
        "p=$(PATH=$PATH:/usr/sbin:/usr/bin command -v {program}) && \
         {{ echo \"$p\"; echo /etc/passwd; ldd \"$p\" | grep -o '/[^ ]*'; }} | tar --create --dereference --absolute-names --files-from - \
         | docker import - {name}"
    );
    compose::run("sh", &["-c", &script]).await.unwrap();
}

#[tokio::test]
async fn a_container_in_the_network_of_redis_sees_the_workers_count() {
    settle(1, 1).await.unwrap();
    image_of("tcpdump", "operations-tcpdump").await;
    let redis = &compose::containers("redis").await.unwrap()[0].id;
    let network = format!("container:{redis}");
    let head = [
        "run",
        "--detach",
        "--name",
        "operations-capture",
        "--network",
        &network,
        "--env",
        "PATH=/usr/bin:/usr/sbin",
    ];
    let tail = [
        "operations-tcpdump",
        "tcpdump",
        "-Z",
        "root",
        "-l",
        "-n",
        "-A",
        "-i",
        "any",
        "tcp port 6379",
    ];
    compose::docker(&[&head[..], &tail].concat()).await.unwrap();
    let seen = || async {
        let logs = compose::docker(&["logs", "operations-capture"]).await.ok()?;
        logs.contains("INCRBY").then_some(())
    };
    let result = eventually("INCRBY is seen on the wire", Duration::from_secs(20), seen).await;
    let logs = compose::docker(&["logs", "operations-capture"]).await.unwrap_or_default();
    compose::docker(&["rm", "--force", "operations-capture"]).await.unwrap();
    compose::docker(&["image", "rm", "operations-tcpdump"]).await.unwrap();
    result.unwrap_or_else(|error| panic!("{error:#}:\n{logs}"));
}

/// Starts a hasher of the service `lone` on a random port of the host, for the registrator of published ports alone.
async fn published(name: &str) {
    let words = ["run", "--detach", "--name", name, "--network", NETWORK, "--publish-all"];
    let labels = ["SERVICE_IGNORE=true", "out.SERVICE_NAME=lone", "out.SERVICE_TAGS=http"];
    let labels = labels.map(|label| ["--label", label]).concat();
    let image = ["--expose", "80", "ambassador/dockercoins", "hasher"];
    compose::docker(&[&words[..], &labels, &image].concat()).await.unwrap();
}

/// Returns where these containers are published, sorted.
async fn ports(gateway: &str, names: &[&str]) -> Vec<String> {
    let mut ports = Vec::new();
    for name in names {
        let published = compose::docker(&["port", name, "80/tcp"]).await.unwrap();
        let port = published.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
        ports.push(format!("{gateway}:{port}"));
    }
    ports.sort();
    ports
}

#[tokio::test]
async fn backends_restarted_on_other_host_ports_are_served_again() {
    const SOON: Duration = Duration::from_secs(5);
    let (ambassador, _) = settle(1, 1).await.unwrap();
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let gateway = compose::docker(&["network", "inspect", "--format", format, NETWORK]).await;
    let gateway = gateway.unwrap().trim().to_owned();
    let flags = ["--ip", &gateway, "--explicit", "--label-prefix", "out.", "--hostname", "out"];
    let image = ["--env", "CONSUL_HTTP_ADDR=http://consul:8500", "ambassador/registrator"];
    let words = ["--detach", "--name", "operations-registrator"];
    unregistered::run(&words, &[&image[..], &flags].concat()).await.unwrap();

    let url = format!("http://{}", compose::containers("ambassador").await.unwrap()[0].address);
    let served = async |names: &[&str]| {
        let wanted = ports(&gateway, names).await;
        let probe = || async { (ambassador.serving("lone").await.ok()? == wanted).then_some(()) };
        let ((), took) = eventually("what is published is served", SOON, probe).await.unwrap();
        assert_eq!(http::ask(&url, "lone", None).await.unwrap().status, 200);
        took
    };
    published("operations-1").await;
    served(&["operations-1"]).await;
    let before = ports(&gateway, &["operations-1"]).await;
    compose::docker(&["restart", "--time", "1", "operations-1"]).await.unwrap();
    let took = served(&["operations-1"]).await;
    assert_ne!(ports(&gateway, &["operations-1"]).await, before, "it has another port");
    println!("a lone backend on a new port: served {took:?} after docker restart");

    let all = ["operations-1", "operations-2", "operations-3"];
    published(all[1]).await;
    published(all[2]).await;
    served(&all).await;
    compose::docker(&[&["restart", "--time", "1"], &all[..]].concat()).await.unwrap();
    println!("three of three: served {:?} after docker restart", served(&all).await);
    let remove = ["rm", "--force", "operations-registrator"];
    compose::docker(&[&remove, &all[..]].concat()).await.unwrap();
}

/// Everything of the stack that the engine knows.
async fn leftovers() -> Vec<String> {
    let mut found = Vec::new();
    for kind in [&["ps", "--all"][..], &["volume", "ls"], &["network", "ls"]] {
        let filter = ["--quiet", "--filter", "label=com.docker.compose.project=dockercoins"];
        let list = compose::docker(&[kind, &filter].concat()).await.unwrap();
        found.extend(list.lines().map(|id| format!("{}: {id}", kind[0])));
    }
    found
}

/// The engine's bridges and cables in its namespace, apart from its own bridge `docker0`.
async fn links() -> Vec<String> {
    let links = compose::run("ip", &["-oneline", "link"]).await.unwrap();
    let names = links.lines().filter_map(|line| line.split(' ').nth(1));
    let left = names.filter(|name| name.starts_with("veth") || name.starts_with("br-"));
    left.map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn taking_it_down_leaves_nothing() {
    settle(2, 2).await.unwrap();
    assert!(leftovers().await.len() >= 10 && !links().await.is_empty(), "the stack is there");
    compose::run("setup/down", &[]).await.unwrap();
    assert_eq!(leftovers().await, [""; 0]);
    assert_eq!(links().await, [""; 0]);
}
