//! How labels and environment variables become settings.

use super::*;

fn container(labels: &[(&str, &str)], environment: &[(&str, &str)]) -> Container {
    let map = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Container { labels: map(labels), environment: map(environment), ..Container::default() }
}

fn name(container: &Container, port: &str) -> Option<String> {
    let labels = Labels::of(container, "");
    labels.at(Port::parse(port)).get("NAME").map(ToOwned::to_owned)
}

#[test]
fn the_more_specific_setting_wins_and_a_label_beats_the_environment() {
    let container = container(
        &[
            ("SERVICE_NAME", "label"),
            ("SERVICE_1-100_NAME", "range"),
            ("SERVICE_10-90_NAME", "narrow"),
        ],
        &[("SERVICE_NAME", "env"), ("SERVICE_80_NAME", "port"), ("SERVICE_80_udp_NAME", "proto")],
    );
    assert_eq!(name(&container, "443").as_deref(), Some("label"));
    assert_eq!(name(&container, "5").as_deref(), Some("range"));
    assert_eq!(name(&container, "50").as_deref(), Some("narrow"));
    assert_eq!(name(&container, "80").as_deref(), Some("port"));
    assert_eq!(name(&container, "80/udp").as_deref(), Some("proto"));
}

#[test]
fn dotted_labels_mean_the_same() {
    let container = container(&[("service.80.name", "web"), ("service.name", "any")], &[]);
    assert_eq!(name(&container, "80").as_deref(), Some("web"));
    assert_eq!(name(&container, "81").as_deref(), Some("any"));
}

#[test]
fn empty_is_not_set() {
    let container = container(&[("SERVICE_80_NAME", ""), ("SERVICE_NAME", "any")], &[]);
    assert_eq!(name(&container, "80").as_deref(), Some("any"));
}

// The ancestor ignored a container whatever the value of SERVICE_IGNORE was.
#[test]
fn a_flag_that_says_false_means_false() {
    let container = container(&[("SERVICE_IGNORE", "false"), ("SERVICE_INTERNAL", "perhaps")], &[]);
    let labels = Labels::of(&container, "");
    let mut warnings = Warnings::default();
    assert_eq!(labels.at(None).flag("IGNORE", &mut warnings), Some(false));
    assert_eq!(labels.at(None).flag("INTERNAL", &mut warnings), None);
    let warnings: Vec<String> = warnings.into_vec().iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["SERVICE_INTERNAL: \"perhaps\" is neither true nor false; not used"]);
}

#[test]
fn a_range_ends_where_it_says_and_may_be_of_one_protocol() {
    let container =
        container(&[("SERVICE_10-20_udp_NAME", "voice"), ("SERVICE_20-10_NAME", "none")], &[]);
    assert_eq!(name(&container, "20/udp").as_deref(), Some("voice"));
    for outside in ["9/udp", "21/udp", "15"] {
        assert_eq!(name(&container, outside), None, "{outside}");
    }
}

#[test]
fn what_has_no_meaning_of_its_own_is_meta_and_the_more_specific_comes_first() {
    let container = container(
        &[("SERVICE_A", "1"), ("SERVICE_B", "2"), ("SERVICE_80_B", "3"), ("SERVICE_IP", "4")],
        &[("SERVICE_CHECK_TCP", "true")],
    );
    let labels = Labels::of(&container, "");
    let meta: Vec<_> = labels.at(Port::parse("80")).meta().collect();
    assert_eq!(meta, [("B", "3"), ("A", "1")]);
}

#[test]
fn a_prefix_stands_before_labels_only() {
    let container = container(
        &[("acme.SERVICE_NAME", "mine"), ("SERVICE_TAGS", "other")],
        &[("SERVICE_WEIGHT", "2")],
    );
    let labels = Labels::of(&container, "acme.");
    let settings = labels.at(None);
    assert_eq!(settings.get("NAME"), Some("mine"));
    assert_eq!(settings.get("TAGS"), None);
    assert_eq!(settings.get("WEIGHT"), Some("2"));
}
