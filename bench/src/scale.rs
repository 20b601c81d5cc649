//! One Consul server with the entries of a large cluster and a hundred confd: what churn they take together.
//!
//! Nodes and instances are entries in the catalog without agents behind them; Consul and confd are real.

mod plot;
mod reads;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use world::{Usage, World};

/// How long each churn is kept up.
const LENGTH: Duration = Duration::from_secs(15);
/// A change that nobody has rendered after this time is counted as late.
const LATE: Duration = Duration::from_secs(10);
/// Changes per second, from a quiet cluster to where this machine ends.
const CHURN: [u32; 7] = [1, 5, 10, 20, 50, 100, 200];

/// How many entries there are, and who watches them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// Nodes in the catalog.
    pub(crate) nodes: usize,
    /// Services; each confd watches one.
    pub(crate) services: usize,
    /// Instances of each service.
    pub(crate) instances: usize,
    /// Running confd.
    pub(crate) watchers: usize,
    /// Whether each confd watches the list of services, too, as the stock template does.
    pub(crate) list: bool,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) churn: u32,
    pub(crate) done: u32,
    pub(crate) median: Duration,
    pub(crate) worst: Duration,
    pub(crate) late: usize,
    pub(crate) consul: Usage,
    pub(crate) confd: Usage,
    /// Consul's memory and that of the largest confd, in MiB.
    pub(crate) memory: (u64, u64),
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "100 services of 500, one watched by each",
        nodes: 1000,
        services: 100,
        instances: 500,
        watchers: 100,
        list: false,
    },
    Shape {
        name: "the same, and the list of services",
        nodes: 1000,
        services: 100,
        instances: 500,
        watchers: 100,
        list: true,
    },
    Shape {
        name: "10 services of 5,000, one watched by each",
        nodes: 1000,
        services: 10,
        instances: 5000,
        watchers: 100,
        list: false,
    },
];

/// Measures every shape, prints the tables and draws them into `folder`.
pub(crate) async fn tables(confd: &Path, folder: &Path) -> Result<()> {
    let mut results = Vec::new();
    for shape in SHAPES {
        let started = Instant::now();
        let world = Arc::new(World::start(shape, confd).await?);
        println!("\n## {} ({} nodes, {} confd)\n", shape.name, shape.nodes, shape.watchers);
        println!(
            "{} instances loaded in {:.1} s; every confd had its file after {:.1} s more. Consul {} MiB, a confd {} MiB.\n",
            shape.services * shape.instances,
            world.loaded.as_secs_f64(),
            started.elapsed().saturating_sub(world.loaded).as_secs_f64(),
            world.consul_memory()?,
            world.confd_memory()?,
        );
        println!(
            "| changes/s wanted | done | change → all files p50 | worst | late | Consul CPU % | all confd CPU % | Consul MiB | a confd MiB |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        let mut rows = Vec::new();
        for churn in CHURN {
            let row = measure(&world, churn).await?;
            println!(
                "| {} | {} | {} ms | {} ms | {} | {} | {} | {} | {} |",
                row.churn,
                row.done,
                row.median.as_millis(),
                row.worst.as_millis(),
                row.late,
                row.consul.percent,
                row.confd.percent,
                row.memory.0,
                row.memory.1
            );
            let broken = row.late > 0 || row.done < churn * 9 / 10;
            rows.push(row);
            if broken {
                break;
            }
        }
        results.push((shape, rows));
    }
    plot::draw(&results, folder)?;
    reads::table().await
}

/// Measures the ways to ask alone.
pub(crate) async fn reads() -> Result<()> {
    reads::table().await
}

/// Changes random instances `churn` times a second, and notes when a watcher's file shows each.
async fn measure(world: &Arc<World>, churn: u32) -> Result<Row> {
    let before = world.usage()?;
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / churn);
    let mut seen = JoinSet::new();
    let mut done = 0_u32;
    while started.elapsed() < LENGTH {
        ticks.tick().await;
        done += 1;
        let world = Arc::clone(world);
        // A Consul that no longer takes changes is what is looked for, no reason to stop.
        seen.spawn(async move { world.change().await.ok()?.rendered(LATE).await });
    }
    let took = started.elapsed();
    let (consul, confd) = world.usage()?.since(before, took);
    let answers = seen.join_all().await;
    let late = answers.iter().filter(|answer| answer.is_none()).count();
    let mut times: Vec<Duration> = answers.into_iter().flatten().collect();
    times.sort();
    let at = |index: usize| times.get(index).copied().unwrap_or(LATE);
    Ok(Row {
        churn,
        done: done / u32::try_from(LENGTH.as_secs())?,
        median: at(times.len() / 2),
        worst: at(times.len().saturating_sub(1)),
        late,
        consul,
        confd,
        memory: (world.consul_memory()?, world.confd_memory()?),
    })
}
