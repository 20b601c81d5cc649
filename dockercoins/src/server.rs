//! What the three servers share: where they listen, and how they introduce themselves.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::shutdown;

/// Connections that may wait to be accepted. rng serves one at a time, so its clients queue here;
/// a client that finds the queue full only tries again after a second, then two, then four.
const BACKLOG: u32 = 1024;

/// How long connections are accepted after the signal: load balancers hear of it from registrator, and what they send
/// until then would be reset.
const LINGER: Duration = Duration::from_millis(300);

/// Where a server listens.
#[derive(Clone, Debug, clap::Args)]
// Flattened into arguments of the same name, which would make two groups `Args`.
#[group(skip)]
pub(crate) struct Args {
    /// Address and port to listen on; `[::]` means every address, of IPv4 too, and port 0 a free one
    #[arg(long, value_name = "ADDRESS", env = "LISTEN", default_value = "[::]:80")]
    pub(crate) listen: SocketAddr,
}

impl Args {
    /// Opens the listener, and logs its address.
    pub(crate) fn bind(&self) -> anyhow::Result<TcpListener> {
        let listener = match bind(self.listen) {
            Err(error) if self.listen.ip().is_unspecified() && without_ipv6(&error) => {
                bind((Ipv4Addr::UNSPECIFIED, self.listen.port()).into())
            }
            result => result,
        };
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        tracing::info!("listening on {}", listener.local_addr()?);
        Ok(listener)
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    // Otherwise the port stays taken for a minute after the program was restarted.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Tells whether `error` is what a kernel without IPv6 answers.
fn without_ipv6(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

/// Serves many at a time until `token` is cancelled, a moment longer whoever comes then, and what is under way.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    token: &CancellationToken,
) -> std::io::Result<()> {
    let closes = {
        let token = token.clone();
        async move {
            token.cancelled().await;
            tokio::time::sleep(LINGER).await;
        }
    };
    let serving = axum::serve(listener, routes).with_graceful_shutdown(closes).into_future();
    shutdown::within_grace(token, serving).await.unwrap_or(Ok(()))
}

/// Returns what the server `name` says on `/`, with the name of the host that it runs on.
pub(crate) fn greeting(name: &str) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{name} running on {}\n", host.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn port_0_is_a_free_one_and_the_default_address_serves_both_families() {
        let args = Args { listen: "[::]:0".parse().unwrap() };
        let listener = args.bind().unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_ne!(port, 0);
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named_in_the_error() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = Args { listen: address }.bind().unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
