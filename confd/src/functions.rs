//! The functions that templates have besides Tera's own: questions to the snapshot.

mod keys;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tera::{ArgFromValue, Error, Kwargs, State, Tera, TeraResult, Value};

use crate::dependency::{Dependency, Service};
use crate::snapshot::{Data, Entry, Snapshot};
use crate::units::Span;
use keys::{Depth, Empty, key, key_exists, key_or, keys};

/// What one rendering asks and is answered. The functions of a template engine share it; it is
/// put in before a rendering and taken out afterwards.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) answers: Answers,
    pub(crate) now: Option<SystemTime>,
    /// Put before the path of every key.
    pub(crate) prefix: String,
    /// The only folder that `file()` reads.
    pub(crate) files: PathBuf,
    pub(crate) asked: BTreeSet<Dependency>,
    pub(crate) missing: BTreeSet<Dependency>,
    pub(crate) not_ready: Option<String>,
    /// The large answers that were given last. As templates see them they take more memory than everything else, and a
    /// template is done with a service when it asks for the next.
    pub(crate) lately: VecDeque<Arc<Entry>>,
}

/// How many large answers are kept as templates see them: a service may be asked for twice, with a tag and without.
const LATELY: usize = 2;

/// Where the answers come from.
#[derive(Clone, Debug)]
pub(crate) enum Answers {
    Snapshot(Snapshot),
    /// One plausible answer to everything: for checking templates without a source.
    Mock,
}

impl Default for Answers {
    fn default() -> Self {
        Self::Snapshot(Snapshot::default())
    }
}

pub(crate) type Shared = Arc<Mutex<Session>>;

pub(crate) fn lock(session: &Shared) -> MutexGuard<'_, Session> {
    // A panic inside a rendering leaves only sets behind, which the next rendering replaces.
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the functions known to `tera`; they ask `session`.
pub(crate) fn register(tera: &mut Tera, session: &Shared) {
    let mut add = |name: &'static str, function: fn(&mut Session, &Kwargs) -> TeraResult<Value>| {
        let session = Arc::clone(session);
        tera.register_function(name, move |kwargs: Kwargs, _: &State| {
            function(&mut lock(&session), &kwargs)
        });
    };
    add("services", services);
    add("service", service);
    add("nodes", nodes);
    add("node", node);
    add("datacenters", datacenters);
    add("checks", checks);
    add("ambassadors", ambassadors);
    add("key", key);
    add("key_exists", key_exists);
    add("key_or", key_or);
    add("ls", |session, kwargs| keys(session, kwargs, Depth::One, Empty::Fine));
    add("tree", |session, kwargs| keys(session, kwargs, Depth::All, Empty::Fine));
    add("safe_ls", |session, kwargs| keys(session, kwargs, Depth::One, Empty::NotReady));
    add("safe_tree", |session, kwargs| keys(session, kwargs, Depth::All, Empty::NotReady));
    add("env", env);
    add("must_env", must_env);
    add("file", file);
    add("not_ready", not_ready);
}

/// Refuses an argument that nobody reads: a misspelt one would silently change the question.
fn only(kwargs: &Kwargs, known: &[&str]) -> TeraResult<()> {
    let unknown =
        kwargs.iter().filter_map(|(key, _)| key.as_str()).find(|key| !known.contains(key));
    match unknown {
        None => Ok(()),
        Some(key) => Err(Error::message(format!(
            "unknown argument `{key}`; there are: {}",
            known.join(", ")
        ))),
    }
}

/// Returns an argument that was given, and is neither undefined nor empty text.
fn text(kwargs: &Kwargs, name: &str) -> TeraResult<Option<String>> {
    match kwargs.get::<Value>(name)? {
        None => Ok(None),
        Some(value) if value.is_none() || value.as_str() == Some("") => Ok(None),
        Some(value) => <&str as ArgFromValue>::from_value(&value).map(|text| Some(text.to_owned())),
    }
}

fn span(kwargs: &Kwargs, name: &str) -> TeraResult<Span> {
    match text(kwargs, name)? {
        Some(text) => text.parse().map_err(Error::message),
        None => Ok(Span::default()),
    }
}

impl Session {
    /// Asks, and answers `None` where there is no answer yet, which is noted. What the source cannot answer is an error.
    fn ask<T>(
        &mut self,
        dependency: Dependency,
        read: impl FnOnce(&Entry) -> T,
    ) -> TeraResult<Option<T>> {
        let read = |entry: &Entry| match &entry.data {
            Data::Refused(why) => Err(Error::message(format!("no answer to {dependency}: {why}"))),
            _ => Ok(read(entry)),
        };
        let answer = match &self.answers {
            Answers::Snapshot(snapshot) => snapshot.get(&dependency).map(|entry| {
                if entry.is_large() && !self.lately.iter().any(|one| Arc::ptr_eq(one, entry)) {
                    self.lately.push_back(Arc::clone(entry));
                }
                read(entry)
            }),
            Answers::Mock => {
                let data = crate::mock::data(&dependency);
                Some(read(&Entry::following(None, data, SystemTime::UNIX_EPOCH)))
            }
        };
        if self.lately.len() > LATELY
            && let Some(oldest) = self.lately.pop_front()
        {
            oldest.forget_value();
        }
        if answer.is_none() {
            self.missing.insert(dependency.clone());
        }
        self.asked.insert(dependency);
        answer.transpose()
    }

