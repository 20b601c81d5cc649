//! A container as its inspect document describes it, whatever engine wrote it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::labels;
use crate::model::Options;
use crate::ports::{Binding, Port};

/// How many seconds a container without a stop time-out of its own may take to end. The engine gives it ten, `docker stop
/// -t` as many as somebody wants, and no event tells how many: this is more than people usually give.
const STOP_TIMEOUT: u64 = 60;
/// What stands for "as long as it takes", in seconds: a time-out of -1, or one beyond all sense.
const FOREVER: u64 = u32::MAX as u64;

/// Why a document is no container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// Whether the kernel ended its last process for want of memory.
    pub out_of_memory: bool,
    /// When it was started last, as the engine writes it.
    pub started_at: String,
    /// What its HEALTHCHECK says; `None` without one.
    pub health: Option<Probe>,
    /// All labels; those that matter after [`Container::forget_labels`].
    pub labels: BTreeMap<String, String>,
    /// The environment, as far as it begins with `SERVICE_`: the rest may hold secrets.
    pub environment: BTreeMap<String, String>,
    /// Whose network it uses.
    pub network_mode: NetworkMode,
    /// Its addresses, by network.
    pub networks: BTreeMap<String, Network>,
    /// The ports that image or user declare.
    pub exposed: BTreeSet<Port>,
    /// The ports that the host forwards, sorted.
    pub published: Vec<Binding>,
    /// What `docker stop` sends; `SIGTERM` unless told otherwise.
    pub stop_signal: String,
    /// How many seconds it may take to end after its stop signal: its own stop time-out, 60 if it has none, over a century
    /// for "forever".
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
    /// Reads an inspect document of any engine: everything but the id may be missing, null, or of
    /// a shape that no engine writes today.
    ///
    /// # Errors
    /// When it is not an object with an `Id`.
    pub fn from_inspect(document: &Value) -> Result<Self, Error> {
        let id = text(document, "/Id").ok_or(Error::NoId)?;
        let own = |path| text(document, path).unwrap_or_default();
        let is = |path| document.pointer(path).and_then(Value::as_bool).unwrap_or(false);
        let ports = document.pointer("/NetworkSettings/Ports");
        let exposed = document.pointer("/Config/ExposedPorts");
        let declared = [exposed, ports].into_iter().flatten().filter_map(Value::as_object);
        Ok(Self {
            id,
            name: own("/Name").trim_start_matches('/').to_owned(),
            image: own("/Config/Image"),
            running: is("/State/Running") && !is("/State/Restarting") && !is("/State/Dead"),
            paused: is("/State/Paused"),
            exit_code: document.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or(0),
            out_of_memory: is("/State/OOMKilled"),
            started_at: own("/State/StartedAt"),
            health: document.pointer("/State/Health").and_then(probe),
            labels: texts(document.pointer("/Config/Labels")),
            environment: environment(document.pointer("/Config/Env")),
            network_mode: network_mode(&own("/HostConfig/NetworkMode")),
            networks: networks(document.pointer("/NetworkSettings").unwrap_or(&Value::Null)),
            exposed: declared
                .flat_map(|map| map.keys().filter_map(|key| Port::parse(key)))
                .collect(),
            published: bindings(ports),
            stop_signal: text(document, "/Config/StopSignal")
                .unwrap_or_else(|| "SIGTERM".to_owned()),
            stop_timeout: stop_timeout(document.pointer("/Config/StopTimeout")),
        })
    }

    /// Forgets the labels that mean nothing for instances: there may be many, and they may hold secrets.
    pub fn forget_labels(&mut self, options: &Options) {
        self.labels.retain(|key, _| labels::matters(key, options));
    }

    /// Returns the first twelve characters of the id, as Docker shows it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Returns a text that is there and not empty.
fn text(value: &Value, path: &str) -> Option<String> {
    value.pointer(path)?.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

fn texts(map: Option<&Value>) -> BTreeMap<String, String> {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn environment(variables: Option<&Value>) -> BTreeMap<String, String> {
    let variables = variables.and_then(Value::as_array).into_iter().flatten();
    variables
        .filter_map(Value::as_str)
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

/// Older engines write the default network's addresses beside the map too; without a map they count.
fn networks(settings: &Value) -> BTreeMap<String, Network> {
    let network = |value: &Value| Network {
        ipv4: text(value, "/IPAddress"),
        ipv6: text(value, "/GlobalIPv6Address"),
    };
    let map = settings.get("Networks").and_then(Value::as_object).into_iter().flatten();
    let mut networks: BTreeMap<String, Network> =
        map.map(|(name, value)| (name.clone(), network(value))).collect();
    let beside = network(settings);
    if networks.is_empty() && beside != Network::default() {
        networks.insert("bridge".to_owned(), beside);
    }
    networks
}

fn bindings(ports: Option<&Value>) -> Vec<Binding> {
    let ports = ports.and_then(Value::as_object).into_iter().flatten();
    let mut bindings: Vec<Binding> = ports
        .filter_map(|(key, bindings)| Some((Port::parse(key)?, bindings.as_array()?)))
        .flat_map(|(port, all)| all.iter().flat_map(move |one| binding(port, one)))
        .collect();
    bindings.sort();
    bindings.dedup();
    bindings
}

/// Without an address it is every one, of both families: Docker writes down both, Podman neither.
fn binding(container: Port, binding: &Value) -> Vec<Binding> {
    let host_ips = match text(binding, "/HostIp") {
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        Some(ip) => ip.parse().map(|ip: IpAddr| ip.to_canonical()).into_iter().collect(),
    };
    let host_port = match binding.get("HostPort") {
        Some(Value::String(text)) => text.parse().ok(),
        number => number.and_then(Value::as_u64).and_then(|number| number.try_into().ok()),
    };
    let Some(host_port) = host_port.filter(|port| *port != 0) else { return Vec::new() };
    host_ips.into_iter().map(|host_ip| Binding { container, host_ip, host_port }).collect()
}

fn probe(health: &Value) -> Option<Probe> {
    let status = match health.get("Status")?.as_str()? {
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        "starting" => Health::Starting,
        _ => return None,
    };
    let last = health.get("Log").and_then(Value::as_array).and_then(|log| log.last());
    let output = last.and_then(|probe| text(probe, "/Output")).unwrap_or_default();
    Some(Probe { status, output })
}

fn stop_timeout(seconds: Option<&Value>) -> u64 {
    match seconds.and_then(Value::as_i64) {
        None => STOP_TIMEOUT,
        Some(seconds) => u64::try_from(seconds).unwrap_or(FOREVER).min(FOREVER),
    }
}

#[cfg(test)]
mod tests;
