//! Ports, as EXPOSE and the engine write them. Pure.

/// Reads `PORT`, `PORT-PORT`, each with `/tcp` or without; other protocols have no TCP ports.
pub(crate) fn tcp(word: &str) -> Vec<u16> {
    match word.split_once('/') {
        Some((ports, protocol)) if protocol.eq_ignore_ascii_case("tcp") => range(ports),
        Some(_) => Vec::new(),
        None => range(word),
    }
}

/// Reads `PORT` or `PORT-PORT`.
pub(crate) fn range(word: &str) -> Vec<u16> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first > 0 => (first..=last).collect(),
        _ => Vec::new(),
    }
}
