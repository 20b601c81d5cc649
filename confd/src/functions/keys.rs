//! The functions that ask for keys.

use std::collections::BTreeMap;

use tera::{Error, Kwargs, TeraResult, Value};

use super::{Session, empty, only, postpone};
use crate::dependency::Dependency;
use crate::snapshot::Data;
use crate::text::clean;

/// What the source says of a key.
enum Found {
    Value(String),
    Nothing,
    /// It has not answered yet.
    Pending,
}

fn ask_key(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Found> {
    let path = session.path(kwargs)?;
    let found = session.ask(Dependency::Key { path }, |entry| match &entry.data {
        Data::Key(Some(value)) => Found::Value(value.clone()),
        _ => Found::Nothing,
    })?;
    Ok(found.unwrap_or(Found::Pending))
}

/// A key's value as one line, or all of it where the template's author says that lines are wanted.
fn shown(value: &str, kwargs: &Kwargs) -> TeraResult<Value> {
    let raw = kwargs.get::<bool>("raw")?.unwrap_or_default();
    Ok(Value::from(if raw { value.to_owned() } else { clean(value) }))
}

pub(super) fn key(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["path", "raw"])?;
    match ask_key(session, kwargs)? {
        Found::Pending => Ok(Value::from("")),
        Found::Value(value) => shown(&value, kwargs),
        Found::Nothing => {
            Err(Error::message(format!("there is no key `{}`", session.path(kwargs)?)))
        }
    }
}

pub(super) fn key_exists(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["path"])?;
    Ok(Value::from(matches!(ask_key(session, kwargs)?, Found::Value(_))))
}

pub(super) fn key_or(session: &mut Session, kwargs: &Kwargs) -> TeraResult<Value> {
    only(kwargs, &["path", "default", "raw"])?;
    let default = kwargs.must_get::<Value>("default")?;
    match ask_key(session, kwargs)? {
        Found::Value(value) => shown(&value, kwargs),
        _ => Ok(default),
    }
}

/// How far below a path keys are listed.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Depth {
    One,
    All,
}

/// What it means that there are none.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Empty {
    Fine,
    NotReady,
}

pub(super) fn keys(
    session: &mut Session,
    kwargs: &Kwargs,
    depth: Depth,
    when_empty: Empty,
) -> TeraResult<Value> {
    only(kwargs, &["path"])?;
    let path = session.path(kwargs)?;
    let all =
        session.ask(Dependency::Prefix { path: path.clone() }, |entry| match &entry.data {
            Data::Keys(keys) => keys.clone(),
            _ => BTreeMap::new(),
        })?;
    let Some(all) = all else { return Ok(empty()) };
    let wanted = |key: &str| depth == Depth::All || !key.contains('/');
    let list: Vec<Value> = all
        .iter()
        .filter(|(key, _)| !key.is_empty() && !key.ends_with('/') && wanted(key))
        .map(|(key, value)| {
            Value::from(BTreeMap::from([
                ("key".to_owned(), Value::from(clean(key))),
                ("value".to_owned(), Value::from(clean(value))),
            ]))
        })
        .collect();
    if list.is_empty() && when_empty == Empty::NotReady {
        return postpone(session, format!("there are no keys below `{path}`"));
    }
    Ok(Value::from(list))
}
