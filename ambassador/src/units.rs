//! Times, as they are written on the command line.

use std::time::Duration;

/// Reads a time; a bare number means seconds.
pub(crate) fn time(text: &str) -> Result<Duration, &'static str> {
    services::parse_duration(text).ok_or("use a time such as 30s, 1m30s or 500ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_have_a_unit() {
        assert_eq!(time("60"), time("1m"));
        assert!(time("soon").is_err());
    }
}
