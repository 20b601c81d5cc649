//! What is wanted and what is, side by side; and what would change. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::{Actual, Desired};
use crate::plan::Action;

/// One line of the list.
pub(crate) struct Row {
    id: String,
    service: String,
    desired: Option<String>,
    actual: Option<String>,
    state: &'static str,
}

/// Compares, by ID; of what is registered only what `host` owns is shown.
pub(crate) fn rows(
    desired: &BTreeMap<String, Arc<Desired>>,
    actual: &BTreeMap<String, Actual>,
    host: &str,
) -> Vec<Row> {
    let owned = actual.iter().filter(|(_, one)| one.is_owned_by(host)).map(|(id, _)| id);
    let ids: BTreeSet<_> = desired.keys().chain(owned).collect();
    ids.into_iter()
        .map(|id| {
            let (want, have) = (desired.get(id), actual.get(id));
            let name = want.map(|one| &one.registration.name).or(have.map(|one| &one.service.name));
            Row {
                id: id.clone(),
                service: name.cloned().unwrap_or_default(),
                desired: want
                    .map(|one| format!("{}:{}", one.registration.address, one.registration.port)),
                actual: have.map(|one| format!("{}:{}", one.service.address, one.service.port)),
                state: match (want, have) {
                    (Some(want), Some(have)) if !have.matches(want) => "differs",
                    (Some(_), Some(have)) if have.maintenance.is_some() => "maintenance",
                    (Some(_), Some(_)) => "registered",
                    (Some(_), None) => "missing",
                    (None, _) => "dangling",
                },
            }
        })
        .collect()
}

/// Returns the rows for programs.
pub(crate) fn json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            json!({"id": row.id, "service": row.service, "desired": row.desired,
                   "actual": row.actual, "state": row.state})
        })
        .collect()
}

/// Returns the rows for people, in columns.
pub(crate) fn table(rows: &[Row]) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let mut lines = vec![["SERVICE", "ID", "DESIRED", "ACTUAL", "STATE"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let [desired, actual] = [&row.desired, &row.actual].map(or_dash);
        [row.service.clone(), row.id.clone(), desired, actual, row.state.to_owned()]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..5).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Returns a change as a line for people.
pub(crate) fn describe(action: &Action) -> String {
    match action {
        Action::Deregister(id) => format!("deregister {id}"),
        Action::Register(desired) => {
            let told = &desired.registration;
            let tags = told.tags.join(",");
            format!(
                "register   {} as {} at {}:{} [{tags}]",
                told.id, told.name, told.address, told.port
            )
        }
        Action::Maintain(id, Some(reason)) => format!("maintain   {id}: {reason}"),
        Action::Maintain(id, None) => format!("maintain   {id}: no longer"),
        Action::Beat(check, beat) => format!("check      {check} {}: {}", beat.status, beat.note),
    }
}
