//! The hashing server: concurrent, so that it is never what anybody waits for.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::server;

/// How long a digest takes.
const DELAY: Duration = Duration::from_millis(100);

/// Serves until `token` is cancelled, and then a moment longer: what comes meanwhile and what is under way.
pub async fn run(listener: TcpListener, token: CancellationToken) -> std::io::Result<()> {
    let routes = Router::new().route("/", get(async || server::greeting("HASHER")).post(hash));
    server::serve(listener, routes, &token).await
}

/// Answers with the digest of the body, which may be of any length and is never held as a whole.
async fn hash(body: Body) -> Result<impl IntoResponse, axum::http::StatusCode> {
    let mut digest = Sha256::new();
    let mut body = body.into_data_stream();
    while let Some(bytes) = body.next().await {
        digest.update(bytes.map_err(|_| axum::http::StatusCode::BAD_REQUEST)?);
    }
    tokio::time::sleep(DELAY).await;
    let digest = format!("{:x}", digest.finalize());
    tracing::debug!("{digest}");
    Ok(([(header::CONTENT_TYPE, "text/plain;charset=utf-8")], digest))
}
