//! The ambassadors of this node, as their containers' labels describe them.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;

use daemon::error::chain;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::docker::{Endpoint, Engine, Error, Labelled};
use crate::text;

/// The label that makes a container an ambassador: the whole ID of its client.
const CONTAINER: &str = "ambassador.container";
/// What its client asks for: `rng:80,hasher:80`. The client has this label, too.
const UPSTREAMS: &str = "ambassador.upstreams";
/// The client's Compose project.
const PROJECT: &str = "ambassador.project";
/// So much of an ID tells it apart, as in `docker ps`.
const SHORT: usize = 12;
/// Addresses 127.127.0.2 to 127.127.0.254.
const MOST: usize = 253;
/// How long the engine may take for one answer.
const LIMIT: Duration = Duration::from_secs(30);
/// All is listed again this often, though no event says so.
const RESYNC: Duration = Duration::from_mins(1);
/// Events come in bursts; each of them costs one listing.
const BURST: Duration = Duration::from_millis(10);
/// The longest pause before the engine is looked for again.
const LONGEST: Duration = Duration::from_secs(5);

/// An ambassador, and the client that it works for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ambassador {
    /// The first 12 hexadecimal digits of the client's ID; also the name of the directory that it shares.
    pub id: String,
    /// The client's whole ID.
    pub container: String,
    /// The client's name; empty where it is not known.
    pub client: String,
    /// The client's Compose project; empty where there is none.
    pub project: String,
    /// The name of this node.
    pub node: String,
    /// What the client can reach, in the order in which it asks for it.
    pub upstreams: Vec<Upstream>,
    /// The ambassador's own container: another one has to be told everything anew.
    pub instance: String,
}

/// A service that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Upstream {
    /// The service's name as it is registered, a DNS label: a client that asks for `my_db` means `my-db`.
    pub service: String,
    /// The name as it is written, by which something else than registrator may have registered it.
    #[serde(default)]
    pub written: String,
    /// The port that the client connects to.
    pub port: u16,
    /// The address that the client connects to: 127.127.0.2 for the first service, and so on.
    pub address: Ipv4Addr,
}

impl Ambassador {
    /// Returns one that templates can be checked with.
    #[must_use]
    pub fn example() -> Self {
        let address = |n| Ipv4Addr::new(127, 127, 0, n);
        Self {
            id: "0123456789ab".into(),
            container: "0123456789abcdef".repeat(4),
            client: "example-client-1".into(),
            project: "example".into(),
            node: "node1".into(),
            upstreams: vec![
                Upstream {
                    service: "example".into(),
                    written: "example".into(),
                    port: 80,
                    address: address(2),
                },
                Upstream {
                    service: "example-tcp".into(),
                    written: "example-tcp".into(),
                    port: 6379,
                    address: address(3),
                },
            ],
            instance: "fedcba9876543210".repeat(4),
        }
    }

    /// Reads the labels of a container; `names` are those of the clients, by ID.
    fn read(
        container: &Labelled,
        names: &BTreeMap<String, String>,
        node: &str,
    ) -> Result<Self, String> {
        let label = |key: &str| container.labels.get(key).map_or("", String::as_str);
        let client = label(CONTAINER);
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if client.len() < SHORT || client.len() > 64 || !client.chars().all(hex) {
            return Err(format!("{CONTAINER}={client:?} is no container's ID"));
        }
        Ok(Self {
            id: client[..SHORT].to_owned(),
            container: client.to_owned(),
            client: names.get(client).map(|name| text::clean(name)).unwrap_or_default(),
            project: text::clean(label(PROJECT)),
            node: text::clean(node),
            upstreams: upstreams(label(UPSTREAMS))?,
            instance: container.id.clone(),
        })
    }
}

/// Tells whether `id` can be an ambassador's.
#[must_use]
pub fn is_id(id: &str) -> bool {
    id.len() == SHORT && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Reads a list of upstreams: `SERVICE:PORT,…`. A service has one address, however many of its ports are named.
fn upstreams(text: &str) -> Result<Vec<Upstream>, String> {
    let mut addresses = BTreeMap::new();
    let mut upstreams: Vec<Upstream> = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let wrong = || format!("{UPSTREAMS}: {word:?} is not SERVICE:PORT");
        let (service, port) = word.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if service.is_empty() || !service.chars().all(ordinary) || port == 0 {
            return Err(wrong());
        }
        let next = u8::try_from(addresses.len() + 2).unwrap_or(u8::MAX);
        let address = *addresses.entry(service).or_insert(Ipv4Addr::new(127, 127, 0, next));
        if addresses.len() > MOST {
            return Err(format!("{UPSTREAMS}: there are more than {MOST} services"));
        }
        let written = service.to_owned();
        let Some(service) = services::dns_label(service) else { continue };
        // Two names may be registered as one, and HAProxy refuses a backend that is there twice: the first one has it.
        if !upstreams.iter().any(|one| one.service == service && one.port == port) {
            upstreams.push(Upstream { service, written, port, address });
        }
    }
    Ok(upstreams)
}

/// Reads what containers say, sorted by client: one ambassador for each, and what is wrong with the others.
fn read(
    containers: &[Labelled],
    names: &BTreeMap<String, String>,
    node: &str,
) -> (Vec<Ambassador>, BTreeSet<String>) {
    let (mut all, mut problems) = (BTreeMap::new(), BTreeSet::new());
    for container in containers {
        match Ambassador::read(container, names, node) {
            Ok(ambassador) => drop(all.entry(ambassador.id.clone()).or_insert(ambassador)),
            Err(why) => drop(problems.insert(format!("{}: {why}", text::clean(&container.name)))),
        }
    }
    (all.into_values().collect(), problems)
}

