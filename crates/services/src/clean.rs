//! The border: what may leave this crate of text that came from labels. Pure.

/// The longest DNS label (RFC 1035, 2.3.4).
const LABEL_LENGTH: usize = 63;
/// The longest value of a Meta entry that Consul takes, in bytes.
pub(crate) const VALUE_LENGTH: usize = 512;
/// The longest key of a Meta entry that Consul takes, in bytes.
const KEY_LENGTH: usize = 128;

/// Returns `text` as a DNS label: letters, digits and inner hyphens; `None` if nothing is left.
pub(crate) fn dns_label(text: &str) -> Option<String> {
    let mut label = String::new();
    for c in text.chars() {
        if label.len() >= LABEL_LENGTH {
            break;
        }
        if c.is_ascii_alphanumeric() || c == '-' {
            label.push(c);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    let label = label.trim_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// Returns a Meta key of Consul: `[A-Za-z0-9_-]`, at most 128 bytes; `None` if nothing is left.
pub(crate) fn meta_key(text: &str) -> Option<String> {
    let key: String = text
        .chars()
        .take(KEY_LENGTH)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
        .collect();
    key.contains(|c: char| c.is_ascii_alphanumeric()).then_some(key)
}

/// Returns `text` without control characters and of at most 512 bytes, cut between characters.
pub(crate) fn value(text: &str) -> String {
    limited(text, VALUE_LENGTH)
}

/// Returns `text` without control characters and of at most `limit` bytes, cut between characters.
pub(crate) fn limited(text: &str, limit: usize) -> String {
    let mut clean = String::new();
    for c in text.chars() {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c };
        if clean.len() + c.len_utf8() > limit {
            break;
        }
        clean.push(c);
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// Returns an id of a service: like a value, without slashes, which Consul cannot deregister.
pub(crate) fn id(text: &str) -> Option<String> {
    let id = value(text).trim().replace('/', "-");
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_breaks_out_becomes_one_label() {
        let name = "evil\n  server own 127.0.0.1:1";
        assert_eq!(dns_label(name).as_deref(), Some("evil-server-own-127-0-0-1-1"));
        assert_eq!(dns_label("my_app").as_deref(), Some("my-app"));
        assert_eq!(dns_label("\"}{--"), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_leaves_clean(text in "\\PC*|[\\x00-\\x7f]*") {
            if let Some(label) = dns_label(&text) {
                prop_assert!(label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'));
                prop_assert!(label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
            }
            prop_assert!(!value(&text).contains(char::is_control) && value(&text).len() <= 512);
            prop_assert!(id(&text).is_none_or(|id| !id.contains('/') && !id.is_empty()));
        }
    }
}
