//! What this node's containers say: which would be instances of a service, and why they are none.

use std::collections::BTreeMap;

use consul::ServiceEntry;
use serde_json::Value;
use services::{Container, Derived, Node, Options, instances};

use super::super::reasons::Explained;
use crate::docker::{Engine, Error};

/// How registrator derives instances here; read off its own container where one runs.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Derivation {
    /// Registrator's flags, as in --registrator="--internal --network NET" [default: those of its
    /// container on this node]
    #[arg(long, value_name = "FLAGS", env = "REGISTRATOR_FLAGS", allow_hyphen_values = true)]
    registrator: Option<String>,
}

/// This node's containers, and what each of them is.
pub(crate) struct Seen {
    all: Vec<(Container, Derived)>,
    /// When the health check of each unhealthy one began to fail, by short ID.
    failing: BTreeMap<String, String>,
    options: Options,
}

impl Seen {
    /// Looks at all containers of an engine.
    pub(crate) async fn of(
        engine: &Engine,
        derivation: &Derivation,
        node: &Node,
    ) -> Result<Self, Error> {
        let documents = engine.inspect_all().await?;
        let options = match &derivation.registrator {
            Some(flags) => options(flags.split_whitespace(), &BTreeMap::new()),
            None => documents.iter().find_map(of_registrator).unwrap_or_default(),
        };
        let containers: Vec<_> =
            documents.iter().filter_map(|one| Container::from_inspect(one).ok()).collect();
        let peer = |id: &str| containers.iter().find(|one| one.id == id || one.name == id);
        let all = containers.iter().map(|one| (one.clone(), instances(one, &options, node, &peer)));
        let failing = documents.iter().filter_map(failing).collect();
        Ok(Self { all: all.collect(), failing, options })
    }

    /// Returns since when Docker's check of an instance's container has failed.
    pub(crate) fn unhealthy_since(&self, entry: &ServiceEntry) -> Option<String> {
        self.failing.get(entry.service.meta.get("container")?).cloned()
    }

    /// Returns the containers that are of the service, or look as if they should be, and are not
    /// registered.
    pub(crate) fn unregistered(
        &self,
        service: &str,
        registered: &[ServiceEntry],
        node: &str,
    ) -> Vec<Explained> {
        let registered = |container: &Container| {
            let id = container.short_id();
            registered
                .iter()
                .any(|entry| entry.service.meta.get("container").is_some_and(|own| own == id))
        };
        self.all
            .iter()
            .filter(|(container, derived)| {
                !registered(container) && (looks_like(container, service) || is(derived, service))
            })
            .map(|(container, derived)| Explained {
                id: container.name.clone(),
                node: node.to_owned(),
                address: String::new(),
                serving: false,
                reasons: why(container, derived, service, &self.options),
                ambassadors: BTreeMap::new(),
            })
            .collect()
    }
}

fn is(derived: &Derived, service: &str) -> bool {
    derived.instances.iter().any(|instance| instance.service == service)
}

/// Tells whether somebody might take a container for one of the service.
fn looks_like(container: &Container, service: &str) -> bool {
    let image = container.image.rsplit('/').next().unwrap_or_default();
    let image = image.split([':', '@']).next().unwrap_or_default();
    let labels = &container.labels;
    let named = |settings: &BTreeMap<String, String>| {
        settings.iter().any(|(key, value)| {
            key.starts_with("SERVICE_") && key.ends_with("NAME") && value.trim() == service
        })
    };
    // An ambassador is nobody's instance, whatever it is called.
    let ours = labels.contains_key("ambassador.container");
    let composed = labels.get("com.docker.compose.service").map(String::as_str) == Some(service);
    !ours && (composed || image == service || named(labels) || named(&container.environment))
}

/// Returns why a container is not registered as the service.
fn why(container: &Container, derived: &Derived, service: &str, options: &Options) -> Vec<String> {
    if !container.running {
        let memory = if container.out_of_memory { ", out of memory" } else { "" };
        return vec![format!(
            "its container does not run (exit code {}{memory})",
            container.exit_code
        )];
    }
    if is(derived, service) {
        return vec![
            "registrator has not registered it: does it run, and reach Consul?".to_owned(),
        ];
    }
    let mut reasons = Vec::new();
    let others: Vec<_> = derived.instances.iter().map(|one| one.service.as_str()).collect();
    if !others.is_empty() {
        reasons.push(format!("it is registered as {}", others.join(", ")));
    }
    let mut settings = container.labels.iter().chain(&container.environment);
    let ignored = settings.find(|(key, value)| {
        key.starts_with(&options.label_prefix)
            && key.ends_with("IGNORE")
            && key.contains("SERVICE_")
            && !matches!(value.to_lowercase().as_str(), "" | "0" | "f" | "false" | "no" | "off")
    });
    if let Some((key, value)) = ignored {
        reasons.push(format!("it is ignored: its setting {key}={value} says so"));
    }
    reasons.extend(derived.warnings.iter().map(ToString::to_string));
    if reasons.is_empty() {
        let has = if options.internal {
            &container.exposed.is_empty()
        } else {
            &container.published.is_empty()
        };
        reasons.push(
            match (options.explicit, *has, options.internal) {
                (_, true, true) => "it has no port: nothing is exposed",
                (_, true, false) => "it has no port: nothing is published",
                (true, ..) => "it is ignored: registrator registers only what has a SERVICE_NAME",
                (false, ..) => "it is ignored as a part of the system",
            }
            .to_owned(),
        );
    }
    reasons
}

