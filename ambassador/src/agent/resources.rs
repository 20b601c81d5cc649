//! What confd needs to configure each ambassador: a template resource per client, in the volume
//! that all share. confd follows that folder, so it needs no access to Docker.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::plan::Identity;
use super::sweep::{NAME, named_like_a_client};
use crate::link::write;
use crate::upstreams::Upstreams;

/// Where the resources are, in the volume.
const FOLDER: &str = "confd";
/// The template of all ambassadors, as it is unless told otherwise.
const TEMPLATE: &str = include_str!("../../../templates/ambassadors/templates/ambassador.cfg.tera");
/// Its name in the folder `templates`.
const TEMPLATE_NAME: &str = "ambassador.cfg.tera";

/// Writes the resources of `desired`, and removes those of clients that are in neither `desired`
/// nor `others`; returns what could not be done. A volume that is not there, as `folder`, gets none.
pub(crate) fn publish(
    folder: &Path,
    template: Option<&Path>,
    desired: &BTreeSet<Identity>,
    others: &BTreeSet<&str>,
) -> Vec<anyhow::Error> {
    if !folder.is_dir() {
        return Vec::new();
    }
    let parts = ["conf.d", "templates"].map(|part| folder.join(FOLDER).join(part));
    let mut failures: Vec<_> = common(&parts, template).err().into_iter().collect();
    for identity in desired {
        let done = publish_one(folder, &parts, identity);
        failures.extend(done.with_context(|| format!("client {}", identity.container)).err());
    }
    let wanted = desired.iter().map(|one| one.container.as_str()).chain(others.iter().copied());
    failures.extend(unpublish(&parts, &wanted.map(short).collect()).err());
    failures
}

/// Makes the folders, and the template that all ambassadors have in common.
fn common(parts: &[PathBuf; 2], template: Option<&Path>) -> anyhow::Result<()> {
    for part in parts {
        fs::create_dir_all(part).with_context(|| format!("folder {}", part.display()))?;
    }
    let text = template.map_or_else(|| Ok(TEMPLATE.to_owned()), fs::read_to_string);
    let text =
        text.with_context(|| format!("template {}", template.unwrap_or(&parts[1]).display()));
    put(&parts[1].join(TEMPLATE_NAME), &text?)
}

fn publish_one(folder: &Path, parts: &[PathBuf; 2], identity: &Identity) -> anyhow::Result<()> {
    let id = short(&identity.container);
    make(folder, id)?;
    put(&parts[1].join(format!("{id}.tera")), &own_template(identity))?;
    put(&parts[0].join(format!("{id}.toml")), &resource(folder, id))
}

fn unpublish(parts: &[PathBuf; 2], wanted: &BTreeSet<&str>) -> anyhow::Result<()> {
    for part in parts {
        for entry in fs::read_dir(part)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if named_like_a_client(name) && !wanted.contains(name) {
                gone(fs::remove_file(&path))?;
            }
        }
    }
    Ok(())
}

/// Takes a removal for done if somebody else was faster.
fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Removes all that is in the volume for the ambassador of `container`.
pub(crate) fn forget(folder: &Path, container: &str) -> io::Result<()> {
    let (id, ours) = (short(container), folder.join(FOLDER));
    gone(fs::remove_file(ours.join("conf.d").join(format!("{id}.toml"))))?;
    gone(fs::remove_file(ours.join("templates").join(format!("{id}.tera"))))?;
    gone(fs::remove_dir_all(ours.join("state").join(id)))?;
    gone(fs::remove_dir_all(folder.join(id)))
}

/// Makes an ambassador's directory, and hands it to whoever owns the volume.
fn make(folder: &Path, id: &str) -> io::Result<()> {
    let directory = folder.join(id);
    if directory.exists() {
        return Ok(());
    }
    let owner = fs::metadata(folder)?;
    fs::create_dir(&directory)?;
    chown(&directory, Some(owner.uid()), Some(owner.gid())).inspect_err(|_| {
        // The ambassador makes it itself, and could not use this one.
        let _ = fs::remove_dir(&directory);
    })
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).ok().as_deref() == Some(text) { Ok(()) } else { write(path, text) }
}

/// Returns the template of one ambassador: its upstreams, and what is common to all.
fn own_template(identity: &Identity) -> String {
    let upstreams: Upstreams = identity.upstreams.parse().unwrap_or_default();
    let all: Vec<_> = upstreams
        .registered()
        .into_iter()
        .map(|(written, service, port, address)| {
            serde_json::json!({
                "written": written, "service": service, "port": port, "address": address,
            })
            .to_string()
        })
        .collect();
    format!(
        "{{%- set upstreams = [{}] -%}}\n{{%- include \"{TEMPLATE_NAME}\" -%}}\n",
        all.join(", ")
    )
}

