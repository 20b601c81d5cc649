//! Whether a Compose file says by itself what its services build: where they take that from elsewhere, only Compose knows
//! what it is, and it would stay in force in what is written. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use saphyr::Yaml;

use super::images::Error;
use crate::link::yaml::get;
use crate::link::{base, includes, services};

/// Refuses a file of which something may be built that it does not say itself.
pub(super) fn whole(file: &Yaml) -> Result<(), Error> {
    if includes(file) {
        return Err(Error::Includes);
    }
    let services = services(file)?;
    for (name, service) in &services {
        if base(service).is_some_and(|base| base.is_elsewhere) {
            return Err(Error::Elsewhere((*name).to_owned()));
        }
        // Who adds nothing of its own gets the reference of what it extends.
        let adds = ["build", "image"].iter().any(|key| get(service, key).is_some());
        if let Some(base) = built_base(service, &services).filter(|_| adds) {
            return Err(Error::Extends { service: (*name).to_owned(), base: base.to_owned() });
        }
    }
    Ok(())
}

/// Returns the nearest one that is built of what a service extends, of what that extends, and so on.
fn built_base<'a>(service: &'a Yaml, services: &BTreeMap<&str, &'a Yaml>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next = base(service);
    while let Some(base_of) = next {
        let base_service =
            *services.get(base_of.service).filter(|_| seen.insert(base_of.service))?;
        if get(base_service, "build").is_some() {
            return Some(base_of.service);
        }
        next = base(base_service);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::yaml::load;

    fn refused(file: &str) -> Option<String> {
        let error = whole(&load(file).unwrap()).err()?.to_string();
        assert!(error.contains("`docker compose config`"), "{error}");
        Some(error)
    }

    #[test]
    fn what_may_be_built_and_is_not_said_here_is_refused_and_the_way_out_is_named() {
        for (file, reason) in [
            ("include: [db.yml]\nservices: {a: {build: .}}\n", "this file includes others"),
            ("include: [db.yml]\n", "this file includes others"),
            (
                "services:\n  a: {build: .}\n  b: {extends: {file: x.yml, service: b}}\n",
                "service \"b\" extends one of another file",
            ),
            ("a: {build: .}\nb: {extends: {file: x.yml, service: b}}\n", "service \"b\""),
            (
                "services:\n  a: {build: .}\n  b: {extends: a, image: b}\n",
                "service \"b\" extends \"a\", which is built",
            ),
            (
                "services:\n  a: {build: .}\n  b: {extends: {service: a}, build: {target: b}}\n",
                "service \"b\" extends \"a\", which is built",
            ),
            (
                "services:\n  a: {build: .}\n  b: {extends: a}\n  c: {extends: b, image: c}\n",
                "service \"c\" extends \"a\", which is built",
            ),
        ] {
            let error = refused(file).unwrap_or_default();
            assert!(error.contains(reason), "{file}: {error}");
        }
    }

    #[test]
    fn what_a_file_says_itself_is_not_refused() {
        for file in [
            "services:\n  a: {build: .}\n  b: {extends: a, environment: {X: 1}}\n",
            "services:\n  a: {image: a}\n  b: {extends: a, build: .}\n",
            "services:\n  a: {extends: b, image: a}\n  b: {extends: a, image: b}\n  c: {build: .}\n",
            "services:\n  a: {extends: no, build: .}\n",
            "include: {build: .}\n",
        ] {
            assert_eq!(refused(file), None, "{file}");
        }
    }
}
