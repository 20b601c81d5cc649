//! Clients and their ambassadors, as containers.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, HostConfig, Mount, MountType,
};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, RemoveContainerOptions,
};

use super::{Engine, Error, asked};
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
    /// Returns all ambassadors, and the running containers that ask for upstreams.
    pub(crate) async fn list(&self) -> Result<(Vec<Client>, Vec<Ambassador>), Error> {
        let filter = ("label".to_owned(), vec![upstreams::LABEL.to_owned()]);
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([filter])),
            ..ListContainersOptions::default()
        };
        let listed = asked("list containers", self.0.list_containers(Some(options))).await?;
        let (mut clients, mut ambassadors) = (Vec::new(), Vec::new());
        for container in listed {
            if let Some(ambassador) = ambassador(&container) {
                ambassadors.push(ambassador);
            } else if runs(&container)
                && let Some(id) = container.id
                && let Some(client) = self.client(&id).await?
            {
                clients.push(client);
            }
        }
        Ok((clients, ambassadors))
    }

    /// Creates and starts an ambassador.
    pub(crate) async fn create(&self, recipe: &Recipe, identity: &Identity) -> Result<(), Error> {
        let name = format!("ambassador-{}", short(&identity.container));
        let options =
            CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        let create = self.0.create_container(Some(options), recipe.container(identity));
        let id = asked("create the ambassador", create).await?.id;
        let started = asked("start the ambassador", self.0.start_container(&id, None)).await;
        if started.is_err() {
            // Its client has gone in between, as a rule: then nobody else would miss it.
            self.remove(&id).await?;
        }
        started
    }

    /// Removes a container, running or not; one that is gone already is fine.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match asked("remove the ambassador", self.0.remove_container(id, Some(options))).await {
            // 409: somebody else is removing it.
            Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(()),
            done => done,
        }
    }

    /// Returns a client, unless it has ended in between.
    async fn client(&self, id: &str) -> Result<Option<Client>, Error> {
        let container = match asked("inspect a client", self.0.inspect_container(id, None)).await {
            Ok(container) => container,
            Err(error) if error.status() == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let state = container.state.unwrap_or_default();
        if state.running != Some(true) || state.restarting == Some(true) {
            return Ok(None);
        }
        let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
        let network = container.host_config.and_then(|config| config.network_mode);
        Ok(Some(Client {
            id: id.to_owned(),
            name: container.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            started_at: state.started_at.unwrap_or_default(),
            project: labels.get(COMPOSE_PROJECT).cloned().unwrap_or_default(),
            asks: labels.get(upstreams::LABEL).cloned().unwrap_or_default(),
            network: network.unwrap_or_default(),
        }))
    }
}

fn ambassador(container: &ContainerSummary) -> Option<Ambassador> {
    let labels = container.labels.as_ref()?;
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
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

fn runs(container: &ContainerSummary) -> bool {
    let state = container.state;
    matches!(state, Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED))
}

fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}
