//! Whether a Compose file says by itself what it links: others that it includes or extends may say more, and only Compose
//! knows what they are together. Pure: no I/O, no clock, no async.

use std::collections::BTreeSet;

use saphyr::Yaml;

use super::convert::services;
use super::error::Error;
use super::service::{asked, links};
use super::yaml::{get, load, words};

/// What a service extends.
pub(crate) struct Base<'a> {
    pub(crate) service: &'a str,
    /// Whether it is in a file that is named, and not just in the same one.
    pub(crate) is_elsewhere: bool,
}

/// Returns what a service extends.
pub(crate) fn base<'a>(service: &'a Yaml) -> Option<Base<'a>> {
    let extends = get(service, "extends")?;
    let named = words(extends).or_else(|| get(extends, "service").and_then(words));
    let is_elsewhere = get(extends, "file").is_some();
    Some(Base { service: named.unwrap_or_default(), is_elsewhere })
}

/// Tells whether a file includes others; in the format of 2015 a service may be called so.
pub(crate) fn includes(file: &Yaml) -> bool {
    get(file, "include").is_some_and(|files| !files.is_mapping())
}

/// Refuses a file in which a link begins or ends at something that is not wholly there; of one without any link, says why
/// there may be some that were not seen.
pub(crate) fn whole(file: &str) -> Result<Option<String>, Error> {
    let file = load(file)?;
    let services = services(&file)?;
    let includes = includes(&file);
    let mut linked = BTreeSet::new();
    for (name, service) in &services {
        for link in links(service) {
            if includes && !services.contains_key(link.service.as_str()) {
                return Err(Error::Included { service: (*name).to_owned(), link: link.service });
            }
            linked.extend([(*name).to_owned(), link.service]);
        }
    }
    let extends =
        |name: &&String| services.get(name.as_str()).is_some_and(|service| base(service).is_some());
    if let Some(name) = linked.iter().find(extends) {
        return Err(Error::Extends(name.clone()));
    }
    let mut bases = services.values().filter_map(|service| base(service));
    let elsewhere = bases.any(|base| base.is_elsewhere);
    let converted = services.values().any(|service| asked(service).is_some());
    let does = match (includes, elsewhere) {
        _ if converted || !linked.is_empty() => return Ok(None),
        (true, _) => "it includes others",
        (false, true) => "its services extend those of others",
        (false, false) => return Ok(None),
    };
    Ok(Some(format!(
        "there are no links in this file, but {does}: `docker compose config` prints the whole file, convert that"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_of_what_is_extended_or_included_is_refused_and_the_way_out_is_named() {
        let extending = "a: {image: a, links: [b]}\n  b: {extends: {file: x.yml, service: b}}";
        for (services, reason) in [
            (extending, "service \"b\" has links or is linked to, and extends"),
            ("a: {extends: b, links: [b]}\n  b: {image: b}", "service \"a\" has links"),
            ("a: {image: a, links: [db]}\ninclude: [db.yml]", "links to \"db\", which is not in"),
        ] {
            let error = whole(&format!("services:\n  {services}\n")).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.contains("`docker compose config`"), "{error}");
        }
        let error = whole("include: [a.yml]\n").unwrap_err().to_string();
        assert!(error.contains("all services are in included files"), "{error}");
    }

    #[test]
    fn links_that_may_be_in_other_files_are_spoken_of_where_this_one_has_none() {
        for (services, word) in [
            ("a: {image: a}\ninclude: [b.yml]", Some("it includes others")),
            ("a: {extends: {file: x.yml, service: a}}", Some("extend those of others")),
            ("a: {extends: b}\n  b: {image: b}", None),
            ("a: {image: a}", None),
            ("a: {image: a, links: [b]}\n  b: {image: b}\n  c: {extends: b}", None),
            ("a: {image: a, labels: {ambassador.upstreams: 'b:1'}}\ninclude: [b.yml]", None),
        ] {
            let said = whole(&format!("services:\n  {services}\n")).unwrap();
            assert_eq!(said.is_some(), word.is_some(), "{services}: {said:?}");
            assert!(said.unwrap_or_default().contains(word.unwrap_or_default()), "{services}");
        }
    }
}
