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
#[group(skip)]
#[command(next_help_heading = "Metrics and health")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use prometheus_client::metrics::counter::Counter;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        listen: Args<9119>,
    }

    /// A listener on a free port, ended with this value.
    struct Served {
        address: SocketAddr,
        ready: watch::Sender<Readiness>,
        _end: tokio_util::sync::DropGuard,
    }

    fn serve_at(address: SocketAddr, metrics: Registry) -> Served {
        let (ready, readiness) = watch::channel(Readiness::Ready);
        let token = CancellationToken::new();
        tokio::spawn(serve(Some(address), Arc::new(metrics), readiness, token.clone()));
        Served { address, ready, _end: token.drop_guard() }
    }

    /// Returns an address that nobody listens on, and what keeps it so.
    fn reserved() -> (SocketAddr, std::net::TcpListener) {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        (taken.local_addr().unwrap(), taken)
    }

    async fn start(metrics: Registry) -> Served {
        let address = SocketAddr::from(([127, 0, 0, 1], testbed::port::free_port().unwrap()));
        let served = serve_at(address, metrics);
        until_healthy(address).await;
        served
    }

    async fn until_healthy(address: SocketAddr) {
        let healthy = async {
            while !probe(address).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), healthy).await.unwrap();
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn the_address_is_the_daemons_own_unless_given_or_emptied() {
        let address = |args: &[&str]| Cli::parse_from(args).listen.address();
        assert_eq!(address(&["d"]), Some(([127, 0, 0, 1], 9119).into()));
        assert_eq!(address(&["d", "--listen", "[::]:80"]), "[::]:80".parse().ok());
        assert_eq!(address(&["d", "--listen="]), None);
        let error = Cli::try_parse_from(["d", "--listen=nowhere"]).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let mut metrics = Registry::default();
        let passes = Counter::<u64>::default();
        metrics.register("passes", "Passes made", passes.clone());
        let served = start(metrics).await;
        passes.inc_by(3);
        let answer = get(served.address, "/metrics").await;
        assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
        assert!(answer.contains("passes_total 3\n") && answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn readiness_has_its_reason() {
        let served = start(Registry::default()).await;
        assert!(get(served.address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        served.ready.send_replace(Readiness::NotReady("consul is away".into()));
        let answer = get(served.address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("consul is away\n"));
        assert!(probe(served.address).await, "healthy, though not ready");
    }

    #[tokio::test]
    async fn an_address_in_use_is_tried_again() {
        let (address, taken) = reserved();
        let served = serve_at(address, Registry::default());
        assert!(!probe(address).await, "the other one accepts and says nothing");
        drop(taken);
        until_healthy(served.address).await;
    }

    #[tokio::test]
    async fn a_cancelled_listener_lets_go_of_its_address() {
        let served = start(Registry::default()).await;
        let address = served.address;
        drop(served);
        let gone = async {
            while probe(address).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
        assert!(std::net::TcpListener::bind(address).is_ok());
    }

    #[tokio::test]
    async fn a_listener_that_is_off_waits_for_the_end() {
        let (_ready, readiness) = watch::channel(Readiness::Ready);
        let token = CancellationToken::new();
        let serving = serve(None, Arc::default(), readiness, token.clone());
        tokio::pin!(serving);
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, &mut serving).await.is_err());
        token.cancel();
        serving.await;
    }

    #[test]
    fn an_address_that_means_every_interface_is_probed_on_loopback() {
        let probed = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(probed("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(probed("[::]:1"), "[::1]:1");
        assert_eq!(probed("10.0.0.1:1"), "10.0.0.1:1");
    }
}
