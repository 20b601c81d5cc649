//! The filters and tests that templates have besides Tera's own. Pure: no I/O, no clock, no async.

#![allow(clippy::needless_pass_by_value, reason = "Tera passes arguments to filters by value")]

mod edge;

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tera::{Error, Kwargs, State, Tera, TeraResult, Value};

use crate::text;

/// Makes the filters and tests known to `tera`.
pub(crate) fn register(tera: &mut Tera) {
    tera.register_filter("by_tag", by_tag);
    tera.register_filter("by_meta", by_meta);
    tera.register_filter("group_by_port", group_by_port);
    tera.register_filter("sort_by", sort_by);
    tera.register_filter("parse_json", parse_json);
    tera.register_filter("parse_yaml", parse_yaml);
    tera.register_filter("to_json", to_json);
    tera.register_filter("to_toml", to_toml);
    tera.register_filter("sha256", |text: &str, _: Kwargs, _: &State| {
        text::sha256(text.as_bytes())
    });
    tera.register_filter("b64encode", |text: &str, _: Kwargs, _: &State| {
        BASE64_STANDARD.encode(text)
    });
    tera.register_filter("b64decode", b64decode);
    tera.register_filter("haproxy_name", |text: &str, _: Kwargs, _: &State| {
        text::haproxy_name(text)
    });
    tera.register_filter("server_name", server_name);
    tera.register_filter("haproxy_quote", |text: &str, _: Kwargs, _: &State| {
        text::haproxy_quote(text)
    });
    tera.register_filter("slug", |text: &str, _: Kwargs, _: &State| text::slug(text));
    tera.register_filter("sockaddr", sockaddr);
    tera.register_filter("port", port);
    tera.register_filter("shares", edge::shares);
    tera.register_filter("words", edge::words);
    tera.register_test("ip", |text: &str, _: Kwargs, _: &State| {
        text.parse::<std::net::IpAddr>().is_ok()
    });
}

/// Groups of values by a name, ordered by that name.
fn groups(pairs: impl IntoIterator<Item = (String, Value)>) -> Value {
    let mut groups = BTreeMap::<String, Vec<Value>>::new();
    for (name, value) in pairs {
        groups.entry(name).or_default().push(value);
    }
    Value::from(groups)
}

fn has_tag(instance: &Value, tag: &str) -> bool {
    let tags = instance.get_from_path("tags");
    tags.and_then(Value::as_array)
        .is_some_and(|tags| tags.iter().any(|has| has.as_str() == Some(tag)))
}

/// With `tag`: the instances that have it. Without: instances by tag.
fn by_tag(instances: &[Value], kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    if let Some(tag) = kwargs.get::<&str>("tag")? {
        let having = instances.iter().filter(|instance| has_tag(instance, tag));
        return Ok(Value::from(having.cloned().collect::<Vec<_>>()));
    }
    Ok(groups(instances.iter().flat_map(|instance| {
        let tags = instance.get_from_path("tags").and_then(Value::as_array).unwrap_or_default();
        tags.iter()
            .filter_map(Value::as_str)
            .map(|tag| (tag.to_owned(), instance.clone()))
            .collect::<Vec<_>>()
    })))
}

/// With `value`: the instances whose meta `key` is that. Without: instances by the value of `key`.
fn by_meta(instances: &[Value], kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let key = kwargs.must_get::<&str>("key")?;
    let meta = |instance: &Value| {
        let meta = instance.get_from_path("meta").and_then(Value::as_map);
        meta.and_then(|meta| meta.get(&tera::value::Key::Str(key)))
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    };
    if let Some(wanted) = kwargs.get::<&str>("value")? {
        let having = instances.iter().filter(|i| meta(i).as_deref() == Some(wanted));
        return Ok(Value::from(having.cloned().collect::<Vec<_>>()));
    }
    Ok(groups(instances.iter().filter_map(|i| Some((meta(i)?, i.clone())))))
}

/// Instances by port, the smallest port first.
fn group_by_port(instances: &[Value], _: Kwargs, _: &State) -> Value {
    let mut ports = BTreeMap::<u64, Vec<Value>>::new();
    for instance in instances {
        let port = instance.get_from_path("port").and_then(Value::as_i64);
        let port = port.and_then(|port| u64::try_from(port).ok()).unwrap_or_default();
        ports.entry(port).or_default().push(instance.clone());
    }
    Value::from(
        ports.into_iter().map(|(port, list)| (u128::from(port), list)).collect::<BTreeMap<_, _>>(),
    )
}

