//! The tags of an instance: in the order given, each once. Pure.

use crate::clean;
use crate::labels::{Settings, short};
use crate::ports::{Port, Protocol};
use crate::subject::Subject;
use crate::warnings::Warnings;

/// As many tags are taken; a longer list is a mistake, or an attack.
const LIMIT: usize = 128;

/// The tag of every instance at a port of UDP.
pub const UDP: &str = "udp";

/// Returns the tags of the instance at `port`: its own, then the operator's, then `udp`.
pub(crate) fn tags(
    subject: &Subject<'_>,
    port: Option<Port>,
    settings: &Settings<'_>,
    warnings: &mut Warnings,
) -> Vec<String> {
    let own = split(settings.get("TAGS").unwrap_or_default());
    let udp = port.filter(|port| port.protocol == Protocol::Udp).map(|_| UDP.to_owned());
    let mut tags: Vec<String> = Vec::new();
    for tag in own.into_iter().chain(subject.options.tags.iter().cloned()).chain(udp) {
        let tag = tag.trim();
        let clean = clean::value(tag);
        if clean != tag {
            warnings.add("SERVICE_TAGS", format!("the tag {:?} was cleaned", short(tag)));
        }
        if clean.is_empty() || tags.contains(&clean) {
            continue;
        }
        if tags.len() == LIMIT {
            warnings.add("SERVICE_TAGS", format!("more than {LIMIT} tags; the rest is left out"));
            break;
        }
        tags.push(clean);
    }
    tags
}

/// Splits tags at commas; `\,` is a comma within one.
fn split(text: &str) -> Vec<String> {
    let mut tags = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let tag = tags.last_mut().expect("begins with one");
        match (c, characters.peek()) {
            ('\\', Some(',')) => tag.extend(characters.next()),
            (',', _) => tags.push(String::new()),
            _ => tag.push(c),
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_after_a_backslash_is_part_of_a_tag() {
        assert_eq!(split("a,b\\,c,\\d,e\\"), ["a", "b,c", "\\d", "e\\"]);
        assert_eq!(split(""), [""]);
    }
}
