//! Clients and their ambassadors, as containers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, HostConfig,
    HostConfigLogConfig, Mount, MountType,
};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, RemoveContainerOptions,
};
use futures_util::stream::{self, StreamExt};
use services::Container;
use tokio::time::timeout;

use super::{Engine, Error};
use crate::agent::plan::{Ambassador, Client, Identity};
use crate::upstreams;

/// Labels of an ambassador; what has the first one is an ambassador and never a client.
const CONTAINER: &str = "ambassador.container";
const STARTED_AT: &str = "ambassador.started-at";
const PROJECT: &str = "ambassador.project";
const SETTINGS: &str = "ambassador.settings";
/// Nobody registers ambassadors as services.
const IGNORE: &str = "SERVICE_IGNORE";
/// Compose's name for the project of a container.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// Where the image keeps its files, and where the volume is mounted.
const FOLDER: &str = "/run/ambassador";
/// So much of an ID tells it apart, as in `docker ps`.
const SHORT: usize = 12;

/// How many containers are inspected at a time.
const AT_ONCE: usize = 8;
/// How long an inspection may take: some milliseconds are usual, and the others wait for it.
const INSPECTION: Duration = Duration::from_secs(5);

/// What there is on a node.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) clients: Vec<Client>,
    pub(crate) ambassadors: Vec<Ambassador>,
    /// Containers that ask for upstreams and cannot be inspected now, by whole ID.
    pub(crate) unknown: BTreeMap<String, Unknown>,
}

/// A container that cannot be inspected.
#[derive(Debug)]
pub(crate) struct Unknown {
    pub(crate) project: String,
    pub(crate) why: String,
}

/// What ambassadors are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) image: String,
    /// The volume in which each ambassador has a directory, named after its client.
    pub(crate) volume: String,
}

impl Recipe {
    /// Returns what tells ambassadors of this recipe from those of another.
    pub(crate) fn settings(&self) -> String {
        format!("{} {}", self.image, self.volume)
    }

    fn container(&self, identity: &Identity) -> ContainerCreateBody {
        let labels = [
            (CONTAINER, &identity.container),
            (STARTED_AT, &identity.started_at),
            (PROJECT, &identity.project),
            (SETTINGS, &identity.settings),
            (upstreams::LABEL, &identity.upstreams),
            (IGNORE, &"true".to_owned()),
        ];
        let volume = Mount {
            typ: Some(MountType::VOLUME),
            source: Some(self.volume.clone()),
            target: Some(FOLDER.to_owned()),
            ..Mount::default()
        };
        ContainerCreateBody {
            image: Some(self.image.clone()),
            cmd: Some(vec!["run".to_owned()]),
            env: Some(vec![format!("AMBASSADOR_DIR={FOLDER}/{}", short(&identity.container))]),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.clone())).into()),
            host_config: Some(HostConfig {
                network_mode: Some(format!("container:{}", identity.container)),
                mounts: Some(vec![volume]),
                // It rotates by itself, which Docker's default does not.
                log_config: Some(HostConfigLogConfig {
                    typ: Some("local".to_owned()),
                    config: None,
                }),
                tmpfs: Some(HashMap::from([("/tmp".to_owned(), String::new())])),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

impl Engine {
    /// Returns all ambassadors, and the containers that ask for upstreams. Of each of these is inspected whether it
    /// runs, side by side: an engine may hang on a single one.
    pub(crate) async fn list(&self) -> Result<Found, Error> {
        let filter = ("label".to_owned(), vec![upstreams::LABEL.to_owned()]);
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([filter])),
            ..ListContainersOptions::default()
        };
        let listed =
            self.0.ask("list containers", self.0.api().list_containers(Some(options))).await?;
        let mut found = Found::default();
        let mut candidates = Vec::new();
        for container in listed {
            if let Some(ambassador) = ambassador(&container) {
                found.ambassadors.push(ambassador);
            } else if runs(&container) {
                let project = label(&container, COMPOSE_PROJECT);
                candidates.extend(container.id.map(|id| (id, project)));
            }
        }
        let mut inspected = stream::iter(candidates)
            .map(async |(id, project)| (timeout(INSPECTION, self.client(&id)).await, id, project))
            .buffered(AT_ONCE);
        while let Some((inspected, id, project)) = inspected.next().await {
            let why = match inspected {
                Ok(Ok(client)) => {
                    found.clients.extend(client);
                    continue;
                }
                Ok(Err(error)) => format!("{:#}", anyhow::Error::from(error)),
                Err(_) => format!("docker did not answer within {INSPECTION:?}"),
            };
            found.unknown.insert(id, Unknown { project, why });
        }
        Ok(found)
    }

    /// Creates and starts an ambassador.
    pub(crate) async fn create(&self, recipe: &Recipe, identity: &Identity) -> Result<(), Error> {
        let name = format!("ambassador-{}", short(&identity.container));
        let options =
            CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        let create = self.0.api().create_container(Some(options), recipe.container(identity));
        let id = self.0.ask("create the ambassador", create).await?.id;
        let start = self.0.api().start_container(&id, None);
        let started = self.0.ask("start the ambassador", start).await;
        if started.is_err() {
            // Its client has gone in between, as a rule: then nobody else would miss it.
            self.remove(&id).await?;
        }
        started
    }

    /// Removes a container, running or not; one that is gone already is fine.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let removal = self.0.api().remove_container(id, Some(options));
        match self.0.ask("remove the ambassador", removal).await {
            // 409: somebody else is removing it.
            Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(()),
            done => done,
        }
    }

    /// Returns everything about all containers, running or not.
    pub(crate) async fn inspect_all(&self) -> Result<Vec<serde_json::Value>, Error> {
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let listed =
            self.0.ask("list containers", self.0.api().list_containers(Some(options))).await?;
        let mut all = Vec::new();
        for id in listed.into_iter().filter_map(|container| container.id) {
            match self.0.inspect(&id).await {
                Ok(container) => all.extend(container),
                Err(error) => {
                    tracing::warn!(container = id, "left out: {:#}", anyhow::Error::from(error));
                }
            }
        }
        Ok(all)
    }

    /// Returns a client, unless it has ended in between.
    async fn client(&self, id: &str) -> Result<Option<Client>, Error> {
        let Some(document) = self.0.inspect(id).await? else { return Ok(None) };
        let Ok(container) = Container::from_inspect(&document) else { return Ok(None) };
        if !container.running {
            return Ok(None);
        }
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        Ok(Some(Client {
            id: id.to_owned(),
            project: label(COMPOSE_PROJECT),
            asks: label(upstreams::LABEL),
            network: document["HostConfig"]["NetworkMode"].as_str().unwrap_or_default().to_owned(),
            system: services::is_system(&container),
            name: container.name,
            started_at: container.started_at,
        }))
    }
}

fn ambassador(container: &ContainerSummary) -> Option<Ambassador> {
    let labels = container.labels.as_ref()?;
    let label = |key: &str| label(container, key);
    Some(Ambassador {
        id: container.id.clone()?,
        identity: Identity {
            container: labels.get(CONTAINER)?.clone(),
            started_at: label(STARTED_AT),
            project: label(PROJECT),
            upstreams: label(upstreams::LABEL),
            settings: label(SETTINGS),
        },
        running: runs(container),
    })
}

fn label(container: &ContainerSummary, key: &str) -> String {
    container.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
}

fn runs(container: &ContainerSummary) -> bool {
    let state = container.state;
    matches!(state, Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED))
}

fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}
