//! The index of blocking queries, as a state machine. Pure: no I/O, no clock, no async.

/// Returns the index to ask with after Consul `answered` (its `X-Consul-Index`) a query that
/// was asked with `previous`; `None` asks without one, which answers at once.
///
/// An index that went back means that Consul restarted or its state was restored: waiting for
/// it to pass the old one could take for ever, so the next query starts afresh. An index of 0
/// would make the next query not wait at all, so it counts as 1.
///
/// ```
/// use consul::index::next;
/// assert_eq!(next(None, Some(7)), Some(7));
/// assert_eq!(next(Some(7), Some(7)), Some(7)); // the wait ran out, nothing changed
/// assert_eq!(next(Some(7), Some(3)), None); // went back
/// assert_eq!(next(None, Some(0)), Some(1));
/// ```
#[must_use]
pub fn next(previous: Option<u64>, answered: Option<u64>) -> Option<u64> {
    let answered = answered?.max(1);
    match previous {
        Some(previous) if answered < previous => None,
        _ => Some(answered),
    }
}

#[cfg(test)]
mod tests {
    use super::next;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_query_is_never_asked_with_zero(previous: Option<u64>, answered: Option<u64>) {
            prop_assert_ne!(next(previous, answered), Some(0));
        }

        #[test]
        fn an_index_that_went_back_starts_afresh(
            (previous, answered) in (2_u64..).prop_flat_map(|index| (Just(index), 0..index))
        ) {
            prop_assert_eq!(next(Some(previous), Some(answered)), None);
        }

        #[test]
        fn an_index_that_stayed_or_grew_is_used(
            (previous, answered) in (1_u64..).prop_flat_map(|index| (Just(index), index..))
        ) {
            prop_assert_eq!(next(Some(previous), Some(answered)), Some(answered));
        }

        #[test]
        fn an_answer_without_an_index_is_followed_by_a_query_without_one(previous: Option<u64>) {
            prop_assert_eq!(next(previous, None), None);
        }

        // However the index jumps about, no change is missed: once it stops moving, the query
        // waits with the last index Consul named, after at most one further answer.
        #[test]
        fn the_state_settles_on_the_last_index(jumps: Vec<u64>, last: u64) {
            let mut state = None;
            for index in jumps {
                state = next(state, Some(index));
            }
            for _ in 0..2 {
                state = next(state, Some(last));
            }
            prop_assert_eq!(state, Some(last.max(1)));
        }
    }
}
