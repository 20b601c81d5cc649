//! Each filter with an example, rendered by a template as a user would.

use super::*;
use crate::text::is_clean;
use proptest::prelude::*;
use tera::Context;

fn render(template: &str, value: &serde_json::Value) -> TeraResult<String> {
    let mut tera = Tera::default();
    register(&mut tera);
    tera.add_raw_template("t.cfg", template)?;
    let mut context = Context::new();
    context.insert("v", value);
    tera.render("t.cfg", &context)
}

fn instances() -> serde_json::Value {
    serde_json::json!([
        {"id": "a", "address": "10.0.0.1", "port": 443, "tags": ["http", "v2"], "meta": {"zone": "x"}},
        {"id": "b", "address": "fe80::1", "port": 80, "tags": ["http"], "meta": {"zone": "y"}},
        {"id": "c", "address": "10.0.0.3", "port": 80, "tags": [], "meta": {}},
    ])
}

#[test]
fn filters_do_what_their_names_say() {
    let ids = "{% for i in list %}{{ i.id }}{% endfor %}";
    let groups =
        "{% for k, list in groups %}{{ k }}={% for i in list %}{{ i.id }}{% endfor %} {% endfor %}";
    for (filter, body, result) in [
        ("{% set list = v | by_tag(tag=\"http\") %}", ids, "ab"),
        ("{% set groups = v | by_tag %}", groups, "http=ab v2=a "),
        ("{% set list = v | by_meta(key=\"zone\", value=\"y\") %}", ids, "b"),
        ("{% set groups = v | by_meta(key=\"zone\") %}", groups, "x=a y=b "),
        ("{% set groups = v | group_by_port %}", groups, "80=bc 443=a "),
        ("{% set list = v | sort_by(attribute=\"port\") %}", ids, "bca"),
        ("{% set list = v | sort_by(attribute=\"id\", reverse=true) %}", ids, "cba"),
        (
            "",
            "{{ v[1] | sockaddr }} {{ v[0] | sockaddr(port=8080) }}",
            "[fe80::1]:80 10.0.0.1:8080",
        ),
        ("", "{{ \"10.0.0.9\" | sockaddr(port=1) }}", "10.0.0.9:1"),
        (
            "",
            "{{ \"80\" | port }} {{ 80 | port }} {{ \"0x\" | port }} {{ \"70000\" | port }}",
            "80 80 0 0",
        ),
        ("", "{{ v[0].meta | to_json }}", "{\"zone\":\"x\"}"),
        ("", "{{ v[0].meta | to_toml }}", "zone = \"x\"\n"),
        ("{% set p = '{\"a\": [1, 2]}' | parse_json %}", "{{ p.a[1] }}", "2"),
        ("{% set p = \"a: [x, y]\" | parse_yaml %}", "{{ p.a[1] }}", "y"),
        ("", "{{ \"hi\" | b64encode }} {{ \"aGk=\" | b64decode }}", "aGk= hi"),
        ("", "{{ \"Hello, World\" | slug }}", "hello-world"),
        ("", "{{ \"a b\" | haproxy_quote }}", "'a b'"),
        ("", "{{ \"rng\" | haproxy_name }}", "rng"),
        ("", "{{ \"\" | sha256 | truncate(length=8, end=\"\") }}", "e3b0c442"),
    ] {
        assert_eq!(
            render(&format!("{filter}{body}"), &instances()).unwrap(),
            result,
            "{filter}{body}"
        );
    }
}

#[test]
fn what_cannot_be_done_is_an_error_with_the_template_and_line() {
    for (template, words) in [
        ("\n{{ \"x y\" | sockaddr(port=1) }}", "no address"),
        ("\n{{ v[0].id | parse_json }}", "not JSON"),
        ("\n{{ \"a: [\" | parse_yaml }}", "not YAML"),
        ("\n{{ \"?\" | b64decode }}", "not base64"),
        ("\n{{ v | sort_by(attribute=\"zone\") }}", "no attribute `zone`"),
        ("\n{{ v | by_meta }}", "key"),
    ] {
        let error = render(template, &instances()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("t.cfg:2"), "{template}: {error}");
    }
}

proptest! {
    #[test]
    fn nothing_that_a_parser_unescapes_can_end_a_line(text in any::<String>()) {
        let json = serde_json::json!({ "k": text, text.clone(): ["x"] }).to_string();
        let yaml = serde_norway::to_string(&serde_json::json!({ "k": text })).unwrap();
        let value = serde_json::json!({
            "json": json, "yaml": yaml, "b64": BASE64_STANDARD.encode(&text),
        });
        let template = "{{ v.json | parse_json }}{% set y = v.yaml | parse_yaml %}{{ y.k }}{{ v.b64 | b64decode }}";
        prop_assert!(is_clean(&render(template, &value).unwrap()));
    }
}
