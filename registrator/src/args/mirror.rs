//! Flags: the copy of the catalog as keys.
#![allow(
    clippy::doc_markdown,
    reason = "these comments are the program's help, which shows no Markdown"
)]

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::ValueEnum;
use services::parse_duration;

use crate::units::spelled;

/// How long keys outlive their node unless told otherwise; as it stands in the flag's default.
const TTL: Duration = Duration::from_secs(30);
/// How long Consul lets a session live.
const TTLS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);

/// The copy of the catalog in Consul's key-value store.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Keys")]
pub struct Mirror {
    /// Where every instance is a key, PREFIX/SERVICE/ID, and PREFIX-events/NODE the journal; empty
    /// = nowhere [default: services]
    #[arg(long, env = "REGISTRATOR_KV_PREFIX", value_name = "PREFIX")]
    pub kv_prefix: Option<String>,
    /// What such a key holds: everything as JSON, or address:port [default: json]
    #[arg(long, env = "REGISTRATOR_KV_FORMAT", value_name = "FORMAT")]
    pub kv_format: Option<KvFormat>,
    /// How long the keys outlive this node, 10s to 24h; 0 = the default
    #[arg(long, env = "REGISTRATOR_TTL", value_name = "TIME", default_value = "30s", value_parser = session_ttl)]
    pub ttl: Duration,
    /// How often to say that it lives, more often than --ttl; 0 = the default [default: a third of
    /// --ttl]
    #[arg(long, env = "REGISTRATOR_TTL_REFRESH", value_name = "TIME", value_parser = parse_duration)]
    pub ttl_refresh: Option<Duration>,
}

/// What a key of the mirror holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvFormat {
    /// Everything about the instance, as JSON
    Json,
    /// `address:port`
    Addr,
}

/// Reads how long a session lives: what Consul takes, or 0, the default of older registrators.
fn session_ttl(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Ok(TTL),
        ttl if TTLS.contains(&ttl) => Ok(ttl),
        _ => Err("use 10s to 24h, or 0 for 30s".to_owned()),
    }
}

impl Mirror {
    /// Returns what is meant, if its times fit together.
    pub(crate) fn checked(mut self) -> Result<Self, String> {
        self.ttl_refresh = self.ttl_refresh.filter(|refresh| !refresh.is_zero());
        match self.ttl_refresh {
            Some(refresh) if refresh >= self.ttl => Err(format!(
                "--ttl-refresh ({}) must be shorter than --ttl ({})",
                spelled(refresh),
                spelled(self.ttl)
            )),
            _ => Ok(self),
        }
    }

    /// Returns the prefix of the keys, `None` where there are none. `from_uri` is the prefix that
    /// the registry's address had, if any; an address without a path chooses none.
    #[must_use]
    pub fn prefix(&self, from_uri: Option<&str>) -> Option<String> {
        let from_uri = from_uri.filter(|prefix| !prefix.is_empty());
        let prefix = self.kv_prefix.as_deref().or(from_uri).unwrap_or("services").trim_matches('/');
        (!prefix.is_empty()).then(|| prefix.to_owned())
    }

    /// Returns what a key holds: with a `consulkv` address what it always held.
    #[must_use]
    pub fn format(&self, from_uri: Option<&str>) -> KvFormat {
        let usual = if from_uri.is_some() { KvFormat::Addr } else { KvFormat::Json };
        self.kv_format.unwrap_or(usual)
    }
}
