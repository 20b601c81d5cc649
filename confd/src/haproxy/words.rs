//! Splits a line of an HAProxy file into words as HAProxy itself does. Pure: no I/O, no clock, no async.

use std::str::Chars;

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// What HAProxy sees after quotes and escapes are taken away.
    pub(crate) text: String,
    /// Whether HAProxy would replace a `$variable` in it: then its value is not known here.
    pub(crate) expands: bool,
}

/// The words of a line in one piece: there may be fifty thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line(Box<str>);

/// Ends a word; no line of a file has it.
const END: char = '\0';
/// Ends a word in which HAProxy would replace a variable.
const END_OF_VARIABLE: &str = "\u{1}\0";

impl Line {
    /// Packs words.
    pub(crate) fn of(words: &[Word]) -> Self {
        let mut line = String::new();
        for word in words {
            line.push_str(&word.text);
            if word.expands {
                line.push_str(END_OF_VARIABLE);
            } else {
                line.push(END);
            }
        }
        Self(line.into())
    }

    /// Returns the word at a position.
    pub(crate) fn word(&self, position: usize) -> Option<&str> {
        self.0.split_terminator(END).nth(position)
    }
}

/// Why a line cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A quote that is never closed.
    #[error("unclosed quote")]
    Quote,
    /// A backslash at the very end of a line, or before a wrong hexadecimal code.
    #[error("backslash before nothing it could protect")]
    Escape,
}

/// Returns the words of a line, without its comment.
pub(crate) fn split(line: &str) -> Result<Vec<Word>, Unreadable> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '#' => break,
            letter if letter.is_ascii_whitespace() => words.extend(word.take()),
            letter => {
                let word = word.get_or_insert_with(|| Word { text: String::new(), expands: false });
                match letter {
                    '\\' => word.text.push(escaped(&mut letters)?),
                    '\'' => single_quoted(&mut letters, word)?,
                    '"' => double_quoted(&mut letters, word)?,
                    letter => word.text.push(letter),
                }
            }
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(letters: &mut Chars<'_>, word: &mut Word) -> Result<(), Unreadable> {
    loop {
        match letters.next().ok_or(Unreadable::Quote)? {
            '\'' => return Ok(()),
            letter => word.text.push(letter),
        }
    }
}

fn double_quoted(letters: &mut Chars<'_>, word: &mut Word) -> Result<(), Unreadable> {
    loop {
        match letters.next().ok_or(Unreadable::Quote)? {
            '"' => return Ok(()),
            '\\' => word.text.push(escaped(letters)?),
            letter => {
                word.expands |= letter == '$';
                word.text.push(letter);
            }
        }
    }
}

/// Reads what follows a backslash; one that protects nothing stands for itself.
fn escaped(letters: &mut Chars<'_>) -> Result<char, Unreadable> {
    let letter = match letters.as_str().chars().next().ok_or(Unreadable::Escape)? {
        letter @ (' ' | '\\' | '#' | '"' | '\'' | '$') => letter,
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'x' => {
            let code =
                letters.as_str().get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            letters.nth(1);
            char::from(code.ok_or(Unreadable::Escape)?)
        }
        _ => return Ok('\\'),
    };
    letters.next();
    Ok(letter)
}

/// Writes words as a line that reads back as the same words.
#[cfg(test)]
pub(crate) fn join(words: &[Word]) -> String {
    let quote = |word: &Word| {
        if word.expands {
            return format!("\"{}\"", word.text.replace('\\', "\\\\").replace('"', "\\\""));
        }
        format!("'{}'", word.text.replace('\'', "'\\''"))
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn comments_quotes_and_escapes_are_read_as_haproxy_reads_them() {
        assert_eq!(texts("  server web1\t127.0.0.1:80 # one"), ["server", "web1", "127.0.0.1:80"]);
        assert_eq!(texts(r"a\ b \#c 'd # e' f'g'h"), ["a b", "#c", "d # e", "fgh"]);
        assert_eq!(texts(r#""a \"b\" \n" c"#), ["a \"b\" \n", "c"]);
        assert_eq!(texts(r"\n\x41\\ \q '' x#y"), ["\nA\\", r"\q", "", "x"]);
        assert_eq!(split("'open"), Err(Unreadable::Quote));
        assert_eq!(split("end \\"), Err(Unreadable::Escape));
    }

    #[test]
    fn variables_expand_in_double_quotes_only() {
        assert!(split(r#""${PORT}""#).unwrap()[0].expands);
        assert!(!split(r#"'$PORT' \$PORT "\$PORT""#).unwrap().iter().any(|word| word.expands));
    }

    fn word() -> impl Strategy<Value = Word> {
        ("[ -~\t]{0,12}", any::<bool>()).prop_map(|(text, expands)| {
            let text = if expands { format!("$X{}", text.replace('$', "")) } else { text };
            Word { text, expands }
        })
    }

    proptest! {
        #[test]
        fn words_written_and_read_again_are_the_same(words in prop::collection::vec(word(), 0..8), comment in "[ -~]{0,20}") {
            let line = format!("\t{}  #{comment}", join(&words));
            prop_assert_eq!(split(&line).unwrap(), words);
        }

        #[test]
        fn any_line_is_read_or_refused(line in "\\PC{0,60}") {
            let _ = split(&line);
        }
    }
}
