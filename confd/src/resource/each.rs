//! Resources that stand for several: one for each ambassador of this node.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Resource;
use crate::ambassadors::{Ambassador, is_id};

/// What a resource is rendered for, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForEach {
    /// The ambassadors of this node.
    Ambassadors,
}

/// Returns the resource, and the ambassador's id, that the name of a resource is made of.
#[must_use]
pub fn parts(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('-').filter(|(_, id)| is_id(id))
}

impl Resource {
    /// Returns the resource of one ambassador, or why it cannot have one.
    pub fn of(&self, ambassador: &Ambassador) -> Result<Self, String> {
        let mut own = self.clone();
        own.name = format!("{}-{}", self.name, ambassador.id);
        own.ambassador = Some(ambassador.clone());
        own.replace(|text| substitute(text, ambassador))?;
        Ok(own)
    }

    /// Replaces every text in which an ambassador can be named.
    fn replace(&mut self, with: impl Fn(&str) -> Result<String, String>) -> Result<(), String> {
        let path = |path: &Path| {
            path.to_str().map_or_else(|| Ok(path.into()), |p| with(p).map(PathBuf::from))
        };
        self.dest = path(&self.dest)?;
        if let Some(haproxy) = &mut self.haproxy {
            haproxy.runtime = path(&haproxy.runtime)?;
            haproxy.master = path(&haproxy.master)?;
        }
        if let Some(signal) = &mut self.signal {
            signal.pid_file = path(&signal.pid_file)?;
        }
        for command in [&mut self.check_cmd, &mut self.reload_cmd].into_iter().flatten() {
            *command = with(command)?;
        }
        if let Some(containers) = &mut self.containers {
            containers.label = with(&containers.label)?;
        }
        Ok(())
    }

    /// Returns what contradicts itself in what is said of ambassadors.
    pub(super) fn each_contradiction(&self) -> Option<String> {
        let example = Ambassador::example();
        if self.for_each.is_none() {
            let named = self.clone().replace(|text| match substitute(text, &example) {
                Ok(same) if same == text => Ok(same),
                _ => Err("names an ambassador".to_owned()),
            });
            return named.err().map(|_| "`{{ ambassador.… }}` needs `for_each`".to_owned());
        }
        if self.exec.is_some() {
            return Some("`for_each` and [template.exec] exclude each other".to_owned());
        }
        let other = Ambassador { id: "ba9876543210".to_owned(), ..example.clone() };
        match (self.of(&example), self.of(&other)) {
            (Err(why), _) | (_, Err(why)) => Some(why),
            (Ok(one), Ok(two)) if one.dest == two.dest => Some(
                "`dest` must contain `{{ ambassador.id }}`, as there is a file for each".to_owned(),
            ),
            _ => None,
        }
    }
}

/// Puts an ambassador's fields in the place of `{{ ambassador.FIELD }}`. What is put there is a plain word, so it leads
/// out of no folder and means nothing to a shell.
fn substitute(text: &str, ambassador: &Ambassador) -> Result<String, String> {
    let (mut result, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("{{") {
        let inside = &rest[start + 2..];
        let end = inside.find("}}");
        let field = end.and_then(|end| inside[..end].trim().strip_prefix("ambassador."));
        let (Some(end), Some(field)) = (end, field) else {
            // `{{ src }}` and `{{ dest }}` are for the commands.
            result.push_str(&rest[..start + 2]);
            rest = inside;
            continue;
        };
        let value = match field {
            "id" => &ambassador.id,
            "container" => &ambassador.container,
            "client" => &ambassador.client,
            "project" => &ambassador.project,
            "node" => &ambassador.node,
            _ => return Err(format!("`ambassador.{field}` is not known here")),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if value.starts_with(['.', '-']) || value.is_empty() || !value.chars().all(plain) {
            return Err(format!(
                "ambassador.{field} is {value:?}, which cannot be put into `{text}`"
            ));
        }
        result.push_str(&rest[..start]);
        result.push_str(value);
        rest = &inside[end + 2..];
    }
    Ok(result + rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STOCK: &str = r#"
        [template]
        for_each = "ambassadors"
        src = "a.tera"
        dest = "/run/{{ ambassador.id }}/haproxy.cfg"
        check_cmd = "check {{ src }} {{ambassador.container}} {{ dest }}"
        [template.haproxy]
        runtime = "/run/{{ ambassador.id }}/runtime.sock"
        master = "/run/{{ambassador.id}}/master.sock"
    "#;

    fn parse(text: &str) -> Result<Resource, String> {
        Resource::parse(Path::new("conf.d/each.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn each_ambassador_has_paths_and_commands_of_its_own() {
        let ambassador = Ambassador::example();
        let own = parse(STOCK).unwrap().of(&ambassador).unwrap();
        assert_eq!(own.name, "each-0123456789ab");
        assert_eq!(parts(&own.name), Some(("each", "0123456789ab")));
        assert_eq!(own.dest, Path::new("/run/0123456789ab/haproxy.cfg"));
        let haproxy = own.haproxy.unwrap();
        assert_eq!(haproxy.runtime, Path::new("/run/0123456789ab/runtime.sock"));
        assert_eq!(haproxy.master, Path::new("/run/0123456789ab/master.sock"));
        let command = format!("check {{{{ src }}}} {} {{{{ dest }}}}", ambassador.container);
        assert_eq!(own.check_cmd, Some(command));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (from, to, why) in [
            ("/run/{{ ambassador.id }}/haproxy.cfg", "/run/haproxy.cfg", "`dest` must contain"),
            ("{{ambassador.container}}", "{{ ambassador.upstreams }}", "is not known here"),
            ("for_each = \"ambassadors\"", "", "needs `for_each`"),
            ("\"ambassadors\"", "\"services\"", "unknown variant"),
        ] {
            let error = parse(&STOCK.replace(from, to)).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_folder_or_reaches_a_shell(client in any::<String>(), project in "[./a$; '`-]{0,9}") {
            let ambassador = Ambassador { client, project, ..Ambassador::example() };
            let text = STOCK.replace("}}/haproxy.cfg", "}}/{{ ambassador.client }}/{{ ambassador.project }}");
            if let Ok(own) = parse(&text).unwrap().of(&ambassador) {
                let parts: Vec<_> = own.dest.components().collect();
                prop_assert_eq!(parts.len(), 5);
                prop_assert!(parts.iter().all(|part| part.as_os_str() != ".."));
                let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
                prop_assert!(own.dest.to_str().unwrap().chars().all(plain));
            }
        }
    }
}
