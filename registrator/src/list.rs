//! What is wanted and what is, side by side; and what would change. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consul::Registration;
use serde_json::{Value, json};

use crate::model::{Actual, Desired};
use crate::plan::Action;

/// The headings of the columns.
const COLUMNS: [&str; 6] = ["SERVICE", "ID", "DESIRED", "ACTUAL", "HEALTH", "STATE"];

/// What is shown instead of what may be secret.
const HIDDEN: &str = "***";

/// One line of the list.
pub(crate) struct Row<'a> {
    id: &'a str,
    desired: Option<&'a Desired>,
    actual: Option<&'a Actual>,
    state: &'static str,
    /// In what the two differ.
    differences: Vec<&'static str>,
}

/// Compares, by ID; of what is registered only what `host` owns is shown.
pub(crate) fn rows<'a>(
    desired: &'a BTreeMap<String, Arc<Desired>>,
    actual: &'a BTreeMap<String, Actual>,
    host: &str,
) -> Vec<Row<'a>> {
    let owned = actual.iter().filter(|(_, one)| one.is_owned_by(host)).map(|(id, _)| id);
    let ids: BTreeSet<_> = desired.keys().chain(owned).collect();
    ids.into_iter()
        .map(|id| {
            let (desired, actual) = (desired.get(id).map(AsRef::as_ref), actual.get(id));
            let differences = differences(desired, actual);
            let state = match (desired, actual) {
                (Some(_), Some(_)) if !differences.is_empty() => "differs",
                (Some(_), Some(have)) if have.maintenance.is_some() => "maintenance",
                (Some(_), Some(_)) => "registered",
                (Some(_), None) => "missing",
                (None, _) => "dangling",
            };
            Row { id, desired, actual, state, differences }
        })
        .collect()
}

fn differences(desired: Option<&Desired>, actual: Option<&Actual>) -> Vec<&'static str> {
    let (Some(desired), Some(actual)) = (desired, actual) else { return Vec::new() };
    // An agent may refuse checks that run commands; the daemon then leaves them out.
    if actual.matches(&desired.without_commands()) {
        return Vec::new();
    }
    actual.differences(desired).collect()
}

impl Row<'_> {
    fn service(&self) -> &str {
        let desired = self.desired.map(|one| &one.registration.name);
        desired.or(self.actual.map(|one| &one.service.name)).map_or("", String::as_str)
    }

    /// Returns the worst state of its checks, as the agent has them.
    fn health(&self) -> Option<&'static str> {
        let worst = self.actual?.checks.values().map(|check| check.status).max();
        Some(worst.unwrap_or(consul::Status::Passing).as_str())
    }

    fn cells(&self) -> [String; 6] {
        let desired = self.desired.map(|one| &one.registration);
        let desired = desired.map(|one| place(&one.address, one.port, &one.tags));
        let actual = self.actual.map(|one| &one.service);
        let actual = actual.map(|one| place(&one.address, one.port, &one.tags));
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let state = if self.differences.is_empty() {
            self.state.to_owned()
        } else {
            format!("{}: {}", self.state, self.differences.join(", "))
        };
        let health = or_dash(self.health().map(str::to_owned));
        let (desired, actual) = (or_dash(desired), or_dash(actual));
        [self.service().to_owned(), self.id.to_owned(), desired, actual, health, state]
    }
}

fn place(address: &str, port: u16, tags: &[String]) -> String {
    let tags = if tags.is_empty() { String::new() } else { format!(" [{}]", tags.join(",")) };
    // As it is written in URLs, so that the port can be told from the address.
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("{address}:{port}{tags}")
}

/// Returns a registration as it may be shown: headers, bodies and commands of checks may hold passwords.
pub(crate) fn shown(registration: &Registration) -> Registration {
    let mut shown = registration.clone();
    for check in &mut shown.checks {
        let body = (!check.body.is_empty()).then_some(&mut check.body);
        let headers = check.header.values_mut().flatten();
        // The program may be seen, as long as it is no line of a shell's.
        for secret in headers.chain(check.args.iter_mut().skip(1)).chain(body) {
            HIDDEN.clone_into(secret);
        }
    }
    shown
}

