//! A Docker container as its inspect document describes it, whatever engine wrote it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::ports::{Binding, Port};

/// Why a document is no container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has another shape.
    #[error("not an inspect document of a container")]
    Shape(#[from] serde_json::Error),
    /// It lacks the one field that everything hangs on.
    #[error("an inspect document without Id")]
    NoId,
}

/// What is used of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// The name, without Docker's leading slash.
    pub name: String,
    /// The image as the user wrote it.
    pub image: String,
    /// Whether its process lives, paused or not.
    pub running: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// How its last process ended; 0 while it runs.
    pub exit_code: i64,
    /// When it was started last, as the engine writes it.
    pub started_at: String,
    /// What its HEALTHCHECK says; `None` without one.
    pub health: Option<Probe>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// The environment, as far as it begins with `SERVICE_`: the rest may hold secrets.
    pub environment: BTreeMap<String, String>,
    /// Whose network it uses.
    pub network_mode: NetworkMode,
    /// Its addresses, by network.
    pub networks: BTreeMap<String, Network>,
    /// The ports that image or user declare.
    pub exposed: BTreeSet<Port>,
    /// The ports that the host forwards.
    pub published: Vec<Binding>,
    /// What `docker stop` sends; `SIGTERM` unless told otherwise.
    pub stop_signal: String,
    /// How many seconds `docker stop` waits; 10 unless told otherwise.
    pub stop_timeout: u64,
}

/// Docker's own health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The state.
    pub status: Health,
    /// What the last probe printed.
    pub output: String,
}

/// The states of Docker's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not known yet.
    Starting,
    /// The last probes succeeded.
    Healthy,
    /// The last probes failed.
    Unhealthy,
}

/// Whose network a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// Networks of its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// Another container's, by id or name.
    Container(String),
}

/// A container's addresses on one network; absent where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The IPv4 address.
    pub ipv4: Option<String>,
    /// The IPv6 address.
    pub ipv6: Option<String>,
}

impl Container {
    /// Reads an inspect document of any engine.
    ///
    /// # Errors
    /// When it is not an object with an `Id`; everything else may be missing.
    pub fn from_inspect(document: &Value) -> Result<Self, Error> {
        let raw = Document::deserialize(document)?;
        let id = raw.id.filter(|id| !id.is_empty()).ok_or(Error::NoId)?;
        let (state, config) = (raw.state.unwrap_or_default(), raw.config.unwrap_or_default());
        let (host, network) =
            (raw.host_config.unwrap_or_default(), raw.network_settings.unwrap_or_default());
        Ok(Self {
            name: raw.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: config.image.unwrap_or_default(),
            running: state.running && !state.restarting && !state.dead,
            paused: state.paused,
            exit_code: state.exit_code,
            started_at: state.started_at.unwrap_or_default(),
            health: state.health.and_then(RawHealth::probe),
            labels: present(config.labels),
            environment: environment(&config.env.unwrap_or_default()),
            network_mode: network_mode(&host.network_mode.unwrap_or_default()),
            networks: networks(&network),
            exposed: ports(config.exposed_ports.as_ref())
                .chain(ports(network.ports.as_ref()))
                .collect(),
            published: bindings(network.ports.as_ref()),
            stop_signal: config
                .stop_signal
                .filter(|s| !s.is_empty())
                .unwrap_or("SIGTERM".to_owned()),
            stop_timeout: config.stop_timeout.unwrap_or(10),
            id,
        })
    }

    /// Returns the first twelve characters of the id, as Docker shows it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

fn present(map: Option<BTreeMap<String, Option<String>>>) -> BTreeMap<String, String> {
    map.into_iter().flatten().map(|(key, value)| (key, value.unwrap_or_default())).collect()
}

fn environment(variables: &[String]) -> BTreeMap<String, String> {
    variables
        .iter()
        .filter(|variable| variable.starts_with("SERVICE_"))
        .filter_map(|variable| variable.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn network_mode(mode: &str) -> NetworkMode {
    match mode.split_once(':') {
        Some(("container", id)) => NetworkMode::Container(id.to_owned()),
        _ if mode == "host" => NetworkMode::Host,
        _ => NetworkMode::Own,
    }
}

/// Older engines also write the default network's addresses beside the map; without a map they are used.
fn networks(settings: &NetworkSettings) -> BTreeMap<String, Network> {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut networks: BTreeMap<String, Network> = settings
        .networks
        .iter()
        .flatten()
        .filter_map(|(name, raw)| {
            let raw = raw.as_ref()?;
            let network =
                Network { ipv4: some(&raw.ip_address), ipv6: some(&raw.global_ipv6_address) };
            Some((name.clone(), network))
        })
        .collect();
    let default =
        Network { ipv4: some(&settings.ip_address), ipv6: some(&settings.global_ipv6_address) };
    if networks.is_empty() && default != Network::default() {
        networks.insert("bridge".to_owned(), default);
    }
    networks
}

type RawPorts = BTreeMap<String, Option<Vec<RawBinding>>>;

fn ports<T>(map: Option<&BTreeMap<String, T>>) -> impl Iterator<Item = Port> {
    map.into_iter().flatten().filter_map(|(key, _)| Port::parse(key))
}

fn bindings(map: Option<&RawPorts>) -> Vec<Binding> {
    let mut bindings: Vec<Binding> = map
        .into_iter()
        .flatten()
        .filter_map(|(key, raw)| Some((Port::parse(key)?, raw.as_ref()?)))
        .flat_map(|(container, raw)| raw.iter().filter_map(move |raw| raw.binding(container)))
        .collect();
    bindings.sort();
    bindings.dedup();
    bindings
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    id: Option<String>,
    name: Option<String>,
    state: Option<State>,
    config: Option<Config>,
    host_config: Option<HostConfig>,
    network_settings: Option<NetworkSettings>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(clippy::struct_excessive_bools, reason = "Docker's own document")]
struct State {
    running: bool,
    paused: bool,
    restarting: bool,
    dead: bool,
    exit_code: i64,
    started_at: Option<String>,
    health: Option<RawHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealth {
    status: Option<String>,
    log: Option<Vec<RawProbe>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawProbe {
    output: Option<String>,
}

impl RawHealth {
    fn probe(self) -> Option<Probe> {
        let status = match self.status.as_deref()? {
            "healthy" => Health::Healthy,
            "unhealthy" => Health::Unhealthy,
            "starting" => Health::Starting,
            _ => return None,
        };
        let last = self.log.unwrap_or_default().pop();
        Some(Probe { status, output: last.and_then(|probe| probe.output).unwrap_or_default() })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
    env: Option<Vec<String>>,
    exposed_ports: Option<BTreeMap<String, Value>>,
    stop_signal: Option<String>,
    stop_timeout: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Option<RawNetwork>>>,
    ports: Option<RawPorts>,
    #[serde(rename = "IPAddress")]
    ip_address: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNetwork {
    #[serde(rename = "IPAddress")]
    ip_address: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawBinding {
    host_ip: Option<String>,
    host_port: Option<String>,
}

impl RawBinding {
    fn binding(&self, container: Port) -> Option<Binding> {
        let host_ip = match self.host_ip.as_deref() {
            None | Some("") => "0.0.0.0".parse().ok()?,
            Some(ip) => ip.parse().ok()?,
        };
        let host_port = self.host_port.as_deref()?.parse().ok().filter(|port| *port != 0)?;
        Some(Binding { container, host_ip, host_port })
    }
}
