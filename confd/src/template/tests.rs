//! Each function with an example, rendered by a template as a user would, and what hostile values can do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::dependency::Service;
use crate::instance::{self, Instance};
use crate::snapshot::{Check, Data, Node};

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn load(&self, more: &str) -> Result<Templates, Error> {
        let text = format!("[template]\nsrc = \"t.cfg\"\ndest = \"/tmp/t\"\n{more}");
        Templates::load(self.0.path(), &Resource::parse(Path::new("t.toml"), &text).unwrap())
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

fn snapshot(answers: impl IntoIterator<Item = (Dependency, Data)>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (dependency, data) in answers {
        snapshot.update(&dependency.into(), data, None, now());
    }
    snapshot
}

fn rng(passing: bool) -> Dependency {
    Dependency::Service(Service { passing, ..Service::named("rng") })
}

fn instance(id: &str, address: &str) -> Arc<Instance> {
    Arc::new(Instance {
        id: id.into(),
        name: "rng".into(),
        node: "n1".into(),
        address: address.into(),
        port: 80,
        status: "passing".into(),
        weight: 1,
        ..Instance::default()
    })
}

fn world() -> Snapshot {
    let key = |path: &str| Dependency::Key { path: path.into() };
    let node = Node { name: "n1".into(), address: "10.0.0.1".into(), ..Node::default() };
    let check = Check { id: "c".into(), status: "critical".into(), ..Check::default() };
    snapshot([
        (rng(true), Data::Instances(vec![instance("a", "10.0.0.1")])),
        (rng(false), Data::Instances(vec![instance("a", "10.0.0.1"), instance("b", "10.0.0.2")])),
        (
            Dependency::Services { dc: None },
            Data::Services(BTreeMap::from([("rng".into(), BTreeSet::from(["http".into()]))])),
        ),
        (Dependency::Nodes { dc: None }, Data::Nodes(vec![node.clone()])),
        (
            Dependency::Node { name: "n1".into(), dc: None },
            Data::Node(Some((node, vec![instance("a", "10.0.0.1")]))),
        ),
        (Dependency::Datacenters, Data::Names(vec!["dc1".into()])),
        (key("app/color"), Data::Key(Some("blue\nserver x".into()))),
        (key("app/none"), Data::Key(None)),
        (
            Dependency::Prefix { path: "app".into() },
            Data::Keys(BTreeMap::from([
                ("color".into(), "blue".into()),
                ("deep/er".into(), "1".into()),
                ("folder/".into(), String::new()),
            ])),
        ),
        (Dependency::Prefix { path: "void".into() }, Data::Keys(BTreeMap::new())),
        (Dependency::Checks { state: "critical".into() }, Data::Checks(vec![check])),
    ])
}

fn render(template: &str) -> Result<Rendering, String> {
    let folder = Folder::with(&[("templates/t.cfg", template), ("files/motd", "hello\n")]);
    let templates = folder.load("").map_err(|error| error.to_string())?;
    templates.render(world(), now()).map_err(|error| error.to_string())
}

#[test]
fn functions_answer_from_the_snapshot() {
    for (template, text) in [
        (
            "{% for s in services() %}{{ s.name }}:{{ s.tags | join(sep=\",\") }}{% endfor %}",
            "rng:http",
        ),
        ("{% for i in service(name=\"rng\") %}{{ i | sockaddr }}{% endfor %}", "10.0.0.1:80"),
        ("{% for i in service(name=\"rng\", passing=false) %}{{ i.id }}{% endfor %}", "ab"),
        ("{% for n in nodes() %}{{ n.name }}={{ n.address }}{% endfor %}", "n1=10.0.0.1"),
        ("{% set n = node(name=\"n1\") %}{{ n.node.name }} {{ n.services | length }}", "n1 1"),
        ("{{ datacenters() | join(sep=\",\") }}", "dc1"),
        ("{% for c in checks(state=\"critical\") %}{{ c.id }}{% endfor %}", "c"),
        ("{{ key(path=\"app/color\") }}", "blue server x"),
        ("{{ key(path=\"/app/color\", raw=true) }}", "blue\nserver x"),
        ("{% if key_exists(path=\"app/none\") %}yes{% else %}no{% endif %}", "no"),
        ("{{ key_or(path=\"app/none\", default=5) }}", "5"),
        ("{% for k in ls(path=\"app\") %}{{ k.key }}={{ k.value }} {% endfor %}", "color=blue "),
        ("{% for k in tree(path=\"app\") %}{{ k.key }} {% endfor %}", "color deep/er "),
        ("{{ safe_ls(path=\"app\") | length }}{{ safe_tree(path=\"app\") | length }}", "12"),
        ("{{ file(path=\"motd\") }}", "hello\n"),
        ("{{ env(name=\"NO_SUCH\", default=\"d\") }}{{ env(name=\"NO_SUCH\") }}", "d"),
        ("{% if must_env(name=\"PATH\") %}set{% endif %}", "set"),
    ] {
        assert_eq!(render(template).unwrap().outcome, Outcome::Rendered(text.into()), "{template}");
    }
}

#[test]
fn what_has_no_answer_yet_is_found_by_rendering_and_the_text_is_not_used() {
    let template = "{% for s in services() %}{% for i in service(name=s.name, tag=\"x\") %}{{ i.id }}{% endfor %}{% endfor %}{% set k = key(path=\"later\") | parse_json %}{{ k.a }}";
    let tagged = Dependency::Service(Service { tag: Some("x".into()), ..Service::named("rng") });
    let later = Dependency::Key { path: "later".into() };
    let rendering = render(template).unwrap();
    assert_eq!(rendering.outcome, Outcome::Pending(BTreeSet::from([tagged.clone(), later])));
    assert!(rendering.asked.contains(&Dependency::Services { dc: None }));
    assert!(rendering.asked.contains(&tagged));
}

#[test]
fn a_template_can_postpone_itself() {
    let outcome = |template| render(template).unwrap().outcome;
    assert_eq!(outcome("{{ not_ready(why=\"too few\") }}"), Outcome::NotReady("too few".into()));
    assert!(
        matches!(outcome("{{ safe_ls(path=\"void\") }}"), Outcome::NotReady(why) if why.contains("void"))
    );
}

#[test]
fn the_keys_of_a_resource_are_asked_for_and_its_prefix_comes_before_every_path() {
    let folder = Folder::with(&[("templates/t.cfg", "{{ key(path=\"/color\") }}")]);
    let more = "prefix = \"/app\"\nkeys = [\"/sub\"]\n";
    let rendering = folder.load(more).unwrap().render(world(), now()).unwrap();
    let sub = Dependency::Prefix { path: "app/sub".into() };
    assert_eq!(rendering.outcome, Outcome::Pending(BTreeSet::from([sub])));
    assert!(rendering.asked.contains(&Dependency::Key { path: "app/color".into() }));
}

#[test]
fn errors_name_the_template_the_line_and_what_was_missing() {
    for (template, words) in [
        ("\n{{ nonsense }}", "nonsense"),
        ("\n{{ service() }}", "name"),
        ("\n{{ service(nmae=\"rng\") }}", "unknown argument `nmae`"),
        ("\n{{ nonsense() }}", "nonsense"),
        ("\n{{ \"x\" | nonsense }}", "nonsense"),
        ("\n{% for i in services() %}", "end"),
        ("\n{% for i in service(name=\"rng\") %}{{ i.colour }}{% endfor %}", "colour"),
        ("\n{{ key(path=\"app/none\") }}", "no key `app/none`"),
        ("\n{{ must_env(name=\"NO_SUCH\") }}", "NO_SUCH"),
        ("\n{{ file(path=\"../templates/t.cfg\") }}", "outside"),
        ("\n{{ file(path=\"/etc/passwd\") }}", "outside"),
        ("\n{{ services(keep=\"soon\") }}", "no duration"),
        ("\n{{ checks(state=\"odd\") }}", "no state"),
    ] {
        let error = render(template).unwrap_err();
        assert!(error.contains(words) && error.contains("t.cfg:2"), "{template}: {error}");
    }
}

#[test]
fn a_link_does_not_lead_out_of_the_folder_for_files() {
    let folder = Folder::with(&[("templates/t.cfg", "{{ file(path=\"link\") }}"), ("files/x", "")]);
    std::os::unix::fs::symlink("/etc/passwd", folder.0.path().join("files/link")).unwrap();
    let error = folder.load("").unwrap().render(world(), now()).unwrap_err().to_string();
    assert!(error.contains("outside"), "{error}");
}

#[test]
fn templates_may_include_others_and_a_broken_sibling_harms_nobody() {
    let folder = Folder::with(&[
        ("templates/t.cfg", "{% include \"parts/head.tera\" %}!"),
        ("templates/parts/head.tera", "head"),
        ("templates/broken.tera", "{% if %}"),
        ("templates/binary.tera", "\u{0}"),
    ]);
    let rendering = folder.load("").unwrap().render(world(), now()).unwrap();
    assert_eq!(rendering.outcome, Outcome::Rendered("head!".into()));
}

#[test]
fn configuration_files_are_not_escaped_like_web_pages() {
    let outcome = render("{% set x = \"<&'>\" %}{{ x }}").unwrap().outcome;
    assert_eq!(outcome, Outcome::Rendered("<&'>".into()));
}

#[test]
fn a_rehearsal_needs_no_source() {
    let folder = Folder::with(&[(
        "templates/t.cfg",
        "{% for s in services() %}{% for i in service(name=s.name) %}{{ i | sockaddr }}{% endfor %}{% endfor %}{{ key(path=\"a\") | parse_json }}",
    )]);
    let rehearsed = folder.load("").unwrap().rehearse().unwrap();
    assert!(matches!(rehearsed.outcome, Outcome::Rendered(text) if text.contains(":80")));
}

proptest! {
    #[test]
    fn no_value_from_outside_can_add_a_line(
        name in any::<String>(), tag in any::<String>(), value in any::<String>(), key in any::<String>(),
        address in any::<String>(),
    ) {
        let hostile = Instance {
            id: name.clone(), name: name.clone(), node: name, node_address: "10.0.0.1".into(),
            address, port: 80, tags: vec![tag], meta: BTreeMap::from([(key.clone(), value.clone())]).into(),
            status: value.clone(), datacenter: value.clone(), weight: 1,
        };
        let snapshot = snapshot([
            (rng(true), Data::Instances(instance::normalised([hostile]))),
            (Dependency::Key { path: "k".into() }, Data::Key(Some(value.clone()))),
            (Dependency::Prefix { path: "p".into() }, Data::Keys(BTreeMap::from([(key, value)]))),
        ]);
        let folder = Folder::with(&[("templates/t.cfg", "{% for i in service(name=\"rng\") %}{{ i.id }}{{ i.node }}{{ i | sockaddr }}{{ i.tags }}{{ i.meta }}{{ i.status }}{{ i.datacenter }}{% endfor %}{{ key(path=\"k\") }}{{ key_or(path=\"k\", default=1) }}{% for k in tree(path=\"p\") %}{{ k.key }}{{ k.value }}{% endfor %}")]);
        match folder.load("").unwrap().render(snapshot, now()).unwrap().outcome {
            Outcome::Rendered(text) => prop_assert!(crate::text::is_clean(&text), "{:?}", text),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
