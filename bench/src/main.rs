//! Measures the running stack and prints Markdown tables. Started by `bench/run`.

mod confd;
mod memory;
mod propagation;
mod rates;
mod registrator;
mod scale;
mod table;

use anyhow::Result;

#[tokio::main]
async fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    // Minutes long, and not about the stack: only when asked for.
    if let [only, confd, folder] = &wanted[..]
        && only == "scale"
    {
        return scale::tables(confd.as_ref(), folder.as_ref()).await;
    }
    if let [only, part] = &wanted[..]
        && (only.as_str(), part.as_str()) == ("scale", "reads")
    {
        return scale::reads().await;
    }
    // Neither: on an engine of its own.
    if let [only, registrator] = &wanted[..]
        && only == "registrator"
    {
        return registrator::table(registrator.as_ref()).await;
    }
    if let [only, part, confd] = &wanted[..]
        && (only.as_str(), part.as_str()) == ("confd", "large")
    {
        return confd::large(confd.as_ref()).await;
    }
    // Nor this: Consul, HAProxy and engines of its own.
    if let [only, confd, registrator] = &wanted[..]
        && only == "confd"
    {
        return confd::tables(confd.as_ref(), registrator.as_ref()).await;
    }
    if runs("propagation") {
        propagation::single_starts().await?;
        propagation::burst().await?;
        propagation::reloads().await?;
    }
    if runs("memory") {
        memory::table().await?;
    }
    if runs("rates") {
        rates::table().await?;
    }
    Ok(())
}
