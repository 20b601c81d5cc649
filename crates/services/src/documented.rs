//! Whether docs/registrator.md tells of every setting, and of none that is not there.

use std::collections::BTreeSet;

use crate::check::{KINDS, OPTIONS};
use crate::labels::RESERVED;

const DOCS: &str = include_str!("../../../docs/registrator.md");

#[test]
fn the_page_tells_of_every_setting_and_of_none_that_is_not_there() {
    let checks = KINDS.iter().chain(&OPTIONS).map(|word| format!("CHECK_{word}"));
    let known: BTreeSet<String> =
        checks.chain(RESERVED.iter().map(|word| (*word).to_owned())).collect();
    for setting in &known {
        assert!(DOCS.contains(&format!("`{setting}`")), "{setting}");
    }
    let (_, table) = DOCS.split_once("| setting | meaning |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let settings: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(settings.len() > 20, "{settings:?}");
    for setting in settings {
        assert!(known.contains(setting) || setting == "CHECK_2_…", "{setting}");
    }
}
