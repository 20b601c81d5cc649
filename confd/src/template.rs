//! Templates: parsed once, rendered from a snapshot, which tells what they depend on.

mod uses;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tera::{Context, ErrorKind, Tera};

use crate::ambassadors::Ambassador;
use crate::dependency::Dependency;
use crate::filters;
use crate::functions::{self, Answers, Session, Shared};
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::text;

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or the folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A template is wrong; the message names the template, the line and what is wrong with it.
    #[error("{message}")]
    Template {
        /// Template, line, excerpt and reason.
        message: String,
    },
}

/// What came of a rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The text.
    Rendered(String),
    /// Some questions have no answer yet.
    Pending(BTreeSet<Dependency>),
    /// The template itself says that it is too early.
    NotReady(String),
}

/// A rendering: its outcome, and all that the template asked.
#[derive(Clone, Debug)]
pub struct Rendering {
    /// What came of it.
    pub outcome: Outcome,
    /// Every question, answered or not.
    pub asked: BTreeSet<Dependency>,
}

/// The parsed templates of one folder, for one resource.
pub struct Templates {
    tera: Tera,
    session: Shared,
    prefix: String,
    files: PathBuf,
    template: String,
    keys: Vec<String>,
    /// Whether it is rendered for one ambassador.
    each: bool,
    ambassador: Option<Ambassador>,
    digest: String,
}

impl Templates {
    /// Parses what `resource` needs of the folder `templates/` below `confdir`.
    ///
    /// Its own template must be right; others are there to be included or extended, and what is
    /// wrong with them matters only where they are used.
    pub fn load(confdir: &Path, resource: &Resource) -> Result<Self, Error> {
        let folder = confdir.join("templates");
        let template = resource.src.to_string_lossy().into_owned();
        let mut tera = Tera::default();
        let session = Shared::default();
        filters::register(&mut tera);
        functions::register(&mut tera, &session);
        // What is rendered are configuration files: quoting is for their own filters to do.
        tera.autoescape_on(Vec::<&'static str>::new());
        let own = folder.join(&resource.src);
        let source =
            std::fs::read_to_string(&own).map_err(|source| Error::Read { path: own, source })?;
        if source.is_empty() {
            let message = format!(
                "{template} is empty: is it being written? A template of an empty file says so, with {{# a comment #}}"
            );
            return Err(Error::Template { message });
        }
        let mut sources = vec![(template.clone(), source)];
        others(&folder, &folder, &template, &mut sources)?;
        let (used, reads_files) = uses::of(&template, &sources);
        let mut known = format!("{resource:?}{used:?}");
        if reads_files {
            uses::contents(&confdir.join("files"), &mut known);
        }
        let digest = text::sha256(known.as_bytes());
        // A sibling that does not parse is left out: it is another resource's mistake, and where
        // it is not, the next attempt says what is missing.
        while let Err(error) = tera.add_raw_templates(sources.iter().cloned()) {
            let broken = match error.kind() {
                ErrorKind::SyntaxError(report) => report.filename().to_owned(),
                _ => template.clone(),
            };
            if broken == template || !sources.iter().any(|(name, _)| *name == broken) {
                return Err(explained(&error, &template));
            }
            sources.retain(|(name, _)| *name != broken);
        }
        Ok(Self {
            tera,
            session,
            prefix: resource.prefix.clone(),
            files: confdir.join("files"),
            template,
            keys: resource.keys.clone(),
            each: resource.for_each.is_some(),
            ambassador: resource.ambassador.clone(),
            digest,
        })
    }

    /// Returns what tells these templates and their resource from others.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Renders the resource's template from `snapshot`, as of `now`.
    pub fn render(&self, snapshot: Snapshot, now: SystemTime) -> Result<Rendering, Error> {
        self.render_from(Answers::Snapshot(snapshot), now)
    }

    /// Renders with made-up answers: finds mistakes without a source of services.
    pub fn rehearse(&self) -> Result<Rendering, Error> {
        self.render_from(Answers::Mock, SystemTime::UNIX_EPOCH)
    }

    fn render_from(&self, answers: Answers, now: SystemTime) -> Result<Rendering, Error> {
        // What the resource lists in `keys` is asked whether the template does or not.
        let listed: BTreeSet<Dependency> = self
            .keys
            .iter()
            .map(|path| Dependency::Prefix { path: functions::join(&self.prefix, path) })
            .collect();
        let missing = match &answers {
            Answers::Snapshot(s) => listed.iter().filter(|d| s.get(d).is_none()).cloned().collect(),
            Answers::Mock => BTreeSet::new(),
        };
        let mut context = Context::new();
        match (&self.ambassador, &answers) {
            (Some(ambassador), _) => context.insert("ambassador", ambassador),
            (None, Answers::Mock) if self.each => {
                context.insert("ambassador", &Ambassador::example());
            }
            (None, _) => {}
        }
        *functions::lock(&self.session) = Session {
            answers,
            now: Some(now),
            prefix: self.prefix.clone(),
            files: self.files.clone(),
            asked: listed,
            missing,
            not_ready: None,
            lately: VecDeque::new(),
        };
        let rendered = self.tera.render(&self.template, &context);
        let Session { answers, asked, missing, not_ready, .. } =
            std::mem::take(&mut *functions::lock(&self.session));
        if let Answers::Snapshot(snapshot) = answers {
            snapshot.give_back();
        }
        let outcome = match (rendered, not_ready) {
            // What fails for want of an answer is no mistake of the template's.
            _ if !missing.is_empty() => Outcome::Pending(missing),
            (_, Some(why)) => Outcome::NotReady(why),
            (Ok(text), None) => Outcome::Rendered(text),
            (Err(error), None) => return Err(explained(&error, &self.template)),
        };
        Ok(Rendering { outcome, asked })
    }
}

/// Collects the templates of `folder` and below that parse by themselves.
fn others(
    root: &Path,
    folder: &Path,
    own: &str,
    sources: &mut Vec<(String, String)>,
) -> Result<(), Error> {
    let unreadable = |source| Error::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            others(root, &path, own, sources)?;
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if name == own {
            continue;
        }
        match std::fs::read_to_string(&path) {
            Ok(source) => sources.push((name, source)),
            Err(error) => tracing::debug!(path = %path.display(), %error, "no template"),
        }
    }
    Ok(())
}

fn explained(error: &tera::Error, template: &str) -> Error {
    let message = match error.kind() {
        // Tera's report already has the template, line and column.
        ErrorKind::SyntaxError(_) | ErrorKind::RenderingError(_) => error.to_string(),
        _ => format!("{template}: {error}"),
    };
    let mut source = std::error::Error::source(error);
    let mut message = message.trim_end().to_owned();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Error::Template { message }
}

#[cfg(test)]
mod ambassador;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
