//! How long a rendering takes, of the stock template and of many servers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use confd::dependency::{Dependency, Service};
use confd::instance::Instance;
use confd::resource;
use confd::snapshot::{Data, Snapshot};
use confd::template::{Outcome, Templates};

/// Renderings that are measured.
const TIMES: usize = 20;

/// Returns how long renderings of so many servers took. Each has one server that the one before had not: what templates
/// see of it has to be made anew, as after a change.
pub(super) fn times(servers: usize) -> Result<Vec<Duration>> {
    let stock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
    let folder = tempfile::tempdir()?;
    for part in ["conf.d", "templates"] {
        fs::create_dir(folder.path().join(part))?;
    }
    for part in ["conf.d/haproxy.toml", "templates/haproxy.cfg.tera"] {
        fs::copy(stock.join(part), folder.path().join(part))?;
    }
    let (resources, _) = resource::load(folder.path());
    let resource = resources.first().context("there is one")?;
    let templates = Templates::load(folder.path(), resource)?;
    let mut times = Vec::new();
    for round in 0..TIMES {
        // The answers are no part of a rendering; which ones it needs, it says itself.
        let mut snapshot = Snapshot::default();
        loop {
            let started = Instant::now();
            let rendering = templates.render(snapshot.clone(), SystemTime::now())?;
            match rendering.outcome {
                Outcome::Rendered(text) => {
                    times.push(started.elapsed());
                    let lines =
                        text.lines().filter(|line| line.trim_start().starts_with("server node"));
                    anyhow::ensure!(lines.count() == servers, "not {servers} servers");
                    break;
                }
                Outcome::Pending(missing) => answer(&mut snapshot, missing, servers, round)?,
                Outcome::NotReady(why) => bail!(why),
            }
        }
    }
    Ok(times)
}

fn answer(
    snapshot: &mut Snapshot,
    missing: BTreeSet<Dependency>,
    servers: usize,
    round: usize,
) -> Result<()> {
    for question in missing {
        let data = match &question {
            Dependency::Services { .. } => {
                Data::Services([("web".to_owned(), ["http".to_owned()].into())].into())
            }
            Dependency::Service(Service { name, .. }) if name == "web" => {
                Data::Instances((round..round + servers).map(instance).collect::<Result<Vec<_>>>()?)
            }
            Dependency::Service(_) => Data::Instances(Vec::new()),
            Dependency::Prefix { .. } => Data::Keys([].into()),
            Dependency::Key { .. } => Data::Key(None),
            other => bail!("the stock template asks for {other}"),
        };
        snapshot.update(&Arc::new(question), data, None, SystemTime::now());
    }
    Ok(())
}

fn instance(number: usize) -> Result<Arc<Instance>> {
    let node = format!("node{}", number % 100);
    Ok(Arc::new(Instance {
        // As registrator calls them.
        id: format!("{node}:web{number:05}:80"),
        name: "web".into(),
        node,
        address: format!("10.0.{}.{}", number / 250, number % 250 + 1),
        port: u16::try_from(1000 + number)?,
        tags: vec!["http".into()],
        meta: [("container-port".to_owned(), "80".to_owned())].into_iter().collect(),
        weight: 1,
        status: "passing".into(),
        datacenter: "dc1".into(),
        ..Instance::default()
    }))
}
