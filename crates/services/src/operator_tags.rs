//! The tags that the operator gives to every instance, as text or as templates over the inspected
//! container. Pure: no I/O, no clock, no async.

use serde_json::Value;
use tera::{Context, Tera};

/// Tags for every instance.
#[derive(Debug, Default)]
pub struct OperatorTags {
    texts: Vec<String>,
}

impl OperatorTags {
    /// Reads a list separated by commas; a comma after a backslash, or within a template's braces,
    /// separates nothing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut texts = vec![String::new()];
        let (mut depth, mut before) = (0_usize, ' ');
        for character in text.chars() {
            let tag = texts.last_mut().expect("there is always one");
            match (before, character) {
                ('{', '{' | '%') => depth += 1,
                ('}' | '%', '}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            if character == ',' && before == '\\' {
                tag.pop();
                tag.push(',');
            } else if character == ',' && depth == 0 {
                texts.push(String::new());
            } else {
                tag.push(character);
            }
            before = character;
        }
        texts.retain(|tag| !tag.trim().is_empty());
        Self { texts: texts.into_iter().map(|tag| tag.trim().to_owned()).collect() }
    }

    /// Tells whether any of them is a template.
    #[must_use]
    pub fn has_templates(&self) -> bool {
        self.texts.iter().any(|text| is_template(text))
    }

    /// Returns the tags for a container, given what Docker says about it, and what is wrong with
    /// those that are missing.
    #[must_use]
    pub fn of(&self, inspected: &Value) -> (Vec<String>, Vec<String>) {
        let (mut tags, mut problems) = (Vec::new(), Vec::new());
        for text in &self.texts {
            if !is_template(text) {
                tags.push(text.clone());
                continue;
            }
            match render(text, inspected) {
                Ok(tag) if tag.trim().is_empty() => {}
                Ok(tag) => tags.push(tag.trim().to_owned()),
                Err(error) => problems.push(format!("the tag {text} is left out: {error}")),
            }
        }
        (tags, problems)
    }
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn render(text: &str, inspected: &Value) -> Result<String, String> {
    let context = Context::from_serialize(inspected).map_err(|error| error.to_string())?;
    // The whole message is a drawing of several lines; the first says what is wrong.
    Tera::default()
        .render_str(text, &context, false)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_tags_are_kept_in_order() {
        let (tags, problems) = OperatorTags::parse("b, a,,x\\,y").of(&json!({}));
        assert_eq!((tags, problems.len()), (vec!["b".into(), "a".into(), "x,y".into()], 0));
    }

    #[test]
    fn a_template_sees_the_inspected_container_and_may_hold_commas() {
        let inspected = json!({"Config": {"Hostname": "h1"}});
        let (tags, _) =
            OperatorTags::parse("{{ Config.Hostname }},{% if 1 in [1, 2] %}two{% endif %}")
                .of(&inspected);
        assert_eq!(tags, ["h1", "two"]);
    }

    #[test]
    fn a_bad_template_costs_its_own_tag_only() {
        for bad in ["{{ Config.Nothing.There }}", "{{ nonsense", "{% if %}"] {
            let (tags, problems) =
                OperatorTags::parse(&format!("a,{bad}")).of(&json!({"Config": {}}));
            assert_eq!(tags, ["a"], "{bad}");
            assert_eq!(problems.len(), 1, "{bad}");
        }
    }
}