/// Returns the settings of a registrator in a container, if it is one.
fn of_registrator(document: &Value) -> Option<Options> {
    let words = |key: &str| {
        let words = document["Config"][key].as_array().cloned().unwrap_or_default();
        words.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let program = words("Entrypoint").into_iter().chain(words("Cmd")).next()?;
    if program.rsplit('/').next() != Some("registrator") || document["State"]["Running"] != true {
        return None;
    }
    let environment = words("Env");
    let environment =
        environment.iter().filter_map(|line| line.split_once('=')).collect::<BTreeMap<_, _>>();
    let flags = words("Entrypoint").into_iter().chain(words("Cmd")).collect::<Vec<_>>();
    Some(options(flags.iter().map(String::as_str), &environment))
}

/// Reads the flags that shape instances, wherever they are said; others are passed over.
fn options<'a>(
    words: impl Iterator<Item = &'a str>,
    environment: &BTreeMap<&str, &str>,
) -> Options {
    let words: Vec<_> = words.collect();
    let value = |flag: &str| {
        let at = words.iter().position(|word| {
            let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
            word.starts_with('-') && name == flag
        });
        let said = at.map(|at| match words[at].split_once('=') {
            Some((_, value)) => value.to_owned(),
            None => {
                words.get(at + 1).filter(|next| !next.starts_with('-')).unwrap_or(&"").to_string()
            }
        });
        let name = format!("REGISTRATOR_{}", flag.to_uppercase().replace('-', "_"));
        said.or_else(|| environment.get(name.as_str()).map(ToString::to_string))
    };
    let switch = |flag: &str| {
        value(flag)
            .is_some_and(|value| !matches!(value.as_str(), "false" | "0" | "f" | "no" | "off"))
    };
    Options {
        explicit: switch("explicit"),
        internal: switch("internal"),
        compose_names: switch("compose-names"),
        ip: value("ip").and_then(|ip| ip.parse().ok()),
        use_ip_from_label: value("use-ip-from-label").or_else(|| value("useIpFromLabel")),
        network: value("network"),
        network_cidr: value("network-cidr"),
        label_prefix: value("label-prefix").unwrap_or_default(),
        tags: Vec::new(),
    }
}

/// Returns since when a container's own check has failed without a break, as far as Docker remembers.
fn failing(document: &Value) -> Option<(String, String)> {
    let health = &document["State"]["Health"];
    if health["Status"] != "unhealthy" {
        return None;
    }
    let log = health["Log"].as_array()?;
    let first = log.iter().rev().take_while(|probe| probe["ExitCode"] != 0).last()?;
    let since = first["Start"].as_str()?.split('.').next()?.to_owned();
    Some((document["Id"].as_str()?.get(..12)?.to_owned(), since))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(labels: &Value, running: bool) -> Value {
        json!({
            "Id": "0123456789abcdef", "Name": "/coins-rng-1",
            "State": {"Running": running, "ExitCode": 137},
            "Config": {"Image": "x", "Labels": labels, "ExposedPorts": {"80/tcp": {}}},
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
        })
    }

    fn reasons(document: &Value, flags: &str) -> Vec<String> {
        let options = options(flags.split_whitespace(), &BTreeMap::new());
        let container = Container::from_inspect(document).unwrap();
        let node = Node::new("n1", "10.0.0.1");
        let derived = instances(&container, &options, &node, &|_| None);
        let seen = Seen { all: vec![(container, derived)], failing: BTreeMap::new(), options };
        seen.unregistered("rng", &[], "n1").into_iter().flat_map(|one| one.reasons).collect()
    }

    #[test]
    fn a_container_that_is_not_registered_says_why() {
        let name = json!({"com.docker.compose.service": "rng"});
        let ignored = json!({"com.docker.compose.service": "rng", "SERVICE_IGNORE": "true"});
        let other = json!({"com.docker.compose.service": "rng", "SERVICE_NAME": "dice"});
        for (labels, running, flags, word) in [
            (&name, false, "--internal --compose-names", "does not run (exit code 137)"),
            (&name, true, "--internal --compose-names", "has not registered it"),
            (
                &ignored,
                true,
                "--internal --compose-names",
                "its setting SERVICE_IGNORE=true says so",
            ),
            (&name, true, "--compose-names", "no port: nothing is published"),
            (&other, true, "--internal", "it is registered as dice"),
            (&name, true, "-internal -explicit", "only what has a SERVICE_NAME"),
        ] {
            let reasons = reasons(&container(labels, running), flags);
            assert!(reasons.iter().any(|reason| reason.contains(word)), "{word}: {reasons:?}");
        }
    }

    #[test]
    fn registrators_own_container_tells_its_flags() {
        let document = json!({
            "State": {"Running": true},
            "Config": {"Entrypoint": ["/registrator"], "Cmd": ["--internal", "--network", "x"],
                       "Env": ["REGISTRATOR_COMPOSE_NAMES=true", "REGISTRATOR_EXPLICIT=false"]},
        });
        let options = of_registrator(&document).unwrap();
        assert!(options.internal && options.compose_names && !options.explicit);
        assert_eq!(options.network.as_deref(), Some("x"));
        assert_eq!(of_registrator(&json!({"Config": {"Cmd": ["redis"]}})), None);
    }

    #[test]
    fn unhealthy_since_is_the_first_failure_without_a_success_after_it() {
        let probe = |start: &str, code: i32| json!({"Start": start, "ExitCode": code});
        let health = |status: &str| {
            json!({"Id": "0123456789abcdef", "State": {"Health": {"Status": status, "Log": [
                probe("09:00.1", 1), probe("09:01.1", 0), probe("09:02.1", 1), probe("09:03.1", 1)]}}})
        };
        assert_eq!(failing(&health("unhealthy")), Some(("0123456789ab".into(), "09:02".into())));
        assert_eq!(failing(&health("healthy")), None);
    }
}
