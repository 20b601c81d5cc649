//! Errors, as they are told.

use std::error::Error;

/// Returns an error with its causes, in one line; a cause that was told already is left out.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_and_none_is_told_twice() {
        let error =
            anyhow::anyhow!("refused").context("cannot connect: refused").context("no answer");
        assert_eq!(chain(&*error), "no answer: cannot connect: refused");
    }
}
