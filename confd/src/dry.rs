//! Dry runs: what a resource would be, and what would be done about it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::cli::Args;
use crate::metrics::Metrics;
use crate::resource::{self, Action, Resource};
use crate::state::State;
use crate::template::{Outcome, Templates};
use crate::watch::Watches;
use crate::{disk, haproxy, run, show};

/// Renders the resource `name` and prints the text, or with `diff` what would change.
pub(crate) async fn render(
    args: &Args,
    name: &str,
    diff: bool,
    token: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let client = match run::client(args) {
        Ok(client) => client,
        Err(code) => return Ok(code),
    };
    let (resources, errors) = resource::load(&args.confdir);
    let Some(resource) = resources.iter().find(|resource| resource.name == name) else {
        for error in errors {
            eprintln!("confd: {:#}", anyhow::Error::from(error));
        }
        eprintln!("confd: there is no resource {name}");
        return Ok(ExitCode::from(2));
    };
    let templates = Templates::load(&args.confdir, resource)?;
    let metrics = Metrics::new(&mut Registry::default());
    let watches = Watches::new(client, metrics);
    let stop = token.child_token();
    let watching = tokio::spawn(Arc::clone(&watches).run(stop.clone()));
    let limit = args.once_timeout.0;
    let text = tokio::select! {
        () = token.cancelled() => return Ok(ExitCode::FAILURE),
        text = tokio::time::timeout(limit, answered(&watches, &templates, name)) => {
            text.context("the source did not answer in time")??
        }
    };
    stop.cancel();
    watching.await?;
    if diff {
        show_change(args, resource, &text)?;
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
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

fn show_change(args: &Args, resource: &Resource, text: &str) -> anyhow::Result<()> {
    let old = disk::read(&resource.dest)?.unwrap_or_default();
    print!("{}", show::difference(&old, text, &resource.dest.display().to_string(), "rendered"));
    let accepted = State::peek(&args.state_dir, &resource.name)?;
    if resource.actions().contains(&Action::HaProxy) {
        let plan = match &accepted {
            Some(accepted) => haproxy::describe(&haproxy::diff(accepted, text)),
            None => vec!["reload: nothing was accepted yet".to_owned()],
        };
        for step in plan {
            println!("{step}");
        }
    } else if accepted.as_deref() != Some(text) && !resource.actions().is_empty() {
        println!("reload");
    }
    Ok(())
}
