//! The server of random bytes. It is serial on purpose: one connection at a time, in the order of
//! arrival, so that it is what everybody waits for.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::RngCore;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{server, shutdown};

/// How long it takes to think of random bytes, however many: ten requests a second.
const DELAY: Duration = Duration::from_millis(100);
/// More bytes than this are refused.
const LARGEST: usize = 16 << 20;
/// How long a connection may keep the others waiting without having sent its request.
const SILENCE: Duration = Duration::from_millis(1500);
/// The same while stopping: the others in the queue are to be served in the time that is left.
const SILENCE_WHILE_STOPPING: Duration = Duration::from_millis(100);
/// How long a connection may keep the others waiting by reading its answer slowly.
const SLOWNESS: Duration = Duration::from_secs(30);

/// Serves one connection after the other until `token` is cancelled.
///
/// Then those that wait already are still served, as far as the time goes; new ones are refused.
pub async fn run(listener: TcpListener, token: CancellationToken) {
    // Whatever is cut off here is cut off by the end of the process in any case.
    let _ = shutdown::within_grace(&token, lane(listener, &token)).await;
}

async fn lane(listener: TcpListener, token: &CancellationToken) {
    while let Some(accepted) = token.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((connection, _)) => serve(connection, SILENCE).await,
            // A lack of file descriptors or memory: nothing gets better by asking at once.
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(DELAY).await;
            }
        }
    }
    for connection in waiting(listener).unwrap_or_default() {
        serve(connection, SILENCE_WHILE_STOPPING).await;
    }
}

/// Closes `listener` and returns the connections that were established but not accepted, which
/// closing it would reset.
fn waiting(listener: TcpListener) -> std::io::Result<Vec<TcpStream>> {
    let listener = listener.into_std()?;
    let mut waiting = Vec::new();
    // It does not block: an error means that nobody waits any more.
    while let Ok((connection, _)) = listener.accept() {
        connection.set_nonblocking(true)?;
        waiting.push(TcpStream::from_std(connection)?);
    }
    Ok(waiting)
}

/// Answers the one request of `connection` and closes it.
async fn serve(connection: TcpStream, silence: Duration) {
    let answered = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(silence)
        .serve_connection(TokioIo::new(connection), service_fn(answer));
    match tokio::time::timeout(SLOWNESS, answered).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("connection dropped: {error}"),
        Err(_) => tracing::debug!("connection dropped: its client reads too slowly"),
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    tracing::debug!("{} {}", request.method(), request.uri().path());
    Ok(match wanted(request.method(), request.uri().path()) {
        Ok(Wanted::Greeting) => server::greeting("RNG").into_response(),
        Ok(Wanted::Bytes(count)) => {
            tokio::time::sleep(DELAY).await;
            let mut bytes = vec![0; count];
            rand::rng().fill_bytes(&mut bytes);
            // An answer without bytes has a length too.
            ([(header::CONTENT_LENGTH, count)], Bytes::from(bytes)).into_response()
        }
        Err(StatusCode::METHOD_NOT_ALLOWED) => {
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response()
        }
        Err(status) => status.into_response(),
    })
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// A sign of life.
    Greeting,
    /// This many random bytes.
    Bytes(usize),
}

/// Returns what a request asks for, or the status that refuses it.
fn wanted(method: &Method, path: &str) -> Result<Wanted, StatusCode> {
    if method != Method::GET && method != Method::HEAD {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let number = path.strip_prefix('/').ok_or(StatusCode::NOT_FOUND)?;
    if number.is_empty() {
        return Ok(Wanted::Greeting);
    }
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(StatusCode::NOT_FOUND);
    }
    // A number that does not even fit is too large as well.
    match number.parse() {
        Ok(count) if count <= LARGEST => Ok(Wanted::Bytes(count)),
        _ => Err(StatusCode::PAYLOAD_TOO_LARGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_of_bytes_are_handed_out() {
        let get = |path| wanted(&Method::GET, path);
        assert_eq!(get("/"), Ok(Wanted::Greeting));
        assert_eq!(get("/0"), Ok(Wanted::Bytes(0)));
        assert_eq!(get("/32"), Ok(Wanted::Bytes(32)));
        assert_eq!(get("/16777216"), Ok(Wanted::Bytes(LARGEST)));
        for strange in ["/-1", "/+1", "/abc", "/1.5", "/32/", "//32", "/٣", "*", ""] {
            assert_eq!(get(strange), Err(StatusCode::NOT_FOUND), "{strange}");
        }
    }

    #[test]
    fn too_many_bytes_are_refused_however_long_the_number() {
        for large in ["/16777217", "/18446744073709551616", &format!("/{}", "9".repeat(1000))] {
            assert_eq!(wanted(&Method::GET, large), Err(StatusCode::PAYLOAD_TOO_LARGE), "{large}");
        }
    }

    #[test]
    fn other_methods_are_refused_whatever_the_path() {
        for path in ["/", "/32", "/abc"] {
            assert_eq!(wanted(&Method::POST, path), Err(StatusCode::METHOD_NOT_ALLOWED));
        }
        assert_eq!(wanted(&Method::HEAD, "/"), Ok(Wanted::Greeting));
    }
}
