//! Values of flags and of Consul: percentages, and the spelling of durations. Pure: no I/O, no clock, no async.

use std::time::Duration;

/// Returns a time in Consul's spelling.
#[must_use]
pub(crate) fn spelled(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{}s", time.as_secs())
    } else {
        format!("{}ms", time.as_millis())
    }
}

/// Reads `50%` or `50`.
pub(crate) fn percent(text: &str) -> Result<u8, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse();
    number.ok().filter(|percent| *percent <= 100).ok_or_else(|| "use 0% to 100%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentages_end_at_a_hundred() {
        assert_eq!(percent("50%"), Ok(50));
        assert_eq!(percent("0"), Ok(0));
        assert!(percent("101").is_err() && percent("-1").is_err() && percent("half").is_err());
    }

    proptest! {
        #[test]
        fn what_is_spelled_is_read_again(milliseconds in 0..u64::from(u32::MAX) * 1_000) {
            let time = Duration::from_millis(milliseconds);
            prop_assert_eq!(services::parse_duration(&spelled(time)), Ok(time));
        }

        #[test]
        fn any_text_is_a_percentage_or_refused(text in "[0-9%. -]{0,6}|\\PC*") {
            prop_assert!(percent(&text).is_ok_and(|part| part <= 100) || percent(&text).is_err());
        }
    }
}
