//! Measures the running stack and prints Markdown tables. Started by `bench/run`.

mod memory;
mod propagation;
mod rates;

use anyhow::Result;

#[tokio::main]
async fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
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
