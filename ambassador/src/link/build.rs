//! How the image of a service is built. Pure: no I/O, no clock, no async.

use std::path::{Path, PathBuf};

use saphyr::Yaml;

use super::dockerfile::{Image, image};
use super::yaml::{get, words};

/// A Dockerfile and the stage of it that is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) dockerfile: Dockerfile,
    target: Option<String>,
}

/// Where a Dockerfile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dockerfile {
    /// In a file, from the folder of the Compose file.
    File(PathBuf),
    /// In the Compose file.
    Inline(String),
}

impl Build {
    /// Returns what the Dockerfile `text` tells of the image.
    pub(crate) fn image(&self, text: &str) -> Image {
        image(text, self.target.as_deref())
    }
}

/// Returns how a service is built, if it is.
pub(crate) fn build(service: &Yaml) -> Option<Build> {
    let build = get(service, "build")?;
    let said = |key: &str| get(build, key).and_then(words);
    let (folder, file) = match words(build) {
        // In the format of 2015 the file's name stands beside the folder.
        Some(folder) => (folder, get(service, "dockerfile").and_then(words)),
        None => (said("context").unwrap_or("."), said("dockerfile")),
    };
    let file = || Path::new(folder).join(file.unwrap_or("Dockerfile"));
    let inline = said("dockerfile_inline").map(|text| Dockerfile::Inline(text.to_owned()));
    Some(Build {
        dockerfile: inline.unwrap_or_else(|| Dockerfile::File(file())),
        target: said("target").filter(|target| !target.is_empty()).map(str::to_owned),
    })
}