/// Returns the rows for programs.
pub(crate) fn json(rows: &[Row<'_>]) -> Value {
    rows.iter()
        .map(|row| {
            let desired = row.desired.map(|one| {
                let told = shown(&one.registration);
                json!({"address": told.address, "port": told.port, "tags": told.tags,
                       "meta": told.meta, "weights": told.weights, "checks": told.checks,
                       "maintenance": one.maintenance})
            });
            let actual = row.actual.map(|one| {
                let checks = one.checks.iter().map(|(id, check)| {
                    (id.clone(), json!({"status": check.status, "output": check.output}))
                });
                let is = &one.service;
                json!({"address": is.address, "port": is.port, "tags": is.tags,
                       "meta": is.meta, "weights": is.weights,
                       "checks": checks.collect::<serde_json::Map<_, _>>(),
                       "maintenance": one.maintenance})
            });
            json!({"id": row.id, "service": row.service(), "desired": desired, "actual": actual,
                   "health": row.health(), "state": row.state, "differences": row.differences})
        })
        .collect()
}

/// Returns the rows for people, in columns.
pub(crate) fn table(rows: &[Row<'_>]) -> String {
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths = std::array::from_fn::<_, 6, _>(|column| width(column).unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{HOST, instance};

    fn desired(ids: &[&str]) -> BTreeMap<String, Arc<Desired>> {
        ids.iter().map(|id| ((*id).to_owned(), Arc::new(instance(id)))).collect()
    }

    #[test]
    fn every_line_tells_what_is_wanted_what_is_and_in_what_they_differ() {
        let desired = desired(&["node1:a:80", "node1:b:80", "node1:c:80"]);
        let mut actual: BTreeMap<_, _> =
            desired.iter().map(|(id, one)| (id.clone(), Actual::of(one))).collect();
        actual.remove("node1:b:80");
        let changed = actual.get_mut("node1:c:80").unwrap();
        changed.service.port = 81;
        changed.service.tags = vec!["x".into()];
        actual.insert("node1:d:80".into(), Actual::of(&instance("node1:d:80")));
        let table = table(&rows(&desired, &actual, HOST));
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(
            lines,
            [
                vec!["SERVICE", "ID", "DESIRED", "ACTUAL", "HEALTH", "STATE"],
                vec!["web", "node1:a:80", "10.0.0.1:80", "10.0.0.1:80", "passing", "registered"],
                vec!["web", "node1:b:80", "10.0.0.1:80", "-", "-", "missing"],
                vec![
                    "web",
                    "node1:c:80",
                    "10.0.0.1:80",
                    "10.0.0.1:81 [x]",
                    "passing",
                    "differs: address, tags"
                ],
                vec!["web", "node1:d:80", "-", "10.0.0.1:80", "passing", "dangling"],
            ]
        );
    }

    #[test]
    fn what_may_be_secret_in_a_check_is_not_shown() {
        let mut one = instance("node1:a:80").registration;
        one.checks.push(consul::CheckDefinition {
            header: [("Authorization".to_owned(), vec!["Bearer s3cret".to_owned()])].into(),
            body: "s3cret".into(),
            args: ["/bin/sh", "-c", "curl -u me:s3cret h"].map(Into::into).into(),
            ..Default::default()
        });
        let text = json!(shown(&one)).to_string();
        assert!(!text.contains("s3cret") && text.contains("Authorization"), "{text}");
        assert!(text.contains("/bin/sh"), "{text}");
    }

    #[test]
    fn a_check_that_the_agent_may_not_run_is_no_difference() {
        let mut with = instance("node1:a:80");
        with.registration.checks.push(consul::CheckDefinition {
            id: "script".into(),
            args: vec!["true".into()],
            ..Default::default()
        });
        with.seal();
        let actual =
            BTreeMap::from([("node1:a:80".to_owned(), Actual::of(&instance("node1:a:80")))]);
        let desired = BTreeMap::from([("node1:a:80".to_owned(), Arc::new(with))]);
        assert_eq!(rows(&desired, &actual, HOST)[0].state, "registered");
    }
}
