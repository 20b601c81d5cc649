//! Logs: text or JSON on standard error, filtered by level and target.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// What is logged when nothing else is asked for. consulrs tells of every call at `info`, and
/// rustify repeats as an error what our own code reports with its context.
const DEFAULT_FILTER: &str = "info,consulrs=warn,rustify=off";

/// Who writes down whole containers below `info`, with all that is secret in their environment. Nothing makes it do so here.
const INDISCREET: &str = "bollard";

/// The flags that say what is logged, and how.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Logs")]
pub struct Args {
    /// What to log: a level (error, warn, info, debug, trace, off), or levels by target such as
    /// `info,consul=debug`
    #[arg(long, value_name = "FILTER", env = "LOG", default_value = DEFAULT_FILTER, value_parser = filter, global = true)]
    pub log: Targets,
    /// How to log: lines for people, or one JSON object per line
    #[arg(long, value_name = "FORMAT", env = "LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: Format,
}

/// How log events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people; coloured on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error; a second call changes nothing.
pub fn init(args: &Args) {
    let logs = tracing_subscriber::registry().with(discreet(&args.log));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Only the first subscriber of a process counts; tests start several daemons in one.
    let _ = match args.log_format {
        Format::Text => logs.with(lines.with_ansi(colour())).try_init(),
        Format::Json => logs.with(lines.json().flatten_event(true)).try_init(),
    };
}

/// Returns a filter without what nobody may read, also where it names a module of that.
fn discreet(filter: &Targets) -> Targets {
    let others = filter.iter().filter(|(target, _)| !target.starts_with(INDISCREET));
    let others: Targets = others.map(|(target, level)| (target.to_owned(), level)).collect();
    let default = filter.default_level().unwrap_or(LevelFilter::OFF);
    others.with_default(default).with_target(INDISCREET, LevelFilter::INFO)
}

/// Colours are for terminals, and for those who did not refuse them (<https://no-color.org>).
fn colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

/// Parses a filter more strictly than `Targets` does, which takes a bare `=` for a target, a
/// misspelt level for one too, and nothing at all for "off".
fn filter(text: &str) -> Result<Targets, String> {
    let text = text.trim();
    if text.is_empty() {
        return filter(DEFAULT_FILTER);
    }
    for part in text.split(',') {
        let (target, level) = part.split_once('=').unwrap_or(("-", part));
        if target.trim().is_empty() {
            return Err(format!("{part:?} names no target before its `=`"));
        }
        if LevelFilter::from_str(level.trim()).is_err() || level.trim().is_empty() {
            return Err(format!(
                "{level:?} is no level: use error, warn, info, debug, trace or off"
            ));
        }
    }
    text.split(',')
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(",")
        .parse()
        .map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tracing::Level;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        log: Args,
    }

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Cli::try_parse_from([&["daemon"], args].concat()).map(|cli| cli.log)
    }

    #[test]
    fn the_default_shows_our_own_news_and_hides_the_libraries_chatter() {
        let log = parse(&[]).unwrap().log;
        assert!(log.would_enable("confd", &Level::INFO));
        assert!(!log.would_enable("confd", &Level::DEBUG));
        assert!(!log.would_enable("consulrs::api", &Level::INFO));
        assert!(!log.would_enable("rustify::endpoint", &Level::ERROR));
    }

    #[test]
    fn whole_containers_are_never_logged_and_the_rest_is_as_wanted() {
        for filter in [
            "trace",
            "bollard=trace",
            "bollard::docker=trace,off",
            "bollard::docker=debug,bollard=off",
        ] {
            let log = discreet(&parse(&["--log", filter]).unwrap().log);
            for target in ["bollard", "bollard::docker", "bollard::read"] {
                assert!(!log.would_enable(target, &Level::DEBUG), "{filter} {target}");
            }
            assert_eq!(log.would_enable("registrator", &Level::TRACE), filter == "trace");
        }
        let log = discreet(&parse(&["--log", "warn,consul=debug"]).unwrap().log);
        assert!(log.would_enable("consul", &Level::DEBUG) && !log.would_enable("x", &Level::INFO));
    }

    #[test]
    fn an_empty_filter_is_the_default() {
        assert_eq!(parse(&["--log", " "]).unwrap().log, parse(&[]).unwrap().log);
    }

    #[test]
    fn levels_are_set_by_target() {
        let log = parse(&["--log", "warn, consul=debug"]).unwrap().log;
        assert!(log.would_enable("consul::client", &Level::DEBUG));
        assert!(!log.would_enable("registrator", &Level::INFO));
    }

    #[test]
    fn a_bad_level_is_a_usage_error_that_names_the_flag() {
        for bad in ["loud", "info,consul=loud", "=", "=info", "consul=", "info,,warn", "a=b=info"] {
            let error = parse(&["--log", bad]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(error.to_string().contains("--log"), "{error}");
        }
    }

    #[test]
    fn a_bad_format_is_a_usage_error() {
        assert_eq!(parse(&["--log-format", "xml"]).unwrap_err().exit_code(), 2);
    }
}
