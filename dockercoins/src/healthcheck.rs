//! The health check of a container that holds nothing but this program.

use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;

use crate::http;

/// A server that does not answer by then is not healthy.
const LIMIT: Duration = Duration::from_secs(2);

/// Which server is asked, and where it listens.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The server that runs here
    server: Server,
    /// Where it listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:80", value_parser = crate::address)]
    address: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Server {
    Rng,
    Hasher,
    Webui,
}

/// Returns once the server has shown that it works.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let answered = async {
        match args.server {
            // A request would wait in the queue with everybody else, and would be work too.
            Server::Rng => drop(TcpStream::connect(&args.address).await?),
            Server::Hasher => drop(http::get(&args.address, "/").await?),
            // Redis being away is not this server's sickness.
            Server::Webui => drop(http::get(&args.address, "/index.html").await?),
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, answered)
        .await
        .with_context(|| format!("{} did not answer within {LIMIT:?}", args.address))?
}
