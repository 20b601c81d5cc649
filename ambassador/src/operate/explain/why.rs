//! Why a container is no instance of a service. Pure: no I/O, no clock, no async.

use services::{Container, Derived, Node, Options, instances, is_called};

/// A container, and what registrator makes of it.
pub(super) struct Look {
    pub(super) container: Container,
    derived: Derived,
    /// What keeps it, or a port of it, from being registered.
    obstacles: Vec<String>,
    /// Whether nothing of it would be registered without these either.
    is_empty: bool,
}

impl Look {
    /// Looks at a container; `peer` returns another one by ID or name.
    pub(super) fn at<'a>(
        container: Container,
        options: &Options,
        node: &Node,
        peer: &dyn Fn(&str) -> Option<&'a Container>,
    ) -> Self {
        let derived = instances(&container, options, node, peer);
        let count = |one: &Container, options: &Options| {
            instances(one, options, node, peer).instances.len()
        };
        let (mut obstacles, mut is_empty) = (Vec::new(), false);
        if container.running && !derived.is_system {
            (obstacles, is_empty) = find(&container, options, &count);
        }
        Self { container, derived, obstacles, is_empty }
    }

    /// Tells whether it is of the service, or somebody might take it for one of it.
    pub(super) fn concerns(&self, service: &str, options: &Options) -> bool {
        let container = &self.container;
        let called = |word: &str| is_called(word, service);
        let image = container.image.rsplit('/').next().unwrap_or_default();
        let image = image.split([':', '@']).next().unwrap_or_default();
        let composed = container.labels.get("com.docker.compose.service");
        let mut settings = settings(container, options);
        let named = settings.any(|one| one.is("NAME") && called(one.value));
        // An ambassador is nobody's instance, whatever it is called.
        let ours = container.labels.contains_key("ambassador.container");
        let looks_like = composed.is_some_and(|name| called(name)) || called(image) || named;
        !ours && looks_like || self.is(service)
    }

    fn is(&self, service: &str) -> bool {
        self.derived.instances.iter().any(|instance| instance.service == service)
    }

    /// Returns why it is not registered as the service.
    pub(super) fn why(&self, service: &str, options: &Options) -> Vec<String> {
        let Self { container, derived, obstacles, is_empty } = self;
        if !container.running {
            let memory = if container.out_of_memory { ", out of memory" } else { "" };
            let code = container.exit_code;
            return vec![format!("its container does not run (exit code {code}{memory})")];
        }
        if self.is(service) {
            return vec![
                "registrator has not registered it: does it run, and reach Consul?".to_owned(),
            ];
        }
        let mut reasons = Vec::new();
        let others: Vec<_> = derived.instances.iter().map(|one| one.service.as_str()).collect();
        if !others.is_empty() {
            reasons.push(format!("it is registered as {}", others.join(", ")));
        }
        if derived.is_system {
            reasons.push("it is ignored as a part of the system".to_owned());
        }
        reasons.extend(obstacles.iter().cloned());
        reasons.extend(derived.warnings.iter().map(ToString::to_string));
        if reasons.is_empty() || *is_empty && derived.warnings.is_empty() {
            let reason = match options.internal {
                true if container.exposed.is_empty() => "it has no port: nothing is exposed",
                false if container.published.is_empty() => "it has no port: nothing is published",
                _ => "registrator finds nothing in it to register",
            };
            reasons.push(reason.to_owned());
        }
        reasons
    }
}

/// Returns what keeps a container, or a port of it, from being registered: that without which there is more; and whether
/// there is nothing anyway. `count` tells how much there is.
fn find(
    container: &Container,
    options: &Options,
    count: &dyn Fn(&Container, &Options) -> usize,
) -> (Vec<String>, bool) {
    let with = |ignoring: bool, gating: bool, explicit: bool| {
        let (mut container, mut options) = (container.clone(), options.clone());
        if !ignoring {
            forget_ignoring(&mut container, &options);
        }
        if !gating {
            container.health = None;
        }
        options.explicit &= explicit;
        count(&container, &options)
    };
    let free = with(false, false, false);
    let mut reasons = Vec::new();
    // Where there is nothing, it would be ignored as soon as there is something.
    if free == 0 || with(true, false, false) < free {
        let yes = |value: &str| {
            !matches!(
                value.trim().to_lowercase().as_str(),
                "0" | "f" | "false" | "n" | "no" | "off"
            )
        };
        let meant = |one: &Setting| if free == 0 { one.name == "IGNORE" } else { one.is("IGNORE") };
        let said = settings(container, options).find(|one| meant(one) && yes(one.value));
        reasons.extend(
            said.map(|one| format!("it is ignored: its setting {}={} says so", one.key, one.value)),
        );
    }
    if with(false, true, false) < free {
        reasons.push("its health check has not passed, and it is registered only then".to_owned());
    }
    if with(false, false, true) < free {
        reasons
            .push("it is ignored: registrator registers only what has a SERVICE_NAME".to_owned());
    }
    (reasons, free == 0)
}

fn forget_ignoring(container: &mut Container, options: &Options) {
    let keys: Vec<_> = settings(container, options)
        .filter(|one| one.is("IGNORE"))
        .map(|one| (one.key.to_owned(), one.of_label))
        .collect();
    for (key, of_label) in keys {
        if of_label { &mut container.labels } else { &mut container.environment }.remove(&key);
    }
}

/// A setting that registrator reads, in a label or in the environment.
struct Setting<'a> {
    key: &'a str,
    value: &'a str,
    of_label: bool,
    /// In capitals, as in `80_NAME`.
    name: String,
}

impl Setting<'_> {
    /// Tells whether it says this, of all ports or of some.
    fn is(&self, word: &str) -> bool {
        self.name.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    }
}

/// Returns the settings of a container, labels first; a prefix stands before those only.
fn settings<'a>(
    container: &'a Container,
    options: &'a Options,
) -> impl Iterator<Item = Setting<'a>> {
    let setting = |key: &'a str, value: &'a str, name: &str, of_label| Setting {
        key,
        value,
        of_label,
        name: name.to_uppercase(),
    };
    let labels = container.labels.iter().filter_map(move |(key, value)| {
        let own = key.strip_prefix(&options.label_prefix)?;
        let dotted = || own.strip_prefix("service.").map(|name| name.replace('.', "_"));
        let name = own.strip_prefix("SERVICE_").map(str::to_owned).or_else(dotted)?;
        Some(setting(key, value, &name, true))
    });
    let environment = container.environment.iter().filter_map(move |(key, value)| {
        Some(setting(key, value, key.strip_prefix("SERVICE_")?, false))
    });
    labels.chain(environment).filter(|one| !one.value.trim().is_empty())
}

#[cfg(test)]
mod tests;