    /// Asks for a list; while there is no answer it is empty, so that the rendering goes on and
    /// finds what else will be asked.
    fn list(&mut self, dependency: Dependency) -> TeraResult<Value> {
        Ok(self.ask(dependency, Entry::value)?.unwrap_or_else(empty))
    }

    fn path(&self, kwargs: &Kwargs) -> TeraResult<String> {
        let path = kwargs.must_get::<&str>("path")?;
        Ok(join(&self.prefix, path))
    }

    fn now(&self) -> SystemTime {
        self.now.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn empty() -> Value {
    Value::from(Vec::<Value>::new())
}

/// Joins a prefix and a path the way Consul writes keys: no slash at the beginning, none doubled.
pub(crate) fn join(prefix: &str, path: &str) -> String {
    let (prefix, path) = (prefix.trim_matches('/'), path.trim_start_matches('/'));
    if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") }
}

fn services(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["dc", "keep"])?;
    let (keep, now) = (span(kwargs, "keep")?, session.now());
    let dependency = Dependency::Services { dc: text(kwargs, "dc")? };
    Ok(session.ask(dependency, |e| e.value_with_former(keep.0, now))?.unwrap_or_else(empty))
}

fn service(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["name", "tag", "dc", "near", "passing", "filter", "keep"])?;
    let (keep, now) = (span(kwargs, "keep")?, session.now());
    let dependency = Dependency::Service(Service {
        name: kwargs.must_get::<&str>("name")?.to_owned(),
        tag: text(kwargs, "tag")?,
        dc: text(kwargs, "dc")?,
        near: text(kwargs, "near")?,
        passing: kwargs.get::<bool>("passing")?.unwrap_or(true),
        filter: text(kwargs, "filter")?,
    });
    Ok(session.ask(dependency, |e| e.value_with_former(keep.0, now))?.unwrap_or_else(empty))
}

fn nodes(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["dc"])?;
    session.list(Dependency::Nodes { dc: text(kwargs, "dc")? })
}

fn node(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["name", "dc"])?;
    let name = kwargs.must_get::<&str>("name")?.to_owned();
    let dependency = Dependency::Node { name, dc: text(kwargs, "dc")? };
    Ok(session.ask(dependency, crate::snapshot::Entry::value)?.unwrap_or_else(Value::none))
}

fn datacenters(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &[])?;
    session.list(Dependency::Datacenters)
}

fn checks(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["state"])?;
    let state = text(kwargs, "state")?.unwrap_or_else(|| "any".to_owned());
    if !["any", "passing", "warning", "critical"].contains(&state.as_str()) {
        return Err(Error::message(format!(
            "`{state}` is no state; there are: any, passing, warning, critical"
        )));
    }
    session.list(Dependency::Checks { state })
}

fn ambassadors(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &[])?;
    session.list(Dependency::Ambassadors)
}

fn env(_: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["name", "default"])?;
    let default = kwargs.get::<Value>("default")?.unwrap_or_else(|| Value::from(""));
    Ok(std::env::var(kwargs.must_get::<&str>("name")?).map_or(default, Value::from))
}

fn must_env(_: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["name"])?;
    let name = kwargs.must_get::<&str>("name")?;
    std::env::var(name)
        .map(Value::from)
        .map_err(|_| Error::message(format!("the environment has no `{name}`")))
}

fn file(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["path"])?;
    let path = kwargs.must_get::<&str>("path")?;
    let read = |folder: &Path| -> std::io::Result<String> {
        let folder = folder.canonicalize()?;
        // Links are followed first, so that one cannot lead out of the folder.
        let file = folder.join(path).canonicalize()?;
        if !file.starts_with(&folder) {
            return Err(std::io::Error::other("it is outside of the folder for files"));
        }
        std::fs::read_to_string(file)
    };
    read(&session.files).map(Value::from).map_err(|error| {
        Error::message(format!("cannot read file `{path}` in {}: {error}", session.files.display()))
    })
}

fn not_ready(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["why"])?;
    let why = text(kwargs, "why")?.unwrap_or_else(|| "the template says so".to_owned());
    postpone(session, why)
}

/// Ends the rendering; its text will not be used.
fn postpone(session: &mut Session, why: String) -> TeraResult<Value> {
    let error = Error::message(format!("not ready: {why}"));
    session.not_ready.get_or_insert(why);
    Err(error)
}
