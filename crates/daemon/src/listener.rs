//! The small HTTP server of a daemon: `/metrics`, `/healthz` and `/readyz`.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What Prometheus expects of an OpenMetrics answer.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long a health probe waits: a daemon that needs longer is not healthy.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// The flag that says where to listen; `PORT` is the daemon's usual one, on the loopback address.
#[derive(Clone, Debug, clap::Args)]
pub struct Args<const PORT: u16> {
    /// Where to serve /metrics, /healthz and /readyz; empty = nowhere
    #[arg(long, value_name = "ADDR", env = "LISTEN", default_value = loopback(PORT))]
    pub listen: Listen,
}

impl<const PORT: u16> Args<PORT> {
    /// Returns the address to listen on, `None` where the listener is off.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.0
    }
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self(None)),
            text => text
                .parse()
                .map(|address| Self(Some(address)))
                .map_err(|_| "not an address such as 127.0.0.1:9119".to_owned()),
        }
    }
}

/// Whether a daemon can do its work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, for this reason.
    NotReady(String),
}

/// Serves until `token` is cancelled; without an address it only waits for that.
///
/// An address that cannot be bound is reported and tried again: a daemon works without it.
pub async fn serve(
    address: Option<SocketAddr>,
    metrics: Arc<Registry>,
    ready: watch::Receiver<Readiness>,
    token: CancellationToken,
) {
    let Some(address) = address else { return token.cancelled().await };
    let router = axum::Router::new()
        .route("/metrics", get(render_metrics))
        .with_state(metrics)
        .route("/readyz", get(render_readiness))
        .with_state(ready)
        .route("/healthz", get(async || "ok\n"));
    let serving = async {
        let listener = bind(address).await;
        tracing::debug!(%address, "listening");
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%address, %error, "no longer listening");
        }
    };
    // Dropping the server cuts off the scrape under way, which nobody waits for any more.
    tokio::select! {
        () = token.cancelled() => {}
        () = async { serving.await; std::future::pending().await } => {}
    }
}

/// Tells whether the daemon at `address` answers `/healthz`: what a container without a shell
/// uses as its health check. An address that means "every interface" is asked on loopback.
pub async fn probe(address: SocketAddr) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(reachable(address)).await?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(&answer == b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(PROBE_LIMIT, asking).await, Ok(Ok(true)))
}

fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, v6.port()).into()
        }
        other => other,
    }
}

/// clap keeps default values for the life of the program, hence the leak (once per program).
fn loopback(port: u16) -> &'static str {
    format!("127.0.0.1:{port}").leak()
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut delays = crate::backoff::delays();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                let delay = delays.next_delay();
                tracing::warn!(%address, %error, ?delay, "cannot listen, will retry");
                tokio::time::sleep(delay).await;
            }
        }
    }
}

async fn render_metrics(State(metrics): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            format!("{error}\n"),
        ),
    }
}

async fn render_readiness(State(ready): State<watch::Receiver<Readiness>>) -> impl IntoResponse {
    match &*ready.borrow() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
