//! Compose files as trees that keep what nobody here understands: unquoted words stay as they were
//! written, quoted ones stay quoted. Anchors and merge keys are resolved. Comments are lost. Pure:
//! no I/O, no clock, no async.

use std::borrow::Cow;

use saphyr::{Mapping, Scalar, ScalarStyle, Yaml, YamlEmitter, YamlLoader};
use saphyr_parser::{Parser, ScanError};

/// The key that brings another mapping's entries into this one.
const MERGE: &str = "<<";

/// Why a text is no tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("this is no YAML")]
    Syntax(#[source] ScanError),
    #[error("there must be one document, not {0}")]
    Documents(usize),
}

/// Reads a text with one document.
pub(crate) fn load(text: &str) -> Result<Yaml<'_>, Error> {
    let mut loader = YamlLoader::<Yaml>::default();
    loader.early_parse(false);
    Parser::new_from_str(text).load(&mut loader, true).map_err(Error::Syntax)?;
    if let Some(error) = loader.error() {
        return Err(Error::Syntax(error.clone()));
    }
    let mut documents = loader.into_documents();
    match (documents.pop(), documents.len()) {
        (Some(document), 0) => Ok(settle(document)),
        (_, more) => Err(Error::Documents(if more == 0 { 0 } else { more + 1 })),
    }
}

/// Writes a tree.
pub(crate) fn dump(tree: &Yaml) -> String {
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    emitter.quoted_value(true);
    emitter.dump(tree).expect("writing to a string does not fail");
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    // What has no value ends with the blank before it.
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

/// Returns a text, as it is compared and written.
pub(crate) fn text(value: impl Into<String>) -> Yaml<'static> {
    Yaml::Value(Scalar::String(Cow::Owned(value.into())))
}

/// Returns the words of a scalar, however it is written.
pub(crate) fn words<'a>(node: &'a Yaml) -> Option<&'a str> {
    match node {
        Yaml::Representation(words, ..) | Yaml::Value(Scalar::String(words)) => Some(words),
        _ => None,
    }
}

/// Returns the entry of a mapping.
pub(crate) fn get<'a, 'i>(node: &'a Yaml<'i>, key: &str) -> Option<&'a Yaml<'i>> {
    node.as_mapping()?.get(&text(key))
}

/// Makes keys comparable and brings in what is merged.
fn settle(node: Yaml) -> Yaml {
    match node {
        Yaml::Representation(words, ScalarStyle::Plain, None) if words.is_empty() => {
            Yaml::Value(Scalar::Null)
        }
        Yaml::Representation(words, ScalarStyle::Plain, tag) if !words.contains('\n') => {
            Yaml::Representation(words, ScalarStyle::Plain, tag)
        }
        Yaml::Representation(words, _, None) => Yaml::Value(Scalar::String(words)),
        Yaml::Representation(words, _, Some(tag)) => {
            Yaml::Tagged(tag, Box::new(Yaml::Value(Scalar::String(words))))
        }
        Yaml::Sequence(items) => Yaml::Sequence(items.into_iter().map(settle).collect()),
        Yaml::Mapping(entries) => Yaml::Mapping(mapping(entries)),
        Yaml::Tagged(tag, node) => Yaml::Tagged(tag, Box::new(settle(*node))),
        other => other,
    }
}

fn mapping(entries: Mapping<'_>) -> Mapping<'_> {
    let (mut own, mut merged) = (Mapping::new(), Vec::new());
    for (key, value) in entries {
        match (key, settle(value)) {
            (Yaml::Representation(words, ScalarStyle::Plain, None), value) if words == MERGE => {
                match value {
                    Yaml::Sequence(all) => merged.extend(all),
                    one => merged.push(one),
                }
            }
            (Yaml::Representation(words, _, None), value) => {
                own.insert(Yaml::Value(Scalar::String(words)), value);
            }
            (key, value) => drop(own.insert(settle(key), value)),
        }
    }
    // What is written here counts most, then what is merged first.
    for (key, value) in merged.into_iter().filter_map(Yaml::into_mapping).flatten() {
        own.entry(key).or_insert(value);
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_stays_as_it_was_written() {
        for text in [
            "a: 0777\n",
            "a: 2.10\n",
            "a: \"0777\"\n",
            "a: yes\n",
            "a: \"yes\"\n",
            "a:\n  - 80:80\n  - \"22:22\"\n  - -x\n",
            "a: ${PORT:-80}\n",
            "a: !reset []\n",
            "a: ~\n",
            "\"on\": \"line 1\\nline 2\\n\"\n",
            "a: {}\nb: []\n",
        ] {
            assert_eq!(dump(&load(text).unwrap()), text, "{text}");
        }
    }

    #[test]
    fn a_written_tree_is_read_back() {
        let text = "a: 'it''s'\nb: |\n  x\n\n  y\nc: >-\n  x\n  y\nd: {e: [1, 'f: g']}\nh:\n";
        let once = dump(&load(text).unwrap());
        assert_eq!(dump(&load(&once).unwrap()), once, "{once}");
        let tree = load(&once).unwrap();
        assert_eq!(get(&tree, "a").and_then(words), Some("it's"));
        assert_eq!(get(&tree, "b").and_then(words), Some("x\n\ny\n"));
        assert_eq!(get(&tree, "c").and_then(words), Some("x y"));
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 3}\nz: {<<: [*x, *y], a: 4}\n";
        let tree = load(text).unwrap();
        assert_eq!(dump(get(&tree, "z").unwrap()), "a: 4\nb: 2\nc: 3\n");
    }

    #[test]
    fn what_is_no_single_document_is_refused() {
        assert!(matches!(load(""), Err(Error::Documents(0))));
        assert!(matches!(load("a: 1\n---\nb: 2\n"), Err(Error::Documents(2))));
        assert!(matches!(load("a: [1\n"), Err(Error::Syntax(_))));
        assert!(matches!(load("a: 1\na: 2\n"), Err(Error::Syntax(_))));
    }
}
