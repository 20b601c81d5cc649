//! The `ambassador` command: duties of process 1, then parse and call the library.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    if let Some(code) = daemon::pid1::supervise()? {
        return Ok(code);
    }
    let args = ambassador::Args::parse();
    // One thread is enough to wait for sockets and signals, and fifty of these share a node.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ambassador::execute(args))
}
