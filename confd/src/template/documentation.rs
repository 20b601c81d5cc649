//! What docs/confd.md says is tried: its examples are rendered, its tables are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::instance::Instance;
use crate::meta::Meta;
use crate::snapshot::{Check, Data, Node};

const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/confd.md"));

/// Returns the cells of all table rows, without the quoting of code.
fn rows() -> Vec<Vec<String>> {
    let rows = TEXT.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.map(|row| {
        let row = row.replace("\\|", "\u{1}");
        row.split('|').map(|cell| cell.trim().trim_matches('`').replace('\u{1}', "|")).collect()
    })
    .collect()
}

/// Returns all words in backquotes.
fn quoted() -> BTreeSet<&'static str> {
    TEXT.split('`').flat_map(|part| part.split([' ', ',', '=', '[', '<'])).collect()
}

/// The world that the document describes.
fn answer(dependency: &Dependency) -> Data {
    let instance = |n: usize, address: &str, port, tags: &[&str], zone: &str| {
        Arc::new(Instance {
            id: format!("rng-{n}"),
            name: "rng".into(),
            node: format!("node{n}"),
            address: address.into(),
            port,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            meta: Meta::from_iter([("zone".to_owned(), zone.to_owned())]),
            weight: 1,
            status: "passing".into(),
            ..Instance::default()
        })
    };
    let instances = vec![
        instance(1, "10.0.0.1", 80, &["http"], "a"),
        instance(2, "fd00::2", 8080, &["http", "v2"], "b"),
    ];
    let node = |n: usize| Node {
        name: format!("node{n}"),
        address: format!("192.0.2.{n}"),
        ..Node::default()
    };
    match dependency {
        Dependency::Services { .. } => Data::Services(BTreeMap::from([(
            "rng".to_owned(),
            BTreeSet::from(["http".to_owned(), "v2".to_owned()]),
        )])),
        Dependency::Service(_) => Data::Instances(instances),
        Dependency::Nodes { .. } => Data::Nodes(vec![node(1), node(2)]),
        Dependency::Node { .. } => Data::Node(Some((node(1), instances))),
        Dependency::Datacenters => Data::Names(vec!["dc1".to_owned()]),
        Dependency::Key { path } => Data::Key((path == "app/color").then(|| "red".to_owned())),
        Dependency::Prefix { .. } => Data::Keys(
            [("color", "red"), ("db/host", "db1")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        ),
        Dependency::Ambassadors => crate::mock::data(dependency),
        Dependency::Checks { .. } => {
            Data::Checks(vec![Check { name: "disk".into(), ..Check::default() }])
        }
    }
}

fn render(example: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [("templates/t", example), ("files/motd", "hello")] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let resource = "[template]\nsrc = \"t\"\ndest = \"/t\"\n";
    let resource = Resource::parse(Path::new("t.toml"), resource).unwrap();
    let said = |error: Error| error.to_string();
    let templates = Templates::load(folder.path(), &resource).map_err(said)?;
    let mut snapshot = Snapshot::default();
    loop {
        let rendering = templates.render(snapshot.clone(), SystemTime::UNIX_EPOCH);
        match rendering.map_err(said)?.outcome {
            Outcome::Rendered(text) => return Ok(text),
            Outcome::Pending(missing) => {
                for dependency in missing {
                    let data = answer(&dependency);
                    snapshot.update(&dependency.into(), data, None, SystemTime::UNIX_EPOCH);
                }
            }
            Outcome::NotReady(why) => return Err(why),
        }
    }
}

#[test]
fn every_example_gives_what_the_document_says() {
    let names = names();
    let (mut tried, mut wrong) = (BTreeSet::new(), Vec::new());
    for row in rows() {
        let [name, example, gives, ..] = &row[..] else { continue };
        if names.contains(name.as_str()) && example.starts_with('{') {
            match render(example) {
                Ok(text) if text.trim_end() == gives.trim_end() => {}
                other => wrong.push(format!("{example}: {other:?}, not {gives:?}")),
            }
            tried.insert(name.clone());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let missing: Vec<_> = names.iter().filter(|name| !tried.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/confd.md has no example of {missing:?}");
}

/// Returns the names of all functions, filters and tests, as the source registers them.
fn names() -> BTreeSet<&'static str> {
    let functions = include_str!("../functions.rs").split("    add(\"").skip(1);
    let filters = include_str!("../filters.rs").split("tera.register_").skip(1);
    let filters = filters.filter_map(|rest| Some(rest.split_once("(\"")?.1));
    functions.chain(filters).filter_map(|rest| Some(rest.split_once('"')?.0)).collect()
}

#[test]
fn every_key_of_a_resource_is_in_the_document() {
    let quoted = quoted();
    let whole = "[template]\nsrc = \"a\"\ndest = \"/a\"\n";
    for table in ["", "haproxy", "signal", "containers", "exec", "guard", "flap"] {
        let header = if table.is_empty() { String::new() } else { format!("[template.{table}]\n") };
        let text = format!("{whole}{header}no-such-key = 1\n");
        let error = Resource::parse(Path::new("a.toml"), &text).unwrap_err().to_string();
        let expected = error.split_once("expected").expect("serde lists the keys").1;
        for key in expected.split('`').skip(1).step_by(2) {
            assert!(
                quoted.contains(key),
                "docs/confd.md does not know {key} of [template.{table}]"
            );
        }
    }
}

#[test]
fn every_flag_metric_and_option_of_a_server_is_in_the_document() {
    use clap::CommandFactory;
    let quoted = quoted();
    let command = crate::cli::Args::command();
    let mut missing = Vec::new();
    for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
        let name = flag.get_long().map(|name| format!("--{name}"));
        let env = flag.get_env().map(|env| env.to_string_lossy().into_owned());
        missing.extend(name.into_iter().chain(env).filter(|word| !quoted.contains(&**word)));
    }
    for command in command.get_subcommands() {
        let name = command.get_name();
        if !TEXT.contains(&format!("| `confd {name}")) {
            missing.push(name.to_owned());
        }
    }
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = crate::metrics::Metrics::new(&mut registry);
    metrics.answered();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = format!("{name}{}", if kind == "counter" { "_total" } else { "" });
        if !quoted.contains(&*name) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "docs/confd.md does not know {missing:?}");
    for (option, at_runtime) in crate::haproxy::options() {
        let row = TEXT.lines().find(|line| {
            line.starts_with("| `")
                && line.contains(&format!("`{option}`"))
                && line.contains("`check-s")
        });
        let row = row.unwrap_or_else(|| panic!("docs/confd.md does not know {option}"));
        assert_eq!(row.ends_with("| a reload |"), !at_runtime, "{option}: {row}");
    }
}