/// Calls `take` with the list of all ambassadors whenever it may have changed. While the engine is away nothing
/// changes.
pub(crate) async fn follow(engine: &Endpoint, take: impl Fn(Vec<Ambassador>)) -> Infallible {
    let mut delays = daemon::backoff::delays();
    let mut said: Option<String> = None;
    loop {
        let answered = || delays.reset();
        let Err(error) = follow_engine(engine, &take, answered).await;
        let why = chain(&error);
        if said.as_ref() != Some(&why) {
            tracing::warn!(
                host = engine.host(),
                why,
                "cannot follow this node's ambassadors, will retry"
            );
        }
        said = Some(why);
        sleep(delays.next_delay().min(LONGEST)).await;
    }
}

async fn follow_engine(
    engine: &Endpoint,
    take: &impl Fn(Vec<Ambassador>),
    mut answered: impl FnMut(),
) -> Result<Infallible, Error> {
    let engine = Engine::new(engine, LIMIT)?;
    let node = engine.node().await?;
    let mut events = engine.events(CONTAINER);
    let mut known = BTreeSet::new();
    loop {
        let containers = engine.with_label(CONTAINER, &["running", "paused"]).await?;
        let clients =
            if containers.is_empty() { vec![] } else { engine.labelled(UPSTREAMS).await? };
        let names = clients.into_iter().map(|client| (client.id, client.name)).collect();
        let (ambassadors, problems) = read(&containers, &names, &node);
        for problem in problems.difference(&known) {
            tracing::warn!("left out an ambassador: {problem}");
        }
        known = problems;
        answered();
        take(ambassadors);
        if let Ok(event) = tokio::time::timeout(RESYNC, events.next()).await {
            event?;
            while let Ok(more) = tokio::time::timeout(BURST, events.next()).await {
                more?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(labels: &[(&str, &str)]) -> Labelled {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Labelled { id: "f".repeat(64), name: "ambassador-1".into(), labels: labels.collect() }
    }

    #[test]
    fn an_ambassador_is_what_its_labels_say() {
        let client = "0123456789ab".to_owned() + &"c".repeat(52);
        let labels = [
            (CONTAINER, client.as_str()),
            (UPSTREAMS, "rng:80, db:1,rng:443,rng:80"),
            (PROJECT, "shop"),
        ];
        let names = BTreeMap::from([(client.clone(), "shop-worker-1".to_owned())]);
        let (all, problems) = read(&[container(&labels), container(&labels)], &names, "n1");
        assert_eq!((all.len(), problems.len()), (1, 0), "one for each client");
        let one = &all[0];
        assert_eq!((one.id.as_str(), one.client.as_str()), ("0123456789ab", "shop-worker-1"));
        assert_eq!((one.project.as_str(), one.node.as_str()), ("shop", "n1"));
        let upstreams: Vec<_> = one
            .upstreams
            .iter()
            .map(|u| format!("{}:{} {}", u.service, u.port, u.address))
            .collect();
        assert_eq!(upstreams, ["rng:80 127.127.0.2", "db:1 127.127.0.3", "rng:443 127.127.0.2"]);
    }

    #[test]
    fn services_are_called_as_they_are_registered_and_keep_the_addresses_of_their_written_names() {
        let all = upstreams("my_db:1,my-db:1,web.api:80,my-db:2,_:3").unwrap();
        let all: Vec<_> =
            all.iter().map(|u| format!("{}:{} {}", u.service, u.port, u.address)).collect();
        assert_eq!(all, ["my-db:1 127.127.0.2", "web-api:80 127.127.0.4", "my-db:2 127.127.0.3"]);
    }

    #[test]
    fn hostile_labels_make_no_ambassador() {
        let good = "a".repeat(64);
        for client in [
            "",
            "../../../etc",
            "abc",
            "ABCDEF012345",
            "0123456789a/",
            "0123456789a\n",
            "äääääääääääää",
        ] {
            let (all, problems) = read(&[container(&[(CONTAINER, client)])], &BTreeMap::new(), "n");
            assert_eq!((all.len(), problems.len()), (0, 1), "{client:?}");
        }
        for asks in [
            "rng",
            "rng:0",
            ":80",
            "rng:65536",
            "r ng:80",
            "rng\n:80",
            "a:80\nglobal",
            "\"]:80",
            "{{x}}:80",
        ] {
            let labels = [(CONTAINER, good.as_str()), (UPSTREAMS, asks)];
            let (all, problems) = read(&[container(&labels)], &BTreeMap::new(), "n");
            assert_eq!((all.len(), problems.len()), (0, 1), "{asks:?}");
        }
        let labels = [(CONTAINER, good.as_str()), (PROJECT, "a\nbind :1\u{1b}")];
        let names = BTreeMap::from([(good.clone(), "na\rme".to_owned())]);
        let (all, _) = read(&[container(&labels)], &names, "no\0de");
        let all = serde_json::to_string(&all).unwrap();
        assert!(text::is_clean(&all) && !all.contains("\\n") && !all.contains("\\u"), "{all}");
    }

    #[test]
    fn there_are_as_many_services_as_addresses() {
        let many: Vec<String> = (0..254).map(|n| format!("s{n}:80")).collect();
        assert!(upstreams(&many.join(",")).is_err());
        let last = upstreams(&many[1..].join(",")).unwrap().pop().unwrap();
        assert_eq!(last.address, Ipv4Addr::new(127, 127, 0, 254));
    }
}
