//! What a Dockerfile tells of the ports of the image that is built by it. Pure: no I/O, no clock, no async.

use std::collections::BTreeSet;

use crate::exposed::tcp;

/// What is known of an image without building it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// The TCP ports that its Dockerfile exposes.
    pub(crate) ports: BTreeSet<u16>,
    /// The image that it is built on, which may expose more.
    pub(crate) base: Option<String>,
}

/// Reads a Dockerfile up to the stage `target`, or to its end. A target that is no stage tells nothing.
pub(crate) fn image(dockerfile: &str, target: Option<&str>) -> Image {
    let mut stages: Vec<(Option<String>, Image)> = Vec::new();
    for line in instructions(dockerfile) {
        let Some((instruction, words)) = line.trim().split_once(char::is_whitespace) else {
            continue;
        };
        if instruction.eq_ignore_ascii_case("FROM") {
            if target.is_some_and(|target| is_last(&stages, target)) {
                break;
            }
            let stage = stage(words, &stages);
            stages.push(stage);
        } else if instruction.eq_ignore_ascii_case("EXPOSE")
            && let Some((_, image)) = stages.last_mut()
        {
            image.ports.extend(words.split_whitespace().flat_map(tcp));
        }
    }
    let told = target.is_none_or(|target| is_last(&stages, target));
    stages.pop().filter(|_| told).map(|(_, image)| image).unwrap_or_default()
}

/// Tells whether the last stage is the one that is meant, by name or by number.
fn is_last(stages: &[(Option<String>, Image)], target: &str) -> bool {
    let Some((name, _)) = stages.last() else { return false };
    let named = name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(target));
    named || target.parse() == Ok(stages.len() - 1)
}

/// Begins a stage: it has what the earlier one has that it is built on.
fn stage(words: &str, earlier: &[(Option<String>, Image)]) -> (Option<String>, Image) {
    let mut words = words.split_whitespace().filter(|word| !word.starts_with("--"));
    let base = words.next().unwrap_or_default();
    let named = words.next().is_some_and(|word| word.eq_ignore_ascii_case("AS"));
    let name = words.next().filter(|_| named).map(str::to_owned);
    let same = |other: &&(Option<String>, Image)| {
        other.0.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(base))
    };
    let known = !base.is_empty() && base != "scratch";
    let image = match earlier.iter().rev().find(same) {
        Some((_, image)) => image.clone(),
        None => Image { base: known.then(|| base.to_owned()), ..Image::default() },
    };
    (name, image)
}

/// Returns the instructions, each in one line. What a shell or another program reads is none, though it may begin with
/// `from`.
fn instructions(dockerfile: &str) -> Vec<String> {
    let mut lines = dockerfile.lines();
    let mut all = Vec::new();
    let mut line = String::new();
    while let Some(part) = lines.next() {
        if part.trim_start().starts_with('#') {
            continue;
        }
        match part.trim_end().strip_suffix('\\') {
            Some(part) => {
                line.push_str(part);
                line.push(' ');
                continue;
            }
            None => line.push_str(part),
        }
        for end in here_documents(&line) {
            // One without an end is none.
            if let Some(at) = lines.clone().position(|line| line.trim_start_matches('\t') == end) {
                lines.nth(at);
            }
        }
        all.push(std::mem::take(&mut line));
    }
    all.push(line);
    all
}

/// Returns the words that end the documents which follow an instruction, as in `RUN python3 <<EOF`.
fn here_documents(line: &str) -> Vec<String> {
    let instruction = line.split_whitespace().next().unwrap_or_default();
    if !["RUN", "COPY", "ADD"].iter().any(|one| instruction.eq_ignore_ascii_case(one)) {
        return Vec::new();
    }
    let end = |word: &str| {
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let word = word.strip_prefix('-').unwrap_or(word).trim_start_matches(['"', '\'']);
        let end: String =
            word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        (!end.is_empty()).then_some(end)
    };
    line.split_whitespace().filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dockerfile: &str, target: Option<&str>) -> (Vec<u16>, Option<String>) {
        let image = image(dockerfile, target);
        (image.ports.into_iter().collect(), image.base)
    }

    #[test]
    fn tcp_ports_are_exposed_in_any_spelling() {
        let text = "# EXPOSE 1\nFROM a\n expose 80 443/tcp\nEXPOSE 53/udp 80 $PORT 8080 \\\n  # more\n  8081 # web\nRUN EXPOSE 1\n";
        assert_eq!(read(text, None), (vec![80, 443, 8080, 8081], Some("a".into())));
        assert_eq!(read("EXPOSE 80\n", None), (vec![], None), "of no image");
    }

    #[test]
    fn a_stage_has_its_own_ports_and_those_of_the_stage_that_it_is_built_on() {
        let text = "ARG V=1\nFROM --platform=linux/amd64 node:$V AS Build\nEXPOSE 9229\n\
                    FROM nginx:1 as base\nEXPOSE 80\nFROM BASE AS test\nEXPOSE 81\n\
                    FROM base\nCOPY --from=build /x /x\nEXPOSE 443\n";
        let nginx = || Some("nginx:1".to_owned());
        for (target, ports, base) in [
            (None, vec![80, 443], nginx()),
            (Some("build"), vec![9229], Some("node:$V".into())),
            (Some("base"), vec![80], nginx()),
            (Some("TEST"), vec![80, 81], nginx()),
            (Some("3"), vec![80, 443], nginx()),
            (Some("${STAGE}"), vec![], None),
        ] {
            assert_eq!(read(text, target), (ports, base), "{target:?}");
        }
        assert_eq!(read("FROM scratch\nEXPOSE 1\n", None), (vec![1], None));
    }

    #[test]
    fn what_others_read_is_no_instruction() {
        for text in [
            "FROM a\nEXPOSE 80\nRUN psql -c 'SELECT 1 \\\n  FROM b'\n",
            "FROM a\nEXPOSE 80\nRUN python3 <<-\"EOF\" >/x\nfrom os import path\n\tEOF\n",
            "FROM a\nRUN sh <<A && sh <<B\nEXPOSE 1\nA\nfrom b\nB\nEXPOSE 80\n",
            "FROM a\nRUN echo 1 <<END\nEXPOSE 80\n",
        ] {
            assert_eq!(read(text, None), (vec![80], Some("a".into())), "{text}");
        }
    }
}
