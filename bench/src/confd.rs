//! How fast confd is, and what it weighs: a Consul and an HAProxy of its own, nothing else of the stack.

mod large;
mod node;
mod render;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::table::{load, machine, memory, ms, processor_time, row};
use node::Node;

/// Changes that are measured through the runtime socket.
const CHANGES: usize = 100;
/// Changes that are measured with a reload each: enough for a median.
const RELOADS: usize = 20;
/// Containers that are started.
const STARTS: usize = 30;
/// Instances when memory and idling are measured.
const INSTANCES: usize = 200;
/// How long nothing happens while the processor's time is measured.
const IDLE: Duration = Duration::from_secs(30);

/// Measures everything and prints tables; the paths are those of the two daemons.
pub(crate) async fn tables(confd: &Path, registrator: &Path) -> Result<()> {
    println!("\n## confd\n\n{}\n", machine()?);
    println!("| | n | p50 ms | p90 ms | p99 ms | worst ms |\n|---|---|---|---|---|---|");
    let mut node = Node::start(confd, "roundrobin").await?;
    row("registration sent → served, by the runtime socket", node.changes(CHANGES).await?);
    let (reloads, avoided) = (
        node.metric("confd_reloads_total").await?,
        node.metric("confd_reloads_avoided_total").await?,
    );
    let mut other = Node::start(confd, "static-rr").await?;
    row("the same where each change needs a checked reload", other.changes(RELOADS).await?);
    drop(other);
    row("Docker's start event → served", node.containers(registrator, STARTS).await?);
    for servers in [100, 1000, 5000] {
        row(&format!("a rendering of {servers} servers"), render::times(servers)?);
    }
    node.fill(INSTANCES).await?;
    println!("\n| | |\n|---|---|");
    println!(
        "| reloads in {CHANGES} registrations and as many removals | {reloads}, {avoided} avoided |"
    );
    println!(
        "| resident memory with {INSTANCES} instances | {:.1} MiB |",
        memory(node.pid()?, "VmRSS")?
    );
    println!("| … at its highest | {:.1} MiB |", memory(node.pid()?, "VmHWM")?);
    let (before, started) = (processor_time(node.pid()?)?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let used = processor_time(node.pid()?)?.saturating_sub(before);
    println!(
        "| processor time in {} idle seconds | {} ms |",
        started.elapsed().as_secs(),
        ms(used)
    );
    drop(node);
    large::table(confd).await?;
    println!("\n{}", load()?);
    Ok(())
}

/// Measures only what fifty thousand instances cost.
pub(crate) async fn large(confd: &Path) -> Result<()> {
    large::table(confd).await
}
