//! The small values that resource files and flags are made of: durations, shares, modes, signals.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration as people write it: `250ms`, `1s`, `1m30s`; a plain number means seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = services::parse_duration(text);
        duration.map(Self).map_err(|why| format!("{text:?} is no duration: {why}"))
    }
}

/// A part of a whole, between nothing and all of it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// One half.
    pub const HALF: Self = Self(0.5);

    /// Returns this part of `whole`, rounded down.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count is between 0 and the count"
    )]
    pub fn of(self, whole: usize) -> usize {
        (whole as f64 * self.0).floor() as usize
    }
}

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match number {
            Some(number) if (0.0..=100.0).contains(&number) => Ok(Self(number / 100.0)),
            _ => Err(format!("{text:?} is no share; write it as 50%")),
        }
    }
}

/// Permission bits, written in octal as in `chmod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(Self(bits)),
            _ => Err(format!("{text:?} is no file mode; write it as \"0644\"")),
        }
    }
}

/// A signal by name, with or without `SIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName(pub nix::sys::signal::Signal);

impl Default for SignalName {
    fn default() -> Self {
        Self(nix::sys::signal::Signal::SIGHUP)
    }
}

impl std::str::FromStr for SignalName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_uppercase();
        let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
        name.parse().map(Self).map_err(|_| format!("{text:?} is no signal; write it as HUP"))
    }
}

macro_rules! deserialize_from_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
deserialize_from_text!(Span, Share, Mode, SignalName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(read("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(read("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(read("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(read("1h"), Ok(Duration::from_hours(1)));
        assert!(read("soon").unwrap_err().starts_with("\"soon\" is no duration: use"));
    }

    #[test]
    fn shares_never_exceed_the_whole() {
        assert_eq!("50%".parse::<Share>().unwrap().of(5), 2);
        assert_eq!("100%".parse::<Share>().unwrap().of(5), 5);
        assert_eq!("0%".parse::<Share>().unwrap().of(5), 0);
        for bad in ["101%", "-1%", "0.5", "%", "NaN%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_go_by_their_names() {
        use nix::sys::signal::Signal;
        assert_eq!("HUP".parse::<SignalName>().unwrap().0, Signal::SIGHUP);
        assert_eq!("sigusr2".parse::<SignalName>().unwrap().0, Signal::SIGUSR2);
        assert!("9".parse::<SignalName>().is_err());
    }
}
