//! What every daemon of ours needs: logs, shutdown, retry policy, errors in a line, metrics and health listener.
//!
//! ```no_run
//! #[derive(clap::Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     log: daemon::log::Args,
//!     #[command(flatten)]
//!     listen: daemon::listener::Args<9119>,
//! }
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     let args: Args = clap::Parser::parse();
//!     daemon::log::init(&args.log);
//!     let token = daemon::shutdown::token()?;
//!     let (_ready, readiness) = tokio::sync::watch::channel(daemon::listener::Readiness::Ready);
//!     let metrics = prometheus_client::registry::Registry::default().into();
//!     daemon::listener::serve(args.listen.address(), metrics, readiness, token).await;
//!     Ok(())
//! }
//! ```

pub mod backoff;
pub mod error;
pub mod flags;
pub mod listener;
pub mod log;
pub mod pid1;
pub mod shutdown;
