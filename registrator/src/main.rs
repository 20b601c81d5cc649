//! The `registrator` command: parse, start logs, call the library.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let mut args = registrator::Args::parse_from_env();
    daemon::log::init(&args.log);
    args.find_docker();
    // With a part that broke we would be deaf, or let keys expire: whoever started us starts us again.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    // Waiting for two sockets needs no second thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let token = daemon::shutdown::token()?;
        registrator::run(args, token).await
    })
}
