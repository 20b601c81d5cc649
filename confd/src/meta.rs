//! An instance's meta data, packed: there may be fifty thousand, and a map takes four times the room.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Keys and values, by key, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Meta(Box<[(Box<str>, Box<str>)]>);

impl Meta {
    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[place].1)
    }

    /// Returns all keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl From<BTreeMap<String, String>> for Meta {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl FromIterator<(String, String)> for Meta {
    /// Of a key that comes twice, the last value counts.
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        BTreeMap::from_iter(pairs).into()
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(BTreeMap::<String, String>::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_map_to_whoever_reads_or_writes_it() {
        let pairs = [("b", "2"), ("a", "1"), ("b", "3")];
        let meta: Meta =
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!((meta.get("a"), meta.get("b"), meta.get("c")), (Some("1"), Some("3"), None));
        let text = serde_json::to_string(&meta).unwrap();
        assert_eq!(text, r#"{"a":"1","b":"3"}"#);
        assert_eq!(serde_json::from_str::<Meta>(&text).unwrap(), meta);
        assert_eq!(meta.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
    }
}
