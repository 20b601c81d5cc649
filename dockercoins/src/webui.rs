//! The web interface: a page with a live graph, and the numbers behind it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::server;
use crate::store::Store;

/// How long redis may take. It is asked twice at most, and the browser is to know within two seconds.
const STORE_LIMIT: Duration = Duration::from_millis(800);

/// Where the web interface listens, and where its numbers come from.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(crate) server: server::Args,
    /// Where counts and coins are
    #[arg(long, value_name = "HOST:PORT", env = "REDIS", default_value = "redis:6379", value_parser = crate::address)]
    pub(crate) redis: String,
}

/// Serves until `token` is cancelled, and then a moment longer: what comes meanwhile and what is under way.
pub async fn run(
    listener: TcpListener,
    redis: &str,
    token: CancellationToken,
) -> anyhow::Result<()> {
    let store = Arc::new(Store::new(redis, STORE_LIMIT)?);
    let routes = Router::new()
        .route("/", get(async || (StatusCode::FOUND, [(header::LOCATION, "/index.html")])))
        .route("/index.html", page("text/html", include_str!("page/index.html")))
        .route("/style.css", page("text/css", include_str!("page/style.css")))
        .route("/graph.js", page("text/javascript", include_str!("page/graph.js")))
        .route("/json", get(numbers))
        .with_state(store);
    Ok(server::serve(listener, routes, &token).await?)
}

/// Returns a route to a part of the page. Browsers ask again each time: a new version is seen at once.
fn page<S: Clone + Send + Sync + 'static>(
    kind: &'static str,
    text: &'static str,
) -> axum::routing::MethodRouter<S> {
    let kind = format!("{kind};charset=utf-8");
    get(async move || {
        ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache".to_owned())], text)
    })
}

/// Answers with the counts, or with 503 while redis is away.
async fn numbers(State(store): State<Arc<Store>>) -> Response {
    let answer = match counts(&store).await {
        Ok((coins, hashes)) => {
            Json(json!({ "coins": coins, "hashes": hashes, "now": now() })).into_response()
        }
        Err(error) => {
            tracing::warn!("{error:#}");
            let error = json!({ "error": format!("{error:#}"), "now": now() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
        }
    };
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}

/// Returns the number of coins, and that of hashes as redis writes it.
async fn counts(store: &Store) -> anyhow::Result<(u64, Option<String>)> {
    let mut commands = redis::pipe();
    commands.hlen("wallet").get("hashes");
    match store.run(&commands).await {
        // A connection may have been closed while nobody looked at the page.
        Err(_) => store.run(&commands).await,
        counts => counts,
    }
}

/// Returns the time in seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
