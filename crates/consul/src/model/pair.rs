//! Keys and their values.

use base64::Engine;
use serde::{Deserialize, Deserializer};

/// A key and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KvPair {
    /// The whole key.
    pub key: String,
    /// The bytes stored under it.
    #[serde(deserialize_with = "bytes")]
    pub value: Vec<u8>,
    /// A number that clients may use as they like.
    pub flags: u64,
    /// The session that holds the key, if any.
    pub session: Option<String>,
    /// When it was written first.
    pub create_index: u64,
    /// When it was written last; what a compare-and-set compares.
    pub modify_index: u64,
    /// How often it was acquired.
    pub lock_index: u64,
}

/// Reads the base64 of a value; `null` is an empty one.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let code = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    base64::prelude::BASE64_STANDARD.decode(code).map_err(serde::de::Error::custom)
}
