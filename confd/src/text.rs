//! Cleans what strangers wrote: labels, tags, node names and keys come from whoever may start containers.
//! Pure: no I/O, no clock, no async.

use std::fmt::Write as _;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

/// The longest name that a proxy is asked to carry; HAProxy itself takes more, its statistics do not.
const LONGEST_NAME: usize = 120;

/// Tells whether `c` could end a line, or make a terminal or an editor show something else than is there.
fn is_control(c: char) -> bool {
    // Besides the control characters: Unicode's line and paragraph separator, and the marks that
    // reorder text.
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns `text` with every control character replaced by a space.
///
/// A space, and not nothing, so that two words never become one.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { ' ' } else { c }).collect()
}

/// Tells whether `text` is free of control characters.
#[must_use]
pub fn is_clean(text: &str) -> bool {
    !text.chars().any(is_control)
}

/// Tells whether `address` is an IP address or a host name.
#[must_use]
pub fn is_address(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok() || is_host_name(address)
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name of digits and dots only would be an address, and as such it was not valid.
    name.len() <= 253
        && name.strip_suffix('.').unwrap_or(name).split('.').all(label)
        && name.contains(|c: char| c.is_ascii_alphabetic())
}

/// Returns a name that HAProxy takes for a proxy, a server or an access list.
///
/// Two different texts never give the same name: where anything had to be changed, a piece of
/// the original's digest is added.
#[must_use]
pub fn haproxy_name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(allowed) {
        return text.to_owned();
    }
    let kept: String =
        text.chars().take(LONGEST_NAME).map(|c| if allowed(c) { c } else { '_' }).collect();
    format!("{kept}_-{}", &sha256(text.as_bytes())[..8])
}

/// Returns `text` as one word of HAProxy's configuration, whatever it contains.
#[must_use]
pub fn haproxy_quote(text: &str) -> String {
    format!("'{}'", clean(text).replace('\'', "'\\''"))
}

/// Returns `text` in lower case with everything but letters and digits as single dashes.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// Returns `address:port` as programs take it, an IPv6 address in brackets.
///
/// `None` where the address is neither an IP address nor a host name, or the port is 0.
#[must_use]
pub fn sockaddr(address: &str, port: u16) -> Option<String> {
    match address.parse::<IpAddr>() {
        _ if port == 0 => None,
        Ok(IpAddr::V6(address)) => Some(format!("[{address}]:{port}")),
        Ok(IpAddr::V4(address)) => Some(format!("{address}:{port}")),
        Err(_) if is_host_name(address) => Some(format!("{address}:{port}")),
        Err(_) => None,
    }
}

/// Returns the SHA-256 of `bytes` in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_names_stay_as_they_are() {
        for name in ["rng", "node1:rng-1:80:udp", "a.b_c", "web-8080"] {
            assert_eq!(haproxy_name(name), name);
        }
    }

    #[test]
    fn slugs_are_readable() {
        assert_eq!(slug("  Hello, World: 2 "), "hello-world-2");
        assert_eq!(slug("é"), "");
    }

    #[test]
    fn socket_addresses_are_checked() {
        assert_eq!(sockaddr("10.0.0.1", 80).as_deref(), Some("10.0.0.1:80"));
        assert_eq!(sockaddr("fe80::1", 80).as_deref(), Some("[fe80::1]:80"));
        assert_eq!(sockaddr("db.example.org", 5432).as_deref(), Some("db.example.org:5432"));
        for bad in ["", "1.2.3", "1.2.3.4.5", "a b", "a\nb", "[::1]", "-a", "300.1.1.1", "*"] {
            assert_eq!(sockaddr(bad, 80), None, "{bad}");
        }
        assert_eq!(sockaddr("10.0.0.1", 0), None);
    }

    proptest! {
        #[test]
        fn names_are_safe_and_never_meet(a in any::<String>(), b in any::<String>()) {
            let name = haproxy_name(&a);
            prop_assert!(!name.is_empty());
            prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c)));
            prop_assert!(name.len() <= LONGEST_NAME + 10);
            prop_assert!(a == b || name != haproxy_name(&b));
        }

        #[test]
        fn quoted_text_is_one_word_on_one_line(text in any::<String>()) {
            let quoted = haproxy_quote(&text);
            prop_assert!(is_clean(&quoted));
            prop_assert_eq!(unquote(&quoted), Some(clean(&text)));
        }

        #[test]
        fn cleaned_text_is_clean(text in any::<String>()) {
            prop_assert!(is_clean(&clean(&text)));
            prop_assert_eq!(clean(&text).chars().count(), text.chars().count());
        }
    }

    /// Reads one word as HAProxy does: strong quotes, and backslashes outside of them.
    fn unquote(word: &str) -> Option<String> {
        let (mut text, mut quoted, mut chars) = (String::new(), false, word.chars());
        while let Some(c) = chars.next() {
            match c {
                '\'' => quoted = !quoted,
                '\\' if !quoted => text.push(chars.next()?),
                c if c.is_whitespace() && !quoted => return None,
                c => text.push(c),
            }
        }
        (!quoted).then_some(text)
    }
}
