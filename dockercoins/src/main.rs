//! The executable `dockercoins`: reads its arguments and runs one of the application's programs.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let args = dockercoins::Args::parse();
    dockercoins::log::init();
    // One thread is enough for each of these programs, and keeps ten workers small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(dockercoins::run(args));
    // A name that is still being resolved must not delay the exit.
    runtime.shutdown_background();
    result
}
