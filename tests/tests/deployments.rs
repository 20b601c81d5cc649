//! The three ways to deploy ambassadors, beside one another: by hand, from this node's Docker, and through Consul.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::{Duration, Instant, SystemTime};

use tests::haproxy::Ambassador;
use tests::unregistered::{NETWORK, ambassador, confd, run};
use tests::{coins, compose, eventually, http, median, rng_addresses, settle};

const SOON: Duration = Duration::from_secs(20);
/// Starts that are measured; in turns, as an instance that goes too often is left out until it stays.
const STARTS: usize = 10;

async fn once() {
    confd("one", &["--rm"], &["--once"]).await.unwrap();
}

/// Waits until new connections go to exactly the rng that run.
async fn followed(ambassador: &Ambassador, expected: &[String]) {
    let probe = || async { (ambassador.serving("rng").await.ok()? == expected).then_some(()) };
    eventually("it serves what runs", SOON, probe).await.unwrap();
}

/// Waits until new connections go to so many rng, and returns when that was.
async fn reached(ambassador: Ambassador, count: usize) -> SystemTime {
    let end = Instant::now() + SOON;
    while !ambassador.serving("rng").await.is_ok_and(|serving| serving.len() == count) {
        assert!(Instant::now() < end, "{count} rng are not served");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    SystemTime::now()
}

#[tokio::test]
async fn by_hand_from_docker_and_through_consul_the_same_configuration_is_served() {
    let (three, _) = settle(1, 4).await.unwrap();
    let (one, two) = (ambassador("one").await.unwrap(), ambassador("two").await.unwrap());
    confd("two", &["--detach", "--name", "two-confd"], &[]).await.unwrap();
    once().await;
    let running = rng_addresses().await.unwrap();
    for each in [&one, &two, &three] {
        followed(each, &running).await;
        assert_eq!(each.configuration().unwrap(), three.configuration().unwrap());
    }

    let subjects = compose::containers("rng").await.unwrap();
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for subject in subjects.iter().cycle().take(STARTS) {
        compose::docker(&["stop", "--time", "1", &subject.id]).await.unwrap();
        once().await;
        let fewer = rng_addresses().await.unwrap();
        for each in [&one, &two, &three] {
            followed(each, &fewer).await;
        }
        let count = fewer.len() + 1;
        let watches = [&one, &two, &three].map(|each| tokio::spawn(reached(each.clone(), count)));
        let since = coins::now();
        compose::docker(&["start", &subject.id]).await.unwrap();
        once().await;
        let started = compose::starts(&since).await.unwrap()[&subject.id];
        for (times, watch) in times.iter_mut().zip(watches) {
            times.push(watch.await.unwrap().duration_since(started).unwrap());
        }
    }
    for (name, times) in ["by hand", "from docker", "through consul"].iter().zip(&times) {
        let worst = times.iter().max().unwrap();
        println!("{name}: start event to serving: median {:?}, worst {worst:?}", median(times));
    }
    let alike =
        || async { (two.configuration().ok()? == three.configuration().ok()?).then_some(()) };
    eventually("both have the same configuration", SOON, alike).await.unwrap();

    // Whoever configures may die; who is dead is skipped.
    compose::docker(&["kill", "two-confd"]).await.unwrap();
    compose::docker(&["stop", "--time", "1", &subjects[0].id]).await.unwrap();
    let left = rng_addresses().await.unwrap();
    followed(&two, &left).await;
    compose::docker(&["rm", "--force", "--volumes", "one", "two", "two-confd"]).await.unwrap();
}

#[tokio::test]
async fn a_client_gets_its_ambassador_by_hand_and_a_second_time_nothing_changes() {
    settle(1, 2).await.unwrap();
    let labels =
        ["com.docker.compose.project=shop", "ambassador.upstreams=rng:80", "SERVICE_IGNORE=true"];
    let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
    let client =
        ["run", "--detach", "--name", "client", "--network", NETWORK, "--entrypoint", "sleep"];
    let id =
        compose::docker(&[&client[..], &labels, &["ambassador/redis", "infinity"]].concat()).await;
    let id = id.unwrap();
    let command = async |words: &[&str]| {
        let image = ["--volume", "shop:/run/ambassador", "ambassador/ambassador"];
        run(&["--rm"], &[&image[..], words].concat()).await.unwrap()
    };
    let create = ["create", "--project", "shop", "--volume", "shop"];
    let configure = ["configure", "--internal", "--network", NETWORK];
    // One right after the other: `create` ends when its ambassadors can be configured.
    command(&create).await;
    command(&configure).await;
    let ambassador = Ambassador::of_volume("shop", &id[..12]).await.unwrap();
    // From where the client is: a fixed address of its own, behind which every rng may answer.
    let ask =
        "exec 3<>/dev/tcp/127.127.0.2/80; printf 'GET /8 HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3";
    let answer = compose::docker(&["exec", "client", "bash", "-c", ask]).await.unwrap();
    assert!(answer.contains("200"), "{answer}");

    let before = (ambassador.configuration().unwrap(), ambassador.reloads().await.unwrap());
    let filter = ["ps", "--all", "--quiet", "--filter", "label=ambassador.project=shop"];
    let containers = compose::docker(&filter).await.unwrap();
    command(&create).await;
    command(&configure).await;
    assert_eq!(compose::docker(&filter).await.unwrap(), containers);
    let after = (ambassador.configuration().unwrap(), ambassador.reloads().await.unwrap());
    assert_eq!(after, before);

    command(&["delete", "--project", "shop"]).await;
    assert_eq!(compose::docker(&filter).await.unwrap(), "");
    compose::docker(&["rm", "--force", "client"]).await.unwrap();
}

#[tokio::test]
async fn labels_share_traffic_out_between_two_versions() {
    let (three, _) = settle(1, 1).await.unwrap();
    let two = ambassador("two").await.unwrap();
    confd("two", &["--detach", "--name", "two-confd"], &[]).await.unwrap();
    for (name, weight) in [("blue", "SERVICE_WEIGHT=30"), ("green", "SERVICE_WEIGHT=10")] {
        let labels = ["SERVICE_NAME=labelled", "SERVICE_TAGS=http", "SERVICE_HEALTH=ignore"];
        let labels: Vec<&str> =
            labels.iter().chain([&weight]).flat_map(|label| ["--label", label]).collect();
        let head = ["run", "--detach", "--name", name, "--network", NETWORK, "--expose", "80"];
        let image = ["--read-only", "ambassador/dockercoins", "hasher"];
        compose::docker(&[&head[..], &labels, &image].concat()).await.unwrap();
    }
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let stock = compose::containers("ambassador").await.unwrap().remove(0).address;
    let own = compose::docker(&["inspect", "--format", format, "two"]).await.unwrap();
    for (way, each, address) in [("consul", &three, stock.as_str()), ("docker", &two, own.trim())] {
        let both = || async { (each.serving("labelled").await.ok()?.len() == 2).then_some(()) };
        eventually("both versions are served", SOON, both).await.unwrap();
        for _ in 0..80 {
            let answer = http::ask(&format!("http://{address}/"), "labelled", None).await.unwrap();
            assert_eq!(answer.status, 200);
        }
        let servers = each.servers("labelled").await.unwrap();
        let mut sessions: Vec<_> = servers.values().map(|server| server.sessions).collect();
        sessions.sort_unstable();
        println!("weights of 30 and 10, through {way}: {sessions:?} of 80 requests");
        assert!(
            (18..=22).contains(&sessions[0]) && sessions[0] + sessions[1] == 80,
            "{sessions:?}"
        );
    }
    let all = ["rm", "--force", "--volumes", "blue", "green", "two", "two-confd"];
    compose::docker(&all).await.unwrap();
}
