//! Values of flags: durations, percentages and booleans. Pure: no I/O, no clock, no async.

use std::time::Duration;

/// Units of time, longest name first where one begins like another.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The longest time that is read, in milliseconds: as many seconds as a bare number may say.
const LONGEST: u64 = u32::MAX as u64 * 1_000;

/// Reads `90s`, `1m30s`, `500ms`, or a bare number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || "use a time such as 30s, 1m30s or 500ms".to_owned();
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let number: u64 = rest[..digits].parse().map_err(|_| refused())?;
        let after = &rest[digits..];
        let (name, factor) =
            UNITS.iter().find(|(name, _)| after.starts_with(name)).ok_or_else(refused)?;
        let part = number.checked_mul(*factor).ok_or_else(refused)?;
        total = total.checked_add(part).ok_or_else(refused)?;
        rest = &after[name.len()..];
    }
    if text.is_empty() || total > LONGEST {
        Err(refused())
    } else {
        Ok(Duration::from_millis(total))
    }
}

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
    fn times_are_read_with_and_without_units() {
        for (text, milliseconds) in [
            ("60", 60_000),
            ("0", 0),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("2h", 7_200_000),
            ("172800000001ms", 172_800_000_001),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "s", "-1", "1x", "1m30", "99999999999s", "50000d", "1.5s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percentages_end_at_a_hundred() {
        assert_eq!(percent("50%"), Ok(50));
        assert_eq!(percent("0"), Ok(0));
        assert!(percent("101").is_err() && percent("-1").is_err() && percent("half").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([0-9]{0,12}[a-z]{0,2}){0,4}|\\PC*") {
            if let Ok(time) = duration(&text) {
                prop_assert_eq!(duration(&spelled(time)), Ok(time));
            }
            let _ = percent(&text);
        }
    }
}
