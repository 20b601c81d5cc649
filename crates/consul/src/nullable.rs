//! What Consul answers that is not quite the type it should be: `null` for an empty list or map
//! in some versions, and numbers that nobody checked.

use serde::{Deserialize, Deserializer};

/// Reads a value, `null` being the default one.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a port; a number that is none is 0, "no port": Consul takes any, and one wrong port
/// must not make the whole answer unreadable.
pub(crate) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let number: Option<i64> = Option::deserialize(deserializer)?;
    Ok(number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0))
}

/// Reads a weight; one that is too large is the largest.
pub(crate) fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let number: Option<i64> = Option::deserialize(deserializer)?;
    let number = number.unwrap_or(1).clamp(0, u16::MAX.into());
    Ok(u16::try_from(number).unwrap_or(u16::MAX))
}
