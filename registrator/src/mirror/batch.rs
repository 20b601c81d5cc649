//! How many keys go into one transaction by their size. Pure: no I/O, no clock, no async.

use std::sync::Arc;

/// How many bytes are sent at a time: half of what an agent takes unless it is told otherwise
/// (`limits.txn_max_req_len`, 512 KiB).
const SIZE: usize = 256 * 1024;
/// What an operation takes beside its key and value: names of fields, and the session.
const OPERATION: usize = 200;

/// Returns how many of these keys, from the first on and one at the least, go into one transaction.
pub(super) fn fitting(keys: &[(String, Arc<[u8]>)]) -> usize {
    let sizes = keys.iter().scan(0, |sum, (key, value)| {
        // The value is sent in base64.
        *sum += OPERATION + key.len() + value.len().div_ceil(3) * 4;
        Some(*sum)
    });
    sizes.take_while(|sum| *sum <= SIZE).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_keys_as_an_agent_takes_go_together_and_never_none() {
        let keys = |sizes: &[usize]| {
            let key = |size: &usize| ("services/web/a".to_owned(), Arc::from(vec![0; *size]));
            fitting(&sizes.iter().map(key).collect::<Vec<_>>())
        };
        assert_eq!(keys(&[300; 64]), 64);
        assert_eq!(keys(&[90_000; 6]), 2);
        assert_eq!(keys(&[400_000, 1]), 1);
    }
}
