//! The `confd` command: parse, start logs, call the library.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    if let Some(code) = daemon::pid1::supervise()? {
        return Ok(code);
    }
    let args = confd::cli::Args::parse_from_env();
    daemon::log::init(&args.log);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let token = daemon::shutdown::token()?;
        confd::run(args, token).await
    })
}