/// The list ordered by the attribute at the path `attribute`; equal ones stay as they were.
fn sort_by(list: &[Value], kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let attribute = kwargs.must_get::<&str>("attribute")?;
    if let Some(odd) = list.iter().find(|item| item.get_from_path(attribute).is_none()) {
        return Err(Error::message(format!("`{odd}` has no attribute `{attribute}`")));
    }
    let mut sorted = list.to_vec();
    sorted.sort_by(|a, b| a.get_from_path(attribute).cmp(&b.get_from_path(attribute)));
    if kwargs.get::<bool>("reverse")?.unwrap_or_default() {
        sorted.reverse();
    }
    Ok(Value::from(sorted))
}

fn parse_json(text: &str, _: Kwargs, _: &State) -> TeraResult<Value> {
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| Error::message(format!("this is not JSON: {error}")))?;
    Ok(cleaned(&value))
}

fn parse_yaml(text: &str, _: Kwargs, _: &State) -> TeraResult<Value> {
    let value: serde_json::Value = serde_norway::from_str(text)
        .map_err(|error| Error::message(format!("this is not YAML: {error}")))?;
    Ok(cleaned(&value))
}

/// What a parser unescapes is as untrusted as what it was given.
fn cleaned(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::String(text) => Value::from(text::clean(text)),
        serde_json::Value::Array(list) => Value::from(list.iter().map(cleaned).collect::<Vec<_>>()),
        serde_json::Value::Object(map) => Value::from(
            map.iter()
                .map(|(key, value)| (text::clean(key), cleaned(value)))
                .collect::<BTreeMap<_, _>>(),
        ),
        plain => Value::from_serializable(plain),
    }
}

fn to_json(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<String> {
    let pretty = kwargs.get::<bool>("pretty")?.unwrap_or_default();
    let text =
        if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map_err(|error| Error::message(format!("this cannot be written as JSON: {error}")))
}

fn to_toml(value: &Value, _: Kwargs, _: &State) -> TeraResult<String> {
    toml::to_string(value)
        .map_err(|error| Error::message(format!("this cannot be written as TOML: {error}")))
}

fn b64decode(text: &str, _: Kwargs, _: &State) -> TeraResult<String> {
    let bytes = BASE64_STANDARD
        .decode(text.trim())
        .map_err(|error| Error::message(format!("this is not base64: {error}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::message("what this encodes in base64 is not UTF-8 text"))?;
    Ok(text::clean(&text))
}

/// A port that somebody wrote down, as a number; 0 where it is none.
fn port(value: &Value, _: Kwargs, _: &State) -> u64 {
    let port = value.as_str().map_or_else(
        || value.as_i64().and_then(|port| u16::try_from(port).ok()),
        |text| text.trim().parse::<u16>().ok(),
    );
    port.unwrap_or_default().into()
}

/// The name of an instance's server: unlike its ID no other instance of its service has it, whatever their nodes.
fn server_name(instance: &Value, _: Kwargs, _: &State) -> TeraResult<String> {
    let id = instance.get_from_path("id").and_then(Value::as_str);
    let id = id.ok_or_else(|| Error::message("`server_name` is for instances"))?;
    let node = instance.get_from_path("node").and_then(Value::as_str).unwrap_or_default();
    Ok(text::haproxy_name(&consul::instance_key(node, id)))
}

/// `address:port` of an instance, an IPv6 address in brackets.
fn sockaddr(instance: &Value, kwargs: Kwargs, _: &State) -> TeraResult<String> {
    let address = match instance.as_str() {
        Some(address) => Some(address),
        None => instance.get_from_path("address").and_then(Value::as_str),
    };
    let port = match kwargs.get::<u16>("port")? {
        Some(port) => Some(port),
        None => instance
            .get_from_path("port")
            .and_then(Value::as_i64)
            .and_then(|port| u16::try_from(port).ok()),
    };
    let (address, port) = (address.unwrap_or_default(), port.unwrap_or_default());
    text::sockaddr(address, port)
        .ok_or_else(|| Error::message(format!("`{address}` and `{port}` are no address and port")))
}

#[cfg(test)]
mod tests;
