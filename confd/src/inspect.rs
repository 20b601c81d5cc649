//! The commands that look at generations, and those that talk to the daemon.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::cli::Args;
use crate::control::{self, Order, Request};
use crate::show::{self, Colour};
use crate::state::{Generation, State};

/// Lists the generations that are kept, the newest first.
pub(crate) fn history(args: &Args, resource: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let (name, state) = state(args, resource)?;
    let mut rows = Vec::new();
    let mut before: Option<Generation> = None;
    for number in state.numbers()? {
        let Some(generation) = state.generation(number)? else { continue };
        let old = before.as_ref().map_or("", |before| before.text.as_str());
        let (removed, added) = show::counts(old, &generation.text);
        rows.push(json!({
            "resource": name, "generation": number, "at": generation.at, "digest": generation.digest,
            "added": added, "removed": removed,
        }));
        before = Some(generation);
    }
    rows.reverse();
    if json {
        println!("{}", Value::from(rows));
        return Ok(ExitCode::SUCCESS);
    }
    let head =
        format!("{:>10}  {:>12}  {:>7}  {:>7}  text", "generation", "age", "added", "removed");
    println!("{}", show::paint(Colour::Bold, &head));
    for row in rows {
        let at = UNIX_EPOCH + Duration::from_secs(row["at"].as_u64().unwrap_or_default());
        let age = show::age(at.elapsed().unwrap_or_default());
        let digest: String = row["digest"].as_str().unwrap_or_default().chars().take(12).collect();
        // Padded before they are painted: a colour has no width.
        let count = |key: &str, colour| match row[key].as_u64().unwrap_or_default() {
            0 => format!("{:>7}", 0),
            some => show::paint(colour, &format!("{some:>7}")),
        };
        let (added, removed) = (count("added", Colour::Green), count("removed", Colour::Red));
        let number = row["generation"].to_string();
        println!("{number:>10}  {age:>12}  {added}  {removed}  {digest}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the difference between two generations.
pub(crate) fn diff(
    args: &Args,
    resource: Option<&str>,
    (old, new): (u64, u64),
    json: bool,
) -> anyhow::Result<ExitCode> {
    let (resource, state) = state(args, resource)?;
    let get = |number: u64| {
        state.generation(number)?.with_context(|| format!("generation {number} is not kept"))
    };
    let (a, b) = (get(old)?, get(new)?);
    let name = |generation: &Generation| format!("generation {}", generation.number);
    let difference = show::difference(&a.text, &b.text, &name(&a), &name(&b));
    if json {
        let (removed, added) = show::counts(&a.text, &b.text);
        println!(
            "{}",
            json!({
                "resource": resource, "from": old, "to": new,
                "added": added, "removed": removed, "diff": difference,
            })
        );
    } else {
        print!("{}", show::in_colours(&difference));
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives the daemon an order, and prints what it answers.
pub(crate) async fn order(
    args: &Args,
    resource: Option<&str>,
    order: Order,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut resource = resource.map(ToOwned::to_owned);
    if matches!(order, Order::Rollback { .. }) {
        // A number means something for one resource only.
        resource = Some(state(args, resource.as_deref())?.0);
    }
    let request = Request { resource: resource.clone(), order };
    let answers = control::ask(&args.state_dir, &request).await?;
    if let (Some(resource), true) = (resource, answers.is_empty()) {
        bail!("the daemon has no resource {resource}");
    }
    let failed = answers.values().any(Result::is_err);
    if json {
        println!("{}", serde_json::to_string_pretty(&answers)?);
    } else {
        for (name, answer) in &answers {
            match answer {
                Ok(Value::String(text)) => println!("{name}: {text}"),
                Ok(status) => show_status(name, status),
                Err(why) => eprintln!("{name}: {why}"),
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show_status(name: &str, status: &Value) {
    let text = |key: &str| match &status[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    println!("{name}: {}", show::phase(&text("phase")));
    for (label, key) in [
        ("why", "why"),
        ("file", "dest"),
        ("generation", "generation"),
        ("pinned to", "pinned"),
        ("left out", "left_out"),
        ("coming and going", "damped"),
        ("questions", "questions"),
        ("data age (s)", "data_age_seconds"),
    ] {
        let is_nothing = status[key].as_array().is_some_and(Vec::is_empty);
        if !status[key].is_null() && !is_nothing {
            println!("  {label:<16} {}", text(key));
        }
    }
    for hold in status["held"].as_array().into_iter().flatten() {
        let count = hold["held"].as_array().map_or(0, Vec::len);
        println!(
            "  {:<16} {}: {count} for {} s, because {}",
            "held",
            hold["question"].as_str().unwrap_or_default(),
            hold["seconds"],
            hold["because"].as_str().unwrap_or_default()
        );
    }
}

/// Finds the state of the resource that is meant: the only one, if none is named.
fn state(args: &Args, resource: Option<&str>) -> anyhow::Result<(String, State)> {
    let known = State::names(&args.state_dir)
        .with_context(|| format!("cannot read {}", args.state_dir.display()))?;
    let name = match (resource, known.as_slice()) {
        (Some(name), known) if known.iter().any(|k| k == name) => name.to_owned(),
        (Some(name), _) => bail!("nothing is known of a resource {name}"),
        (None, [only]) => only.clone(),
        (None, []) => bail!("nothing was accepted yet"),
        (None, known) => bail!("name one with --resource: {}", known.join(", ")),
    };
    let state = State::open(&args.state_dir, &name);
    Ok((name, state))
}
