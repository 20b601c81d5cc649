//! Fifty thousand instances in Consul: what one confd that serves them all weighs, and how soon it follows a change.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use consul::{Client, Config, TxnOp, TxnResult};
use serde_json::json;
use testbed::consul::Consul;

use super::node::Node;
use crate::table::{memory, processor_time, row};

/// Services.
const SERVICES: usize = 10;
/// Instances of each.
const INSTANCES: usize = 5000;
/// Nodes in the catalog.
const NODES: usize = 1000;
/// Operations in one transaction; Consul takes 64.
const BATCH: usize = 64;
/// Changes that are measured one by one.
const CHANGES: usize = 20;
/// Changes a second, and for how many seconds, when the answers are counted.
const CHURN: (u32, u32) = (50, 10);
/// How long the first text, or a change, may take.
const LIMIT: Duration = Duration::from_mins(3);

const TEMPLATE: &str = "defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
backend web
{% for s in range(end=10) %}
{% set name = \"s\" ~ s %}
backend {{ name }}
    balance roundrobin
{% for i in service(name=name) %}    server {{ i.id | haproxy_name }} {{ i | sockaddr }}
{% endfor %}
{% endfor %}";

/// Measures, and prints a table.
pub(super) async fn table(confd: &Path) -> Result<()> {
    let consul = Consul::start()?;
    let client = Client::new(&Config::from_uri(&consul.url())?)?;
    load(&client).await?;
    let started = Instant::now();
    let node = Node::with(confd, consul, TEMPLATE).await?;
    while !shows(&node, SERVICES - 1, &address(NODES - 1)) {
        ensure!(started.elapsed() < LIMIT, "nothing is served within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = started.elapsed();
    // The first generation is written, and what was needed for it given back.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (resident, highest) = (memory(node.pid()?, "VmRSS")?, memory(node.pid()?, "VmHWM")?);
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let (index, port) =
            (change * 7919 % (SERVICES * INSTANCES), u16::try_from(20_000 + change)?);
        let started = Instant::now();
        write(&client, &[entry(index, port)]).await?;
        while !shows(&node, index % SERVICES, &format!(" {port} ")) {
            ensure!(started.elapsed() < LIMIT, "a change is not served within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("\n### {SERVICES} services of {INSTANCES} instances, all served by one HAProxy\n");
    println!("| | n | p50 ms | p90 ms | p99 ms | worst ms |\n|---|---|---|---|---|---|");
    row("change in Consul → served", times);
    let answers = node.metric("confd_answers_total").await?;
    let (before, started) = (processor_time(node.pid()?)?, Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHURN.0);
    for change in 0..CHURN.0 * CHURN.1 {
        ticks.tick().await;
        let (index, port) = (usize::try_from(change)? * 7919, u16::try_from(30_000 + change)?);
        write(&client, &[entry(index % (SERVICES * INSTANCES), port)]).await?;
    }
    let took = started.elapsed().as_secs_f64();
    let answers = (node.metric("confd_answers_total").await? - answers) / took;
    let used = processor_time(node.pid()?)?.saturating_sub(before).as_secs_f64() / took;
    println!("\n| | |\n|---|---|");
    println!("| start of confd to everything served | {:.1} s |", first.as_secs_f64());
    println!(
        "| resident memory | {resident:.0} MiB |\n| … at its highest until then | {highest:.0} MiB |"
    );
    println!(
        "| … after all changes, and at its highest | {:.0} MiB, {:.0} MiB |",
        memory(node.pid()?, "VmRSS")?,
        memory(node.pid()?, "VmHWM")?
    );
    println!("| answers a second taken in at {} changes a second | {answers:.1} |", CHURN.0);
    println!("| processor meanwhile | {:.0} % of a core |", used * 100.0);
    Ok(())
}

fn shows(node: &Node, service: usize, what: &str) -> bool {
    let state = node.haproxy(&format!("show servers state s{service}"));
    state.is_ok_and(|state| state.contains(what))
}

async fn load(client: &Client) -> Result<()> {
    let nodes = (0..NODES).map(|node| {
        TxnOp::Other(json!({"Node": {"Verb": "set", "Node": {"Node": format!("sim{node}"), "Address": address(node)}}}))
    });
    let all: Vec<TxnOp> =
        nodes.chain((0..SERVICES * INSTANCES).map(|index| entry(index, 80))).collect();
    for batch in all.chunks(BATCH) {
        write(client, batch).await?;
    }
    Ok(())
}

async fn write(client: &Client, operations: &[TxnOp]) -> Result<()> {
    match client.txn(operations).await? {
        TxnResult::Done(_) => Ok(()),
        TxnResult::Refused(why) => anyhow::bail!("Consul refused the entries: {why:?}"),
    }
}

/// Returns the writing of an instance: the service and the node follow from its number.
fn entry(index: usize, port: u16) -> TxnOp {
    let node = index / SERVICES % NODES;
    TxnOp::Other(json!({"Service": {"Verb": "set", "Node": format!("sim{node}"), "Service": {
        "ID": format!("i{index}"), "Service": format!("s{}", index % SERVICES),
        "Address": address(node), "Port": port, "Tags": ["http"],
        "Meta": {"managed-by": "registrator", "container": format!("{index:012x}"), "image": "example:1"},
    }}}))
}

fn address(node: usize) -> String {
    format!("10.64.{}.{}", node / 256, node % 256)
}
