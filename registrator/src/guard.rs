//! Whether a list of containers can be believed. Pure: no I/O, no clock, no async.

/// Fewer removals than this at once are never suspicious.
const SUSPICIOUS: usize = 5;

/// Tells whether removing `removals` of `all` instances at once is more than `percent` of them
/// allows, so that Docker is better asked again.
#[must_use]
pub(crate) fn is_suspicious(removals: usize, all: usize, percent: u8) -> bool {
    removals >= SUSPICIOUS && removals * 100 > all * usize::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_removals_are_believed_and_so_are_many_of_very_many() {
        assert!(!is_suspicious(4, 4, 50));
        assert!(is_suspicious(5, 9, 50));
        assert!(!is_suspicious(5, 10, 50));
        assert!(!is_suspicious(100, 200, 50));
        assert!(is_suspicious(101, 200, 50));
    }

    #[test]
    fn a_limit_of_a_hundred_percent_believes_everything() {
        assert!(!is_suspicious(200, 200, 100));
        assert!(is_suspicious(5, 200, 0));
    }
}
