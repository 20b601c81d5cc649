//! HTTP as a user of the stack sees it: a new connection for every request, and how long it took.

use std::time::{Duration, Instant};

use anyhow::Context;

/// How long a single request may take: the longest queue in these suites is ten seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a request brought back.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// From before the connection was opened to the last byte.
    pub took: Duration,
}

/// Returns a client that opens a connection for every request and follows no redirect.
fn client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .context("no HTTP client")
}

async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
    let started = Instant::now();
    let response = request.send().await?;
    let status = response.status().as_u16();
    let body = response.bytes().await?.to_vec();
    Ok(Response { status, body, took: started.elapsed() })
}

/// Fetches `url`.
pub async fn get(url: &str) -> anyhow::Result<Response> {
    send(client()?.get(url)).await
}

/// Posts `body` to `url`.
pub async fn post(url: &str, body: &[u8]) -> anyhow::Result<Response> {
    send(client()?.post(url).body(body.to_vec())).await
}

/// Puts `body` at `url`.
pub async fn put(url: &str, body: &[u8]) -> anyhow::Result<Response> {
    send(client()?.put(url).body(body.to_vec())).await
}

/// Asks for `url` as the service `host`: posts `body` if there is one.
pub async fn ask(url: &str, host: &str, body: Option<&'static str>) -> anyhow::Result<Response> {
    let client = client()?;
    let request = match body {
        Some(body) => client.post(url).body(body),
        None => client.get(url),
    };
    send(request.header("host", host)).await
}

/// Fetches `url` and parses the answer.
pub async fn json(url: &str) -> anyhow::Result<serde_json::Value> {
    let response = get(url).await?;
    anyhow::ensure!(response.status == 200, "{url} answered {}", response.status);
    serde_json::from_slice(&response.body).with_context(|| format!("{url} did not answer JSON"))
}