fn resource(folder: &Path, id: &str) -> String {
    let own = folder.join(id);
    let path = |name: &str| format!("{:?}", own.join(name).display().to_string());
    format!(
        "[template]\nsrc = \"{id}.tera\"\ndest = {}\nmode = \"0644\"\ncheck = \"haproxy\"\napply = \"haproxy\"\n\
         reload_min_interval = \"1s\"\n\n[template.haproxy]\nruntime = {}\nmaster = {}\ndrain_timeout = \"30s\"\n",
        path("haproxy.cfg"),
        path("runtime.sock"),
        path("master.sock"),
    )
}

/// Returns what names all that an ambassador has in the volume.
pub(super) fn short(id: &str) -> &str {
    id.get(..NAME).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(container: &str) -> Identity {
        Identity {
            container: container.into(),
            started_at: String::new(),
            project: String::new(),
            upstreams: "rng:80,redis:6379".into(),
            settings: String::new(),
        }
    }

    #[test]
    fn each_client_has_a_resource_while_it_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let names = |part: &str| {
            let entries = fs::read_dir(folder.path().join("confd").join(part)).unwrap();
            let mut names: Vec<_> =
                entries.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let (one, two) = (identity("0123456789ab0000"), identity("0123456789ac0000"));
        let both = BTreeSet::from([one.clone(), two.clone()]);
        assert!(publish(folder.path(), None, &both, &BTreeSet::new()).is_empty());
        assert_eq!(names("conf.d"), ["0123456789ab.toml", "0123456789ac.toml"]);
        assert!(folder.path().join("0123456789ab").is_dir());
        let text = fs::read_to_string(folder.path().join("confd/templates/0123456789ab.tera"));
        let text = text.unwrap();
        assert!(
            text.contains(
                r#"{"address":"127.127.0.3","port":6379,"service":"redis","written":"redis"}"#
            ),
            "{text}"
        );

        fs::write(folder.path().join("confd/conf.d/mine.toml"), "").unwrap();
        let others = BTreeSet::from([two.container.as_str()]);
        assert!(publish(folder.path(), None, &BTreeSet::new(), &others).is_empty());
        assert_eq!(names("conf.d"), ["0123456789ac.toml", "mine.toml"]);
        assert_eq!(names("templates"), ["0123456789ac.tera", "ambassador.cfg.tera"]);
        assert!(publish(&folder.path().join("nowhere"), None, &both, &BTreeSet::new()).is_empty());
        assert!(!folder.path().join("nowhere").exists());
    }

    #[test]
    fn a_client_that_cannot_be_published_stops_no_other_and_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (identity("0123456789ab0000"), identity("0123456789ac0000"));
        fs::create_dir_all(folder.path().join("confd/templates/0123456789ab.tera")).unwrap();
        let both = BTreeSet::from([one, two]);
        let failures = publish(folder.path(), None, &both, &BTreeSet::new());
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(format!("{:#}", failures[0]).contains("0123456789ab0000"), "{failures:?}");
        assert!(folder.path().join("confd/conf.d/0123456789ac.toml").exists());
        let template = folder.path().join("no-such-file");
        let failures = publish(folder.path(), Some(&template), &both, &BTreeSet::new());
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert!(format!("{:#}", failures[0]).contains("no-such-file"), "{failures:?}");
    }

    #[test]
    fn what_is_forgotten_leaves_nothing_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (identity("0123456789ab0000"), identity("0123456789ac0000"));
        let both = BTreeSet::from([one.clone(), two]);
        assert!(publish(folder.path(), None, &both, &BTreeSet::new()).is_empty());
        for path in ["confd/state/0123456789ab/generations", "0123456789ab/more"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        forget(folder.path(), &one.container).unwrap();
        forget(folder.path(), &one.container).unwrap();
        let left = |path: &str| folder.path().join(path).exists();
        for path in [
            "0123456789ab",
            "confd/state/0123456789ab",
            "confd/conf.d/0123456789ab.toml",
            "confd/templates/0123456789ab.tera",
        ] {
            assert!(!left(path), "{path}");
        }
        assert!(left("0123456789ac") && left("confd/conf.d/0123456789ac.toml"));
        assert!(left("confd/templates/ambassador.cfg.tera"));
    }
}
