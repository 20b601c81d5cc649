//! What a command is about: a service, or a container, and the instances that are meant.

use std::time::Duration;

use clap::{Args, FromArgMatches};
use consul::{Client, Query, ServiceEntry};
use tokio::time::timeout;

use super::ports::Ports;
use crate::docker::{Endpoint, Engine};

/// How long Docker may take to say which container has a name: it is asked at every look, and Consul knows most of them.
const DOCKER: Duration = Duration::from_secs(1);

/// Instances, by service.
pub(crate) struct Subject {
    pub(crate) instances: Vec<ServiceEntry>,
    /// The ports of all instances of their services.
    pub(crate) ports: Ports,
    /// Whether a service is meant, and so all its instances, later ones too.
    pub(crate) service: Option<String>,
}

impl Subject {
    /// Finds what a word means: a service's name first, else a container's name or ID. Of a container of this node whose
    /// instances have an ID without its name (`SERVICE_ID`), Docker knows the name.
    pub(crate) async fn find(client: &Client, word: &str) -> Result<Self, consul::Error> {
        let services = client.catalog_services(&Query::default()).await?.value;
        if services.contains_key(word) {
            let instances = entries(client, word).await?;
            let mut ports = Ports::default();
            ports.add(&instances);
            return Ok(Self { instances, ports, service: Some(word.to_owned()) });
        }
        let id = called(word).await;
        let words: Vec<_> = [word].into_iter().chain(id.as_deref()).collect();
        let (instances, ports) = search(client, &words).await?;
        Ok(Self { instances, ports, service: None })
    }

    /// A service with these instances.
    #[cfg(test)]
    pub(crate) fn of(service: &str, instances: Vec<ServiceEntry>) -> Self {
        let mut ports = Ports::default();
        ports.add(&instances);
        Self { instances, ports, service: Some(service.to_owned()) }
    }
}

/// Returns a service's instances.
pub(crate) async fn entries(
    client: &Client,
    service: &str,
) -> Result<Vec<ServiceEntry>, consul::Error> {
    let mut entries = client.health_service(service, &Query::default()).await?.value;
    entries.sort_by(|one, other| {
        (&one.node.name, &one.service.id).cmp(&(&other.node.name, &other.service.id))
    });
    Ok(entries)
}

/// Returns a container's instances, on whichever node.
pub(crate) async fn of_container(
    client: &Client,
    word: &str,
) -> Result<Vec<ServiceEntry>, consul::Error> {
    Ok(search(client, &[word]).await?.0)
}

/// Returns the ID of the container that has a name here and runs, where Docker is as the environment says and answers.
async fn called(name: &str) -> Option<String> {
    let flags = Endpoint::augment_args(clap::Command::new("docker"));
    let flags = daemon::flags::without_empty(flags, "DOCKER_", "").try_get_matches_from([""]);
    let engine = Engine::new(&Endpoint::from_arg_matches(&flags.ok()?).ok()?).ok()?;
    let running = timeout(DOCKER, engine.running(name)).await.ok()?.ok()??;
    // Docker takes the beginning of an ID, too, but `db` is rather a service that is yet to come.
    (!running.id.starts_with(name)).then_some(running.id)
}

/// Returns the instances of a container that goes by one of these words, and the ports of all instances of their services.
async fn search(
    client: &Client,
    words: &[&str],
) -> Result<(Vec<ServiceEntry>, Ports), consul::Error> {
    let (mut found, mut ports) = (Vec::new(), Ports::default());
    for service in client.catalog_services(&Query::default()).await?.value.into_keys() {
        let entries = entries(client, &service).await?;
        ports.add(&entries);
        let is_meant = |entry: &ServiceEntry| words.iter().any(|word| is_of(entry, word));
        found.extend(entries.into_iter().filter(is_meant));
    }
    Ok((found, ports))
}

/// Tells whether an instance is that of a container, by the container's name or ID.
fn is_of(entry: &ServiceEntry, word: &str) -> bool {
    // Registrator's IDs are `<host>:<container>:<port>`, and its Meta has the ID as `docker ps` shows it.
    let named = entry.service.id.split(':').nth(1) == Some(word);
    let container = entry.service.meta.get("container").map_or("", String::as_str);
    let by_id = container.len() >= 4 && word.len() >= 4;
    named || by_id && (container.starts_with(word) || word.starts_with(container))
}

#[cfg(test)]
mod tests {
    use consul::AgentService;

    use super::*;

    #[test]
    fn a_container_is_known_by_name_and_by_id_whole_or_short() {
        let meta = [("container".to_owned(), "0123456789ab".to_owned())];
        let service = AgentService {
            id: "n1:coins-rng-1:80".into(),
            meta: meta.into(),
            ..AgentService::default()
        };
        let entry = ServiceEntry { service, ..ServiceEntry::default() };
        for (word, is) in [
            ("coins-rng-1", true),
            ("0123456789ab", true),
            ("0123", true),
            ("0123456789abcdef", true),
            ("012", false),
            ("coins-rng", false),
            ("", false),
        ] {
            assert_eq!(is_of(&entry, word), is, "{word}");
        }
    }
}
