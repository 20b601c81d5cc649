//! What this node's containers say: which would be instances of a service, and why they are none.

use std::collections::BTreeMap;

use consul::ServiceEntry;
use serde_json::Value;
use services::{Container, Node, Options};

use super::super::reasons::Explained;
use super::why::Look;
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
    all: Vec<Look>,
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
        let all = containers.iter().map(|one| Look::at(one.clone(), &options, node, &peer));
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
            .filter(|one| !registered(&one.container) && one.concerns(service, &self.options))
            .map(|one| Explained {
                id: one.container.name.clone(),
                node: node.to_owned(),
                address: String::new(),
                serving: false,
                reasons: one.why(service, &self.options),
                ambassadors: BTreeMap::new(),
            })
            .collect()
    }
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

/// Reads the flags that shape instances as registrator does, wherever they are said: the last word counts, and a variable
/// that is empty is not set. Others are passed over.
pub(super) fn options<'a>(
    words: impl Iterator<Item = &'a str>,
    environment: &BTreeMap<&str, &str>,
) -> Options {
    let words: Vec<_> = words.collect();
    let last = |flag: &str| {
        words.iter().rposition(|word| {
            let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
            word.starts_with('-') && name == flag
        })
    };
    let variable = |flag: &str| {
        let name = format!("REGISTRATOR_{}", flag.to_uppercase().replace('-', "_"));
        environment.get(name.as_str()).copied().filter(|value| !value.is_empty())
    };
    let value = |flag: &str| {
        let said = last(flag).map(|at| match words[at].split_once('=') {
            Some((_, value)) => value,
            None => words.get(at + 1).filter(|next| !next.starts_with('-')).unwrap_or(&""),
        });
        said.or_else(|| variable(flag)).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let switch = |flag: &str| {
        // The next word is none of its value, and with a value that is no boolean registrator does not start.
        let said =
            last(flag).map(|at| words[at].split_once('=').map_or("true", |(_, value)| value));
        said.or_else(|| variable(flag))
            .is_some_and(|value| daemon::flags::switch(value) == Ok(true))
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
    fn flags_and_variables_are_read_as_registrator_reads_them() {
        let read = |words: &str, variables: &[(&str, &str)]| {
            options(words.split_whitespace(), &variables.iter().copied().collect())
        };
        for (words, variable, is) in [
            ("", "", false),
            ("", "False", false),
            ("", "FALSE", false),
            ("", " off ", false),
            ("", "True", true),
            ("", "YES", true),
            ("--internal", "false", true),
            ("--internal=False", "true", false),
            ("-internal consul://host:8500", "", true),
            ("--internal --internal=0", "", false),
        ] {
            let read = read(words, &[("REGISTRATOR_INTERNAL", variable)]);
            assert_eq!(read.internal, is, "{words:?} {variable:?}");
        }
        let empty = ["NETWORK", "NETWORK_CIDR", "USE_IP_FROM_LABEL", "IP", "LABEL_PREFIX"];
        let empty = empty.map(|name| format!("REGISTRATOR_{name}"));
        let empty: Vec<_> = empty.iter().map(|name| (name.as_str(), "")).collect();
        assert_eq!(read("--network=", &empty), Options::default());
        let named = [("REGISTRATOR_NETWORK", "x")];
        assert_eq!(read("", &named).network.as_deref(), Some("x"));
        assert_eq!(read("--network y --network=z", &named).network.as_deref(), Some("z"));
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
