//! HTTP as the worker speaks it: a new connection for every request, so that every request is
//! balanced anew.

use std::time::Duration;

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header, request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long a request may take. Many workers before one rng rightly wait for each other: this is
/// the queue of six hundred.
const TIMEOUT: Duration = Duration::from_mins(1);
/// More than any answer that is expected here.
const LARGEST: usize = 1 << 20;

/// Fetches `path` from `host:port`.
pub(crate) async fn get(address: &str, path: &str) -> anyhow::Result<Bytes> {
    let request = request(address).method("GET").uri(path).body(Body::empty());
    ask(address, request?).await.with_context(|| format!("GET http://{}{path}", host(address)))
}

/// Posts `body` to `/` of `host:port`.
pub(crate) async fn post(address: &str, body: &[u8]) -> anyhow::Result<Bytes> {
    let request = request(address)
        .method("POST")
        .uri("/")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(Body::from(body.to_vec()));
    ask(address, request?).await.with_context(|| format!("POST http://{}/", host(address)))
}

fn request(address: &str) -> request::Builder {
    Request::builder().header(header::HOST, host(address)).header(header::CONNECTION, "close")
}

/// Returns what a client calls this server: without the port where it is the usual one.
fn host(address: &str) -> &str {
    address.strip_suffix(":80").unwrap_or(address)
}

async fn ask(address: &str, request: Request<Body>) -> anyhow::Result<Bytes> {
    tokio::time::timeout(TIMEOUT, exchange(address, request))
        .await
        .unwrap_or_else(|_| anyhow::bail!("no answer within {TIMEOUT:?}"))
}

async fn exchange(address: &str, request: Request<Body>) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await.context("cannot connect")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        anyhow::ensure!(status == StatusCode::OK, "answered {status}");
        Ok(axum::body::to_bytes(Body::new(response.into_body()), LARGEST).await?)
    };
    tokio::pin!(answer);
    // The connection has to be driven while the answer is awaited, and may well end before it.
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_is_not_part_of_the_host_header() {
        assert_eq!(["rng:80", "rng:8080", "[::1]:80"].map(host), ["rng", "rng:8080", "[::1]"]);
    }
}
