//! DockerCoins, the sample application: rng, hasher, worker and webui.
//!
//! ```text
//!            ┌──────── 32 random bytes ──────── rng     one request at a time, 100 ms each
//!            ▼
//!  worker ── 100 ms ── their SHA-256 ────────── hasher  100 ms each, side by side
//!            │
//!            └──────── hashes += n, coins ───── redis ◄── webui ◄── you
//! ```
//!
//! It stands for an application whose code may not be changed: it connects to the names `rng`,
//! `hasher` and `redis`, and what these names resolve to decides about everything else. The pauses
//! are the point: they make rng the bottleneck, until there are several.

pub mod hasher;
pub mod healthcheck;
mod http;
pub mod log;
pub mod rng;
mod server;
pub mod shutdown;
mod store;
pub mod webui;
pub mod worker;

use anyhow::Context;

/// What `dockercoins` is asked to do.
#[derive(Clone, Debug, clap::Parser)]
#[command(version, about, propagate_version = true)]
#[command(after_help = "Environment:\n  DEBUG=yes  Log every request and every unit of work")]
pub struct Args {
    #[command(subcommand)]
    program: Program,
}

/// One of the application's programs.
#[derive(Clone, Debug, clap::Subcommand)]
enum Program {
    /// Hand out random bytes, to one client at a time: `GET /32`
    Rng(server::Args),
    /// Hash what is posted, for many clients at once: `POST /`
    Hasher(server::Args),
    /// Mine: random bytes from rng, their digest from hasher, counts and coins to redis
    Worker(worker::Args),
    /// Show the speed of the mining as a live graph
    Webui(webui::Args),
    /// Tell by the exit status whether rng, hasher or webui works
    Healthcheck(healthcheck::Args),
}

/// Runs one of the programs until a signal ends it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.program {
        Program::Rng(args) => {
            let token = daemon::shutdown::token()?;
            rng::run(args.bind()?, token).await;
        }
        Program::Hasher(args) => {
            let token = daemon::shutdown::token()?;
            hasher::run(args.bind()?, token).await?;
        }
        Program::Worker(args) => {
            let token = shutdown::token(args.stubborn)?;
            worker::run(&args, token).await?;
        }
        Program::Webui(args) => {
            let token = daemon::shutdown::token()?;
            webui::run(args.server.bind()?, &args.redis, token).await?;
        }
        Program::Healthcheck(args) => healthcheck::run(&args).await.context("not healthy")?,
    }
    Ok(())
}

/// Checks that `text` is `host:port`, as in `rng:80`.
fn address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("a port is missing, as in rng:80")?;
    if host.is_empty() || host.contains(['/', '@']) {
        return Err("the address has the form HOST:PORT, as in rng:80".to_owned());
    }
    port.parse::<u16>().map_err(|_| format!("{port:?} is no port"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for good in ["rng:80", "127.0.0.1:8001", "[::1]:6379"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in ["rng", ":80", "http://rng:80", "rng:http", "rng:70000", "a@b:1", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_target_is_a_usage_error_that_names_the_flag() {
        let error = Args::try_parse_from(["dockercoins", "worker", "--rng", "rng"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--rng"), "{error}");
    }
}
