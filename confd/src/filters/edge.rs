//! What labels and operators say about routing and sharing out, as far as it may stand in a
//! configuration. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use tera::{Error, Kwargs, State, TeraResult, Value};

/// The highest weight that HAProxy takes.
const FULL: f64 = 256.0;
/// The longest word that is taken from a label.
const LONGEST: usize = 128;

/// Returns the words that instances' labels say for `key`, in order and without doubles; what is
/// not of the `kind` is left out.
pub(super) fn words(instances: &[Value], kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let key = kwargs.must_get::<&str>("key")?;
    let kind = kwargs.must_get::<&str>("kind")?;
    let allowed = match kind {
        "host" => is_host as fn(&str) -> bool,
        "path" => is_path,
        "balance" => is_balance,
        "check" => |word: &str| word == "tcp" || word == "off" || is_path(word),
        "sticky" => is_sticky,
        _ => return Err(Error::message(format!("there is no kind of words `{kind}`"))),
    };
    let mut found = BTreeSet::new();
    for instance in instances {
        let meta = instance.get_from_path("meta").and_then(Value::as_map);
        let said = meta.and_then(|meta| meta.get(&tera::value::Key::Str(key)));
        let Some(said) = said.and_then(Value::as_str) else { continue };
        let case = if kind == "host" { said.to_lowercase() } else { said.to_owned() };
        let words = case.split([',', ' ']).filter(|word| word.len() <= LONGEST && allowed(word));
        found.extend(words.map(str::to_owned));
    }
    Ok(Value::from(found.into_iter().map(Value::from).collect::<Vec<_>>()))
}

fn is_host(word: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    word.split('.').all(label)
}

fn is_path(word: &str) -> bool {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
    word.starts_with('/') && word.chars().all(ordinary)
}

/// What works with servers that come and go at run time.
fn is_balance(word: &str) -> bool {
    matches!(word, "roundrobin" | "leastconn" | "first" | "random" | "source" | "uri")
}

fn is_sticky(word: &str) -> bool {
    let name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    word == "source" || word.strip_prefix("cookie:").is_some_and(name)
}

/// Returns instances with the weights that shares by tag make of theirs: `of` is a JSON object of
/// percents by tag, and what is left of 100 goes to instances with none of these tags. Where `of`
/// is no such object, weights stay.
pub(super) fn shares(instances: Vec<Value>, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let shares = kwargs.must_get::<&str>("of")?;
    let Ok(shares) = serde_json::from_str::<BTreeMap<String, f64>>(shares) else {
        return Ok(Value::from(instances));
    };
    let said: f64 = shares.values().map(|share| share.clamp(0.0, 100.0)).sum();
    if shares.is_empty() || !said.is_finite() {
        return Ok(Value::from(instances));
    }
    let rest = (100.0 - said).max(0.0);
    let mut sums = BTreeMap::<Option<String>, f64>::new();
    let groups: Vec<_> = instances
        .iter()
        .map(|instance| {
            let group = group(instance, &shares);
            *sums.entry(group.clone()).or_default() += weight(instance);
            group
        })
        .collect();
    let weighted = instances.into_iter().zip(groups).map(|(instance, group)| {
        let share = group.as_ref().map_or(rest, |tag| shares[tag].clamp(0.0, 100.0));
        let part = share / 100.0 * weight(&instance) / sums[&group].max(1.0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and 256"
        )]
        let weight = (part * FULL).ceil().clamp(0.0, FULL) as u64;
        with_weight(instance, weight)
    });
    Ok(Value::from(weighted.collect::<Vec<_>>()))
}

/// Returns the first tag of an instance that has a share.
fn group(instance: &Value, shares: &BTreeMap<String, f64>) -> Option<String> {
    let tags = instance.get_from_path("tags").and_then(Value::as_array)?;
    tags.iter().filter_map(Value::as_str).find(|tag| shares.contains_key(*tag)).map(str::to_owned)
}

fn weight(instance: &Value) -> f64 {
    let status = instance.get_from_path("status").and_then(Value::as_str);
    let weight = instance.get_from_path("weight").and_then(Value::as_i64).unwrap_or(1);
    // What is gone takes no part.
    if status == Some("gone") { 0.0 } else { f64::from(u16::try_from(weight).unwrap_or(u16::MAX)) }
}

fn with_weight(instance: Value, weight: u64) -> Value {
    let Some(mut map) = instance.into_map() else { return Value::none() };
    map.insert("weight".into(), Value::from(weight));
    Value::from(map)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use tera::Tera;

    use super::super::register;

    fn render(template: &str, value: &serde_json::Value) -> String {
        let mut tera = Tera::default();
        register(&mut tera);
        tera.add_raw_template("t.cfg", template).unwrap();
        let mut context = tera::Context::new();
        context.insert("v", value);
        tera.render("t.cfg", &context).unwrap()
    }

    fn weights(instances: &serde_json::Value, of: &str) -> String {
        let template =
            format!("{{% for i in v | shares(of='{of}') %}}{{{{ i.weight }}}} {{% endfor %}}");
        render(&template, instances).trim().to_owned()
    }

    #[test]
    fn shares_are_shared_out_by_tag_and_by_weight() {
        let instances = json!([
            {"id": "a", "tags": ["v1"], "weight": 1, "status": "passing"},
            {"id": "b", "tags": ["v1"], "weight": 3, "status": "passing"},
            {"id": "c", "tags": ["x", "v2"], "weight": 1, "status": "passing"},
            {"id": "d", "tags": [], "weight": 1, "status": "passing"},
            {"id": "e", "tags": ["v2"], "weight": 9, "status": "gone"},
        ]);
        for (of, result) in [
            ("", "1 3 1 1 9"),
            ("{}", "1 3 1 1 9"),
            ("nonsense", "1 3 1 1 9"),
            (r#"{"v1":50,"v2":50}"#, "32 96 128 0 0"),
            (r#"{"v1":100,"v2":0}"#, "64 192 0 0 0"),
            (r#"{"v1":0}"#, "0 0 128 128 0"),
            (r#"{"v2":-5,"v1":1000}"#, "64 192 0 0 0"),
        ] {
            assert_eq!(weights(&instances, of), result, "{of}");
        }
    }

    #[test]
    fn only_words_of_their_kind_are_taken_from_labels() {
        let said = |value: &str, kind: &str| {
            let instances = json!([{"meta": {"k": value}}, {"meta": {}}, {}]);
            let template = format!("{{{{ v | words(key='k', kind='{kind}') | join(sep=' ') }}}}");
            render(&template, &instances)
        };
        for (value, kind, result) in [
            ("Shop.example, www.shop.example", "host", "shop.example www.shop.example"),
            ("a b; c} -m a..b a_b", "host", "a"),
            ("/api,/x~y.z/ api /%20 /{ /a;b", "path", "/api /x~y.z/"),
            ("leastconn static-rr source", "balance", "leastconn source"),
            ("off tcp /health http", "check", "/health off tcp"),
            ("source cookie:SID cookie: cookie:a{b}", "sticky", "cookie:SID source"),
        ] {
            assert_eq!(said(value, kind), result, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_word_changes_the_structure_of_a_configuration(
            value in ".{0,40}",
            kind in prop::sample::select(vec!["host", "path", "balance", "check", "sticky"]),
        ) {
            let instances = json!([{"meta": {"k": value}}]);
            let template = format!("{{% for w in v | words(key='k', kind='{kind}') %}}{{{{ w }}}}|{{% endfor %}}");
            let result = render(&template, &instances);
            prop_assert!(result.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~/:|".contains(c)), "{}", result);
        }
    }
}
