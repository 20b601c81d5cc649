//! What a service is called. Pure.

use crate::clean;
use crate::labels::{Settings, short};
use crate::ports::Port;
use crate::subject::Subject;
use crate::warnings::Warnings;

/// The longest DNS label, in bytes (RFC 1035, section 2.3.4).
const LENGTH: usize = 63;
/// Where Compose and Swarm say which service a container belongs to.
const ORCHESTRATED: [&str; 2] = ["com.docker.compose.service", "com.docker.swarm.service.name"];

/// Returns the name of the service at `port`, a DNS label; `None` if nothing can be made of it.
/// `several` tells whether the container has more than one registered port.
pub(crate) fn name(
    subject: &Subject<'_>,
    port: Option<Port>,
    several: bool,
    settings: &Settings<'_>,
    warnings: &mut Warnings,
) -> Option<String> {
    let suffix = match port {
        Some(port) if several && settings.specific("NAME").is_none() => format!("-{}", port.number),
        _ => String::new(),
    };
    let given = settings.get("NAME").map(str::trim);
    let raw = given.unwrap_or_else(|| default(subject));
    let Some(label) = clean::dns_label(raw) else {
        let problem =
            format!("{:?} holds no letter or digit for a name; not registered", short(raw));
        warnings.add("SERVICE_NAME", problem);
        return None;
    };
    // The suffix tells services apart, so a long name gives way to it. A label is ASCII.
    let cut = label.get(..LENGTH - suffix.len()).unwrap_or(&label).trim_end_matches('-');
    if raw != cut {
        let problem = format!("{:?} is no DNS label; registered as {cut:?}", short(raw));
        warnings.add("SERVICE_NAME", problem);
    }
    Some(format!("{cut}{suffix}"))
}

/// Tells whether a service called `service` may be one that somebody calls `word`: perhaps no DNS label, and without
/// the port that several of one container are told apart by.
#[must_use]
pub fn is_called(word: &str, service: &str) -> bool {
    let port = |rest: &str| rest.strip_prefix('-').is_some_and(|port| port.parse::<u16>().is_ok());
    clean::dns_label(word)
        .and_then(|label| service.strip_prefix(label.as_str()))
        .is_some_and(|rest| rest.is_empty() || port(rest))
}

/// Returns the name of a service that was given none.
fn default<'a>(subject: &Subject<'a>) -> &'a str {
    let container = subject.container;
    let mut labels = ORCHESTRATED.iter().filter_map(|key| container.labels.get(*key));
    let orchestrated =
        labels.find(|name| !name.is_empty()).filter(|_| subject.options.compose_names);
    orchestrated.map_or_else(|| image(&container.image).unwrap_or(&container.name), String::as_str)
}

/// Returns the last element of an image's path without tag and digest; `None` for a bare image id.
pub(crate) fn image(image: &str) -> Option<&str> {
    let bare_id = image.starts_with("sha256:")
        || (image.len() >= 12 && image.chars().all(|c| c.is_ascii_hexdigit()));
    let path = image.split('@').next()?;
    let name = path.rsplit('/').next()?.split(':').next()?;
    (!name.is_empty() && !bare_id).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The ancestor took a part of the digest for the name.
    #[test]
    fn an_image_is_called_by_the_last_element_of_its_path() {
        for name in
            ["web", "web:1", "a/web", "reg:5000/a/web", "reg:5000/web:1@sha256:0f", "web@sha256:0f"]
        {
            assert_eq!(image(name), Some("web"), "{name}");
        }
        for id in ["", "sha256:0123456789ab", "0123456789ab", "reg/"] {
            assert_eq!(image(id), None, "{id}");
        }
    }
}
