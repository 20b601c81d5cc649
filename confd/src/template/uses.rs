//! Which files a template's text depends on: an edit of others is nothing to it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Returns the template `own` with those of `sources` (name and text) that it may use, and whether one of them may
/// read from the folder `files/`. Rather one too many: who is named anywhere counts, and who offers components.
pub(super) fn of<'a>(
    own: &str,
    sources: &'a [(String, String)],
) -> (Vec<&'a (String, String)>, bool) {
    let offers = |text: &str| text.contains("component");
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (name, text) in sources {
        if name == own || offers(text) {
            names.insert(name);
        }
    }
    loop {
        let texts: Vec<&str> = sources
            .iter()
            .filter(|(name, _)| names.contains(name.as_str()))
            .map(|(_, text)| text.as_str())
            .collect();
        let before = names.len();
        for (name, _) in sources {
            if texts.iter().any(|text| text.contains(name.as_str())) {
                names.insert(name);
            }
        }
        if names.len() == before {
            let used = sources.iter().filter(|(name, _)| names.contains(name.as_str())).collect();
            return (used, texts.iter().any(|text| text.contains("file(")));
        }
    }
}

/// Adds the names and contents of all files in `folder` and below to `known`; what cannot be read is as if it were not there.
pub(super) fn contents(folder: &Path, known: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            contents(&path, known);
        } else if let Ok(bytes) = std::fs::read(&path) {
            // Writing to a string does not fail.
            let _ = writeln!(known, "{}={}", path.display(), crate::text::sha256(&bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_depends_on_what_it_names_and_on_what_that_names() {
        let sources = [
            ("own", "{% include \"part\" %}"),
            ("other", "{{ file(path=\"x\") }}"),
            ("part", "{% extends 'base' %}"),
            ("base", "text"),
            ("shared", "{% component c() %}{% endcomponent c %}"),
        ];
        let sources = sources.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let names = |own| {
            let (used, files) = of(own, &sources);
            (used.into_iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), files)
        };
        assert_eq!(names("own"), (vec!["own", "part", "base", "shared"], false));
        assert_eq!(names("other"), (vec!["other", "shared"], true));
    }
}
