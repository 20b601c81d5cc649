//! The border: what may leave this crate of text that came from labels. Pure.

/// The longest DNS label (RFC 1035, 2.3.4).
const LABEL_LENGTH: usize = 63;
/// The longest value of a Meta entry that Consul takes, in bytes.
pub(crate) const VALUE_LENGTH: usize = 512;
/// The longest key of a Meta entry that Consul takes, in bytes.
const KEY_LENGTH: usize = 128;
/// The longest id taken from a label, in bytes: what we may add to it still fits into a key.
const ID_LENGTH: usize = 256;
/// What Consul lets no service's Meta keys begin with.
const RESERVED: &str = "consul-";

/// Returns `text` as a DNS label, as services are called by it: letters, digits and inner hyphens; `None` if nothing is
/// left.
#[must_use]
pub fn dns_label(text: &str) -> Option<String> {
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

/// Returns a Meta key that Consul takes: `[A-Za-z0-9_-]`, at most 128 bytes, not beginning with
/// `consul-`; `None` if nothing is left.
pub(crate) fn meta_key(text: &str) -> Option<String> {
    let mut key: String = text
        .chars()
        .take(KEY_LENGTH)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
        .collect();
    if key.to_ascii_lowercase().starts_with(RESERVED) {
        key.replace_range(RESERVED.len() - 1..RESERVED.len(), "_");
    }
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

/// Returns an id: like a value, without slashes, and no `.` or `..`; ids are parts of keys and of
/// paths, where those have a meaning. `None` if nothing is left.
pub(crate) fn id(text: &str) -> Option<String> {
    let id = separated(&limited(text.trim(), ID_LENGTH));
    (!matches!(id.as_str(), "" | "." | "..")).then_some(id)
}

/// Returns an id without what separates the steps of a path, and without control characters.
pub(crate) fn separated(id: &str) -> String {
    limited(id, usize::MAX).replace(['/', '\\'], "-")
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

    #[test]
    fn a_meta_key_is_one_that_consul_takes() {
        assert_eq!(meta_key("a.b c").as_deref(), Some("a-b-c"));
        assert_eq!(meta_key("consul-version").as_deref(), Some("consul_version"));
        assert_eq!(meta_key("---"), None);
        assert_eq!(meta_key(&"ü".repeat(500)).map(|key| key.len()), None);
        assert_eq!(meta_key(&"k".repeat(500)).map(|key| key.len()), Some(128));
    }

    #[test]
    fn a_value_is_cut_between_characters() {
        assert_eq!(value(&"ü".repeat(300)).len(), 512);
        assert_eq!(value(&format!("a{}", "ü".repeat(300))).len(), 511);
        assert_eq!(value("a\r\nb\u{7f}\u{85}\u{2028}c"), "a  b   c");
    }

    #[test]
    fn an_id_is_never_a_step_in_a_path() {
        assert_eq!(id("a/../b").as_deref(), Some("a-..-b"));
        assert_eq!((id(".."), id(" . "), id("\n")), (None, None, None));
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
            prop_assert_eq!(value(&value(&text)), value(&text));
        }
    }
}
