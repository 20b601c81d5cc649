//! The `multihost` command: parse, then call the library.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let args = multihost::Args::parse();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(multihost::execute(args))
}
