//! What the parts weigh: resident memory of their processes, and the sizes of their images.

use anyhow::{Context, Result};
use tests::compose;

/// Prints the memory of each part's processes and the size of its image.
pub(crate) async fn table() -> Result<()> {
    println!(
        "\n## Memory and images\n\n| part | RSS, all processes (MiB) | image (MB) |\n|---|---|---|"
    );
    for part in ["consul", "registrator", "confd", "ambassador", "rng", "worker", "webui", "redis"]
    {
        let container = compose::containers(part).await?.into_iter().next();
        let container = container.with_context(|| format!("no {part} runs"))?;
        let top = compose::docker(&["top", &container.id, "-o", "pid,rss"]).await?;
        let kibibytes: u64 = top
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        let format = "{{.Config.Image}}";
        let image = compose::docker(&["inspect", "--format", format, &container.id]).await?;
        let size =
            compose::docker(&["image", "inspect", "--format", "{{.Size}}", image.trim()]).await?;
        let megabytes = size.trim().parse::<u64>()? / 1_000_000;
        println!(
            "| {part} | {}.{} | {megabytes} |",
            kibibytes / 1024,
            kibibytes % 1024 * 10 / 1024
        );
    }
    Ok(())
}
