//! DockerCoins as its web page and its workers' logs show it: the rate, the errors, the wallet.

use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{compose, http};

/// The web interface as published on this host.
pub const WEBUI: &str = "http://127.0.0.1:8000";

/// Before a rate is measured, queues settle for this long.
pub const WARM_UP: Duration = Duration::from_secs(15);

/// A rate is averaged over this long: a worker reports every 1.2 s, so short samples jump.
pub const MEASURE: Duration = Duration::from_secs(30);

/// Returns the number of hashes mined so far and the web interface's clock in seconds.
pub async fn hashes() -> anyhow::Result<(f64, f64)> {
    let json = http::json(&format!("{WEBUI}/json")).await?;
    let hashes = json["hashes"].as_str().context("hashes is not a string")?;
    Ok((hashes.parse()?, json["now"].as_f64().context("now is not a number")?))
}

/// Returns the hashes per second over the next [`MEASURE`], after [`WARM_UP`].
pub async fn rate() -> anyhow::Result<f64> {
    tokio::time::sleep(WARM_UP).await;
    let (before, from) = hashes().await?;
    tokio::time::sleep(MEASURE).await;
    let (after, to) = hashes().await?;
    Ok((after - before) / (to - from))
}

/// Returns the lines that the workers wrote since `since` (as `docker logs --since` takes it) and
/// that are neither work done nor coins: their errors.
pub async fn worker_errors(since: &str) -> anyhow::Result<Vec<String>> {
    let logs =
        compose::compose(&["logs", "--no-color", "--no-log-prefix", "--since", since, "worker"])
            .await?;
    let expected = ["units of work done", "Coin found", "We already had that coin"];
    Ok(logs
        .lines()
        .filter(|line| !line.trim().is_empty() && !expected.iter().any(|text| line.contains(text)))
        .map(ToOwned::to_owned)
        .collect())
}

/// Fails if the workers had errors since `since`, and then shows what the other parts said meanwhile.
pub async fn expect_no_worker_errors(since: &str) -> anyhow::Result<()> {
    let errors = worker_errors(since).await?;
    if errors.is_empty() {
        return Ok(());
    }
    let logs = ["logs", "--no-color", "--timestamps", "--since", since];
    for service in ["worker", "ambassador", "confd", "registrator"] {
        println!("{}", compose::compose(&[&logs[..], &[service]].concat()).await?);
    }
    anyhow::bail!("{} errors of workers, the first: {}", errors.len(), errors[0])
}

/// Returns this moment as `docker logs --since` takes it, in seconds since the epoch.
#[must_use]
pub fn now() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is past 1970");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// Asks redis inside the stack.
pub async fn redis(args: &[&str]) -> anyhow::Result<String> {
    let args: Vec<&str> =
        ["exec", "-T", "redis", "redis-cli"].into_iter().chain(args.iter().copied()).collect();
    compose::compose(&args).await
}

/// Returns every coin: its digest and the bytes it was mined from.
pub async fn wallet() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let redis = compose::containers("redis").await?.into_iter().next().context("no redis")?;
    let mut stream = BufReader::new(TcpStream::connect((redis.address.as_str(), 6379)).await?);
    stream.write_all(b"HGETALL wallet\r\n").await?;
    let fields: usize = header(&mut stream, '*').await?;
    let mut strings = Vec::with_capacity(fields);
    for _ in 0..fields {
        let length = header(&mut stream, '$').await?;
        let mut bytes = vec![0; length + 2];
        stream.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        strings.push(bytes);
    }
    let pairs = strings.chunks_exact(2);
    pairs.map(|pair| Ok((String::from_utf8(pair[0].clone())?, pair[1].clone()))).collect()
}

/// Reads one header line of the Redis protocol: a type character and a length.
async fn header(stream: &mut BufReader<TcpStream>, kind: char) -> anyhow::Result<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let length =
        line.trim_end().strip_prefix(kind).with_context(|| format!("redis says {line}"))?;
    Ok(length.parse()?)
}

/// Returns the SHA-256 of `bytes` in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
