//! Flags: what stays registered, and what goes.
#![allow(
    clippy::doc_markdown,
    reason = "these comments are the program's help, which shows no Markdown"
)]

use std::time::Duration;

use clap::ValueEnum;
use daemon::flags::switch;
use services::parse_duration;

use crate::units::percent;

/// What stays registered, and what goes.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "What stays and what goes")]
pub struct Keep {
    /// What to remove when a container stops
    #[arg(long, env = "REGISTRATOR_DEREGISTER", value_name = "WHEN", default_value = "always")]
    pub deregister: Deregister,
    /// Remove instances of ours that have no container any more
    #[arg(long, env = "REGISTRATOR_CLEANUP", value_name = "BOOL", default_value = "true", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub cleanup: bool,
    /// Ask Docker a second time when more of our instances than this would go at once (and at
    /// least 5)
    #[arg(long, env = "REGISTRATOR_MAX_REMOVAL", value_name = "PERCENT", default_value = "50%", value_parser = percent)]
    pub max_removal: u8,
    /// What to do with our instances on SIGTERM
    #[arg(long, env = "REGISTRATOR_ON_EXIT", value_name = "WHAT", default_value = "keep")]
    pub on_exit: OnExit,
    /// How often to look at everything, whatever the events say; 0 = never
    #[arg(long, env = "REGISTRATOR_RESYNC", value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub resync: Duration,
    /// Print what would change, and change nothing
    #[arg(long, env = "REGISTRATOR_DRY_RUN", value_name = "BOOL", default_value = "false", value_parser = switch,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub dry_run: bool,
}

/// When the instances of a stopped container go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deregister {
    /// As soon as it stops
    Always,
    /// When it stops well; one that failed stays, critical, until it is started again or removed
    OnSuccess,
    /// When it is removed; until then its instances stay, critical
    Never,
}

/// What happens to our instances when we stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnExit {
    /// They stay
    Keep,
    /// They go
    Deregister,
    /// They are put into maintenance
    Maintenance,
}
