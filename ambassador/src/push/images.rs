//! Which images a Compose file builds, what they are called in a registry, and the file that names
//! them there. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use saphyr::{Mapping, Yaml};

use super::whole::whole;
use crate::link::yaml::{dump, get, load, text, words};
use crate::link::{Error as FileError, services, services_mut};

/// The longest tag that registries take.
const TAG: usize = 128;

/// Why images cannot be named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("nothing is built: no service has `build`")]
    Nothing,
    #[error("services {0:?} and {1:?} build different images of one name, {2}")]
    Ambiguous(String, String, String),
    #[error(
        "this file includes others, which may have services that are built: `docker compose config` prints the whole file, \
         push that"
    )]
    Includes,
    #[error(
        "service {0:?} extends one of another file, which may say how it is built: `docker compose config` prints the \
         whole file, push that"
    )]
    Elsewhere(String),
    #[error(
        "service {service:?} extends {base:?}, which is built, and says something else of its own image or `build`: \
         `docker compose config` prints the whole file, push that"
    )]
    Extends { service: String, base: String },
}

/// What comes before and after the names of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming<'a> {
    /// `HOST[:PORT][/PATH]`.
    pub(crate) registry: &'a str,
    pub(crate) version: &'a str,
    /// The Compose project: images without a name of their own are called after it.
    pub(crate) project: &'a str,
}

/// What to build and to push, and what to write afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    /// The references of the images, in order.
    pub(crate) references: Vec<String>,
    /// A Compose file that builds them, and nothing else.
    pub(crate) builds: String,
    /// The Compose file, with references where it had `build`.
    pub(crate) written: String,
}

/// Returns the images of a Compose file, today's format or that of 2015.
pub(crate) fn images(file: &str, naming: &Naming) -> Result<Images, Error> {
    let mut file = load(file).map_err(FileError::from)?;
    whole(&file)?;
    let mut builders = BTreeMap::<String, (String, Yaml)>::new();
    let mut references = BTreeMap::new();
    for (name, service) in services(&file)? {
        let Some(build) = build(service) else { continue };
        let reference = naming.reference(name, get(service, "image").and_then(words));
        match builders.entry(reference.clone()) {
            Entry::Occupied(other) if other.get().1 != build => {
                let other = other.get().0.clone();
                return Err(Error::Ambiguous(other, name.to_owned(), reference));
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => drop(free.insert((name.to_owned(), build))),
        }
        references.insert(name.to_owned(), reference);
    }
    if builders.is_empty() {
        return Err(Error::Nothing);
    }
    let builds = builds(&file, &builders);
    let all = builders.into_keys().collect();
    for (key, service) in services_mut(&mut file) {
        if let (Some(reference), Yaml::Mapping(service)) =
            (words(key).and_then(|key| references.get(key)), service)
        {
            name(service, reference);
        }
    }
    Ok(Images { references: all, builds, written: dump(&file) })
}

/// Returns how a service is built; the format of 2015 has the Dockerfile's name beside it.
fn build<'i>(service: &Yaml<'i>) -> Option<Yaml<'i>> {
    let build = get(service, "build")?.clone();
    let Some(dockerfile) = get(service, "dockerfile") else { return Some(build) };
    let mut mapping = match build {
        Yaml::Mapping(mapping) => mapping,
        context => Mapping::from_iter([(text("context"), context)]),
    };
    mapping.entry(text("dockerfile")).or_insert(dockerfile.clone());
    Some(Yaml::Mapping(mapping))
}

fn builds<'i>(file: &Yaml<'i>, builders: &BTreeMap<String, (String, Yaml<'i>)>) -> String {
    let services: Mapping = builders
        .iter()
        .map(|(reference, (name, build))| {
            let entries = [(text("image"), text(reference)), (text("build"), build.clone())];
            (text(name), Yaml::Mapping(entries.into_iter().collect()))
        })
        .collect();
    let mut all = Mapping::from_iter([(text("services"), Yaml::Mapping(services))]);
    if let Some(secrets) = get(file, "secrets") {
        all.insert(text("secrets"), secrets.clone());
    }
    dump(&Yaml::Mapping(all))
}

/// Puts a reference in the place of `build`.
fn name(service: &mut Mapping, reference: &str) {
    let build = text("build");
    let image = text("image");
    for gone in ["dockerfile", "pull_policy"] {
        service.remove(&text(gone));
    }
    if service.contains_key(&image) {
        service.remove(&build);
    }
    let entries = std::mem::take(service);
    for (key, value) in entries {
        if key == build || key == image {
            service.insert(image.clone(), text(reference));
        } else {
            service.insert(key, value);
        }
    }
}

