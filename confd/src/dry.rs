//! Dry runs: what a resource would be, and what would be done about it.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::{Args, USAGE};
use crate::dependency::Dependency;
use crate::metrics::Metrics;
use crate::resource::{self, Action, Resource};
use crate::show::Colour;
use crate::snapshot::Data;
use crate::state::State;
use crate::template::{Outcome, Templates};
use crate::watch::Watches;
use crate::{disk, haproxy, show};

/// What a rendering shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show {
    /// What would change, instead of the text.
    pub(crate) diff: bool,
    /// For programs.
    pub(crate) json: bool,
}

/// Reads all resources and templates, renders them with made-up data, and tells which are wrong.
pub(crate) fn check(args: &Args, json: bool) -> ExitCode {
    let (resources, errors) = resource::load(&args.confdir);
    let wrong = |error| Some(format!("{:#}", anyhow::Error::from(error)));
    let mut verdicts: Vec<(Option<String>, Option<String>)> = Vec::new();
    for resource in &resources {
        let rehearsed = Templates::load(&args.confdir, resource).and_then(|t| t.rehearse());
        let problem = rehearsed.err().map(anyhow::Error::from).map(|error| format!("{error:#}"));
        verdicts.push((Some(resource.name.clone()), problem));
    }
    verdicts.extend(errors.into_iter().map(|error| (error.resource(), wrong(error))));
    for (name, problem) in verdicts.iter().filter(|_| !json) {
        let name = name.as_deref().unwrap_or("confd");
        match problem {
            None => println!("{name}: {}", show::paint(Colour::Green, "good")),
            Some(problem) => eprintln!("{name}: {problem}"),
        }
    }
    let all_good = verdicts.iter().all(|(_, problem)| problem.is_none());
    if json {
        let verdicts = verdicts.into_iter().map(|(resource, problem)| {
            json!({ "resource": resource, "good": problem.is_none(), "problem": problem })
        });
        println!("{}", verdicts.collect::<Value>());
    }
    if all_good { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}

/// Renders the resource `name` and prints the text, or what would change.
pub(crate) async fn render(
    args: &Args,
    name: &str,
    show: Show,
    token: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let client = match args.client() {
        Ok(client) => client,
        Err(code) => return Ok(code),
    };
    let (resources, errors) = resource::load(&args.confdir);
    let one_of = |r: &Resource| {
        r.for_each.is_some() && resource::parts(name).is_some_and(|(of, _)| of == r.name)
    };
    let found = resources.iter().find(|r| r.name == name);
    let Some(resource) = found.or_else(|| resources.iter().find(|r| one_of(r))) else {
        for error in errors {
            eprintln!("confd: {:#}", anyhow::Error::from(error));
        }
        eprintln!("confd: there is no resource {name}");
        return Ok(ExitCode::from(USAGE));
    };
    if let Err(error) = Templates::load(&args.confdir, resource) {
        eprintln!("confd: {:#}", anyhow::Error::from(error));
        return Ok(ExitCode::from(USAGE));
    }
    let metrics = Metrics::new(&mut Registry::default());
    let watches = Watches::new(client, metrics);
    watches.follow_docker(&args.docker, &args.derive);
    let stop = token.child_token();
    let watching = tokio::spawn(Arc::clone(&watches).run(stop.clone()));
    let limit = args.once_timeout.0;
    let rendering = async {
        let mut texts = Vec::new();
        for resource in meant(&watches, resource, name).await? {
            let templates = Templates::load(&args.confdir, &resource)?;
            texts.push((answered(&watches, &templates, &resource.name).await?, resource));
        }
        anyhow::Ok(texts)
    };
    let texts = tokio::select! {
        () = token.cancelled() => return Ok(ExitCode::FAILURE),
        texts = tokio::time::timeout(limit, rendering) => {
            texts.context("the source did not answer in time")??
        }
    };
    stop.cancel();
    watching.await?;
    let mut documents = Vec::new();
    for (text, own) in texts {
        if show.json {
            let (resource, dest) = (&own.name, &own.dest);
            documents.push(if show.diff {
                Change::of(args, &own, &text)?.document(&own)
            } else {
                json!({ "resource": resource, "dest": dest, "text": text })
            });
            continue;
        }
        if own.name != name {
            eprintln!("{}: {}", own.name, own.dest.display());
        }
        if show.diff {
            Change::of(args, &own, &text)?.print();
        } else {
            print!("{text}");
        }
    }
    if show.json {
        println!("{}", Value::from(documents));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the resource, or those that it stands for: the one called `name`, or all.
async fn meant(
    watches: &Watches,
    resource: &Resource,
    name: &str,
) -> anyhow::Result<Vec<Resource>> {
    if resource.for_each.is_none() {
        return Ok(vec![resource.clone()]);
    }
    watches.want(&resource.name, BTreeSet::from([Dependency::Ambassadors]));
    let mut snapshot = watches.snapshot();
    let snapshot = snapshot.wait_for(|all| all.get(&Dependency::Ambassadors).is_some()).await?;
    let ambassadors = match snapshot.get(&Dependency::Ambassadors).map(|entry| &entry.data) {
        Some(Data::Ambassadors(ambassadors)) => ambassadors.as_slice(),
        _ => &[],
    };
    let all = ambassadors.iter().map(|ambassador| resource.of(ambassador));
    let mut all = all.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)?;
    if name != resource.name {
        all.retain(|own| own.name == name);
    }
    anyhow::ensure!(!all.is_empty(), "this node has no ambassador for {name}");
    Ok(all)
}

/// Renders until everything that the template asks has an answer.
async fn answered(watches: &Watches, templates: &Templates, name: &str) -> anyhow::Result<String> {
    let mut snapshot = watches.snapshot();
    loop {
        let now = snapshot.borrow_and_update().clone();
        let rendering = templates.render(now, SystemTime::now())?;
        match rendering.outcome {
            Outcome::Rendered(text) => return Ok(text),
            Outcome::NotReady(why) => anyhow::bail!("not ready: {why}"),
            Outcome::Pending(_) => watches.want(name, rendering.asked),
        }
        snapshot.changed().await?;
    }
}

/// What would change.
struct Change {
    difference: String,
    /// What would be done about it, in words.
    steps: Vec<String>,
    /// Whether that is a reload.
    reload: bool,
}

impl Change {
    fn of(args: &Args, resource: &Resource, text: &str) -> anyhow::Result<Self> {
        let old = disk::read(&resource.dest)?.unwrap_or_default();
        let dest = resource.dest.display().to_string();
        let difference = show::difference(&old, text, &dest, "rendered");
        let accepted = State::peek(&args.state_dir, &resource.name)?;
        let (steps, reload) = if resource.actions().contains(&Action::HaProxy) {
            match &accepted {
                Some(accepted) => {
                    let plan = haproxy::diff(accepted, text);
                    (haproxy::describe(&plan), matches!(plan, haproxy::Plan::Reload(_)))
                }
                None => (vec!["reload: nothing was accepted yet".to_owned()], true),
            }
        } else if accepted.as_deref() != Some(text) && !resource.actions().is_empty() {
            (vec!["reload".to_owned()], true)
        } else {
            (Vec::new(), false)
        };
        Ok(Self { difference, steps, reload })
    }

    fn print(&self) {
        print!("{}", show::in_colours(&self.difference));
        let colour = if self.reload { Colour::Yellow } else { Colour::Cyan };
        for step in &self.steps {
            println!("{}", show::paint(colour, step));
        }
    }

    fn document(&self, resource: &Resource) -> Value {
        json!({
            "resource": resource.name, "dest": resource.dest, "diff": self.difference,
            "changed": !self.difference.is_empty(), "reload": self.reload, "steps": self.steps,
        })
    }
}
