//! The stock template and values that want to be configuration.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::instance::{self, Instance};
use crate::snapshot::Data;

const STOCK: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/templates/haproxy.cfg.tera"));

/// What somebody writes who wants to be more than a name, or anything else.
fn text() -> impl Strategy<Value = String> {
    let wishes = [
        "web",
        "\n    server evil 6.6.6.6:80",
        " # ",
        "\"",
        "'; ",
        "\r\nglobal\n",
        "{{ 1 }}",
        "/a",
        "b.c",
        "%[src]",
    ];
    prop_oneof![
        any::<String>(),
        prop::collection::vec(prop::sample::select(wishes.to_vec()), 1..4).prop_map(|w| w.concat()),
    ]
}

/// Returns the first words of lines, as the template's own text has them.
fn keywords() -> BTreeSet<&'static str> {
    STOCK.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

proptest! {
    #[test]
    fn no_label_becomes_a_line_of_the_stock_configuration(
        name in text(), value in text(), tag in text(), id in text(), weights in text(), http: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("templates")).unwrap();
        std::fs::write(folder.path().join("templates/t"), STOCK).unwrap();
        let resource = "[template]\nsrc = \"t\"\ndest = \"/t\"\n";
        let resource = Resource::parse(Path::new("t.toml"), resource).unwrap();
        let templates = Templates::load(folder.path(), &resource).unwrap();
        // Consul gives names back as they are asked for, cleaned.
        let name = text::clean(&name);
        let tags: BTreeSet<String> = http.then(|| "http".to_owned()).into_iter().chain([text::clean(&tag)]).collect();
        let keys = ["http_host", "http_path", "lb_balance", "lb_check", "lb_sticky", "retry"];
        let mut meta: BTreeMap<String, String> = keys.map(|key| (key.to_owned(), value.clone())).into();
        meta.insert("container-port".to_owned(), "6379".to_owned());
        meta.insert(value.clone(), value.clone());
        let hostile = Instance {
            id, name: name.clone(), node: value.clone(), node_address: "10.0.0.9".into(), address: "10.0.0.1".into(),
            port: 80, tags: tags.iter().cloned().collect(), meta: meta.into(), status: value.clone(), datacenter: value, weight: 1,
        };
        let list = instance::normalised([hostile]);
        let mut snapshot = Snapshot::default();
        let rendered = loop {
            match templates.render(snapshot.clone(), SystemTime::UNIX_EPOCH).unwrap().outcome {
                Outcome::Rendered(text) => break text,
                Outcome::Pending(missing) => for dependency in missing {
                    let data = match &dependency {
                        Dependency::Services { .. } => Data::Services([(name.clone(), tags.clone())].into()),
                        Dependency::Service(_) => Data::Instances(list.clone()),
                        Dependency::Key { .. } => Data::Key(Some(weights.clone())),
                        other => crate::mock::data(other),
                    };
                    snapshot.update(&dependency.into(), data, None, SystemTime::UNIX_EPOCH);
                },
                Outcome::NotReady(why) => return Err(TestCaseError::fail(why)),
            }
        };
        let allowed = keywords();
        let mut servers = 0;
        for line in rendered.lines() {
            let Some(word) = line.split_whitespace().next() else { continue };
            prop_assert!(word.starts_with('#') || allowed.contains(word), "{line:?}");
            servers += usize::from(word == "server");
            prop_assert!(!line.starts_with("    server ") || line.contains(" 10.0.0.1:80 "), "{line:?}");
        }
        prop_assert!(servers <= 1, "{rendered}");
    }
}
