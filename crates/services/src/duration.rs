//! Durations as people and Consul write them: `10s`, `1m30s`, `500ms`. Pure.

use std::time::Duration;

/// Units and their nanoseconds: those of Go's `time.ParseDuration`, which Consul uses, and days. A name stands before
/// those that it begins with.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The longest one: what Go's `time.Duration` holds, 292 years.
const LONGEST: u128 = i64::MAX as u128;

/// More decimals of a number than these mean less than a nanosecond.
const DECIMALS: usize = 14;

/// What is said of anything else.
const REFUSED: &str = "use a time such as 30s, 1m30s or 500ms";

/// Reads a duration; a plain number means seconds.
///
/// # Errors
/// Says how to write one.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let nanoseconds = read(text.trim()).filter(|all| *all <= LONGEST).ok_or(REFUSED)?;
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let seconds = u64::try_from(seconds).map_err(|_| REFUSED)?;
    Ok(Duration::new(seconds, u32::try_from(rest).map_err(|_| REFUSED)?))
}

fn read(text: &str) -> Option<u128> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(u128::from(seconds) * 1_000_000_000);
    }
    let (mut rest, mut total) = (text, 0_u128);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &rest[..digits];
        rest = &rest[digits..];
        let (name, factor) = UNITS.iter().find(|(name, _)| rest.starts_with(name))?;
        rest = &rest[name.len()..];
        total = total.checked_add(times(number, *factor)?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// Returns so many times `factor`, rounded down; without floating point, which has no nanoseconds left beside days.
fn times(number: &str, factor: u128) -> Option<u128> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && decimals.is_empty() || decimals.contains('.') {
        return None;
    }
    let value = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<u64>().ok().map(u128::from),
    };
    let decimals = &decimals[..decimals.len().min(DECIMALS)];
    let part = value(decimals)? * factor / 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    value(whole)?.checked_mul(factor)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_consul_writes_them() {
        let cases = [
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("0.0000000000000009h", 0),
            ("500ms", 500_000_000),
            ("3us4µs5ns", 7_005),
            (" 2d ", 172_800_000_000_000),
            ("15", 15_000_000_000),
            ("0", 0),
            // More than floating point could tell from its neighbours.
            ("172800000000001ns", 172_800_000_000_001),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(parse(text).map(|time| time.as_nanos()), Ok(nanoseconds), "{text}");
        }
        let bad = [
            "",
            "s",
            "ten",
            "10x",
            "-5s",
            "1s1",
            "1 s",
            "1e9s",
            "1..5s",
            ".s",
            "1.s.",
            "1.5",
            "99999999999s",
            "9223372036854775808ns",
            "99999999999999999999h",
        ];
        for bad in bad {
            assert_eq!(parse(bad), Err(REFUSED), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([0-9.]{0,12}[a-zµ]{0,2}){0,4}|\\PC*") {
            if let Ok(time) = parse(&text) {
                prop_assert_eq!(parse(&format!("{}ns", time.as_nanos())), Ok(time));
            }
        }

        #[test]
        fn numbers_mean_what_they_say(number in 0.0..100_000.0_f64, unit in 0..UNITS.len()) {
            let (name, factor) = UNITS[unit];
            let text = format!("{number:.3}{name}");
            #[allow(clippy::cast_precision_loss, reason = "compared with a tolerance")]
            let expected = text.trim_end_matches(name).parse::<f64>().unwrap() * factor as f64;
            #[allow(clippy::cast_precision_loss, reason = "compared with a tolerance")]
            let read = parse(&text).unwrap().as_nanos() as f64;
            prop_assert!((read - expected).abs() <= 1.0 + expected * 1e-9, "{text}: {read}, {expected}");
        }
    }
}
