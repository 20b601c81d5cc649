//! `null` where a list or a map is meant: Consul writes it for empty ones, in some versions.

use serde::{Deserialize, Deserializer};

/// Reads a value, `null` being the default one.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
