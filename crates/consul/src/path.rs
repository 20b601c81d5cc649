//! Names in paths: percent-encoded once. Pure: no I/O, no clock, no async.

use std::fmt::Write;

/// Returns `path` with every byte encoded that is not a letter, a digit, `-`, `.`, `_`, `~` or
/// the `/` between segments.
pub(crate) fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Returns `text` with `%41` and the like replaced; what is not such a code stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tells whether HTTP can carry `path`: an empty segment, `.` or `..` would be cleaned away on
/// the way, encoded or not, and the request would mean another name. A `/` at the end is fine.
#[must_use]
pub fn is_addressable(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    !path.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_with_reserved_characters_are_encoded_once() {
        assert_eq!(encode("kv/a b/%41?x#y/\u{fc}"), "kv/a%20b/%2541%3Fx%23y/%C3%BC");
    }

    #[test]
    fn names_that_would_be_cleaned_away_are_found() {
        for path in ["kv/a//b", "kv//a", "kv/./a", "kv/a/..", "kv/..", "kv/a//"] {
            assert!(!is_addressable(path), "{path}");
        }
        for path in ["kv/", "kv/a/", "kv/a/b", "kv/...", "kv/.a", "agent/self"] {
            assert!(is_addressable(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn decoding_what_was_encoded_gives_it_back(text in ".*") {
            prop_assert_eq!(decode(&encode(&text)), text);
        }

        #[test]
        fn decoding_never_fails(text in "(%|[0-9a-fA-F]|.)*") {
            let _ = decode(&text);
        }
    }
}