impl Naming<'_> {
    /// Returns what a service's image is called: as it is called here, but for registry and tag.
    fn reference(&self, service: &str, image: Option<&str>) -> String {
        let own = image.map(path).filter(|path| !path.is_empty() && !path.contains('$'));
        let path = own.map_or_else(|| format!("{}-{service}", self.project), str::to_owned);
        let registry = self.registry.trim_end_matches('/');
        format!("{registry}/{}:{}", path.to_lowercase(), self.version)
    }
}

/// Returns a reference without its registry, tag and digest.
fn path(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let image = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => image,
    }
}

/// Reads a registry's name: `HOST[:PORT][/PATH]`, without a scheme.
pub(crate) fn registry(word: &str) -> Result<String, String> {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || "-_.:/[]".contains(c);
    let starts = word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    if word.contains("//") || !starts || !word.chars().all(ordinary) {
        return Err("it must be HOST[:PORT][/PATH], without a scheme".to_owned());
    }
    Ok(word.to_owned())
}

/// Reads a version, which becomes a tag.
pub(crate) fn version(word: &str) -> Result<String, String> {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if word.is_empty()
        || word.len() > TAG
        || word.starts_with(['-', '.'])
        || !word.chars().all(ordinary)
    {
        return Err(format!("it must be up to {TAG} letters, digits, `_`, `.` and `-`"));
    }
    Ok(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMING: Naming = Naming { registry: "localhost:5000", version: "v2", project: "coins" };

    #[test]
    fn what_is_built_gets_a_reference_and_the_rest_stays() {
        let file = "services:\n  rng:\n    build: rng\n    ports:\n      - 80\n  web:\n    image: me/web:old\n    \
                    build: {context: ., target: web}\n    pull_policy: never\n  redis:\n    image: redis\n";
        let images = images(file, &NAMING).unwrap();
        assert_eq!(images.references, ["localhost:5000/coins-rng:v2", "localhost:5000/me/web:v2"]);
        assert_eq!(
            images.written,
            "services:\n  rng:\n    image: \"localhost:5000/coins-rng:v2\"\n    ports:\n      - 80\n  web:\n    \
             image: \"localhost:5000/me/web:v2\"\n  redis:\n    image: redis\n"
        );
        assert_eq!(
            images.builds,
            "services:\n  rng:\n    image: \"localhost:5000/coins-rng:v2\"\n    build: rng\n  web:\n    \
             image: \"localhost:5000/me/web:v2\"\n    build:\n      context: .\n      target: web\n"
        );
    }

    #[test]
    fn the_format_of_2015_is_built_as_it_says() {
        let images = images("rng:\n  build: rng\n  dockerfile: Other\n", &NAMING).unwrap();
        assert_eq!(images.written, "rng:\n  image: \"localhost:5000/coins-rng:v2\"\n");
        assert!(
            images.builds.contains("context: rng\n      dockerfile: Other\n"),
            "{}",
            images.builds
        );
    }

    #[test]
    fn one_image_of_several_services_is_built_once() {
        let file = |second: &str| {
            format!("services:\n  a: {{image: x, build: .}}\n  b: {{image: x, build: {second}}}\n")
        };
        let once = images(&file("."), &NAMING).unwrap();
        assert_eq!(once.references, ["localhost:5000/x:v2"]);
        assert_eq!(once.written.matches("localhost:5000/x:v2").count(), 2);
        assert!(matches!(images(&file("other"), &NAMING), Err(Error::Ambiguous(..))));
        assert!(matches!(images("services: {a: {image: x}}\n", &NAMING), Err(Error::Nothing)));
    }

    #[test]
    fn registry_and_tag_are_taken_off_a_name() {
        for (image, left) in [
            ("redis", "redis"),
            ("redis:7", "redis"),
            ("a/b:7", "a/b"),
            ("localhost/b", "b"),
            ("localhost:5000/a/b:7", "a/b"),
            ("r.io/a@sha256:00", "a"),
        ] {
            assert_eq!(path(image), left, "{image}");
        }
        for word in ["", "http://r", "r e", "-r", "$R"] {
            assert!(registry(word).is_err(), "{word}");
        }
        for word in ["", "-1", "a/b", "a:b", "$V"] {
            assert!(version(word).is_err(), "{word}");
        }
        assert!(registry("[::1]:5000/a").is_ok() && version("v1.2-3_4").is_ok());
    }
}
