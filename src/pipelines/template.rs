//! Texts with things to fill in: `{checkout.sha}`, `{environment}`, `{matrix.suite}`. `{{` and `}}` are braces, and so are those around
//! labels of a metric, `err{v='new'}`: no name holds a quoted value.

use serde_json::{Map, Value};

use super::expr::Facts;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateFault {
    /// Characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// A part of a text.
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// The paths that a text asks for.
pub(super) fn names(text: &str) -> Result<Vec<&str>, TemplateFault> {
    let pieces = pieces(text)?;
    Ok(pieces.into_iter().filter_map(|piece| if let Piece::Name(name) = piece { Some(name) } else { None }).collect())
}

/// All texts of settings.
pub(super) fn texts_of<'v>(value: &'v Value, out: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(list) => list.iter().for_each(|item| texts_of(item, out)),
        Value::Object(map) => map.values().for_each(|item| texts_of(item, out)),
        _ => {}
    }
}

/// What becomes of the parts of a text that its author wrote: `${...}` in them stands for a secret. What is filled in is never read that way, since it
/// may come from anybody.
pub(super) type Own<'o> = &'o mut dyn FnMut(&str) -> Result<String, String>;

/// Fills in a text. What is not known is a fault with the path.
pub(super) fn fill(text: &str, facts: &Facts) -> Result<String, String> {
    fill_with(text, facts, &mut |own| Ok(own.to_owned()))
}

/// The same; `own` is given each part that the author wrote.
pub(super) fn fill_with(text: &str, facts: &Facts, own: Own<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text).map_err(|fault| fault.message)? {
        match piece {
            Piece::Text(text) => out.push_str(&own(text)?),
            Piece::Name(path) => match look_up(path, facts) {
                Some(Value::String(text)) => out.push_str(text),
                Some(Value::Null) | None => return Err(format!("there is no {{{path}}} here")),
                Some(value) => out.push_str(&value.to_string()),
            },
        }
    }
    Ok(out)
}

/// Fills in every text of a value. A text that is one path and nothing else becomes the value itself, with its type.
pub fn fill_all(value: &Value, facts: &Facts) -> Result<Value, String> {
    fill_all_with(value, facts, &mut |own| Ok(own.to_owned()))
}

/// The same; `own` is given each part that the author wrote.
pub(super) fn fill_all_with(value: &Value, facts: &Facts, own: Own<'_>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => match pieces(text).map_err(|fault| fault.message)?.as_slice() {
            [Piece::Name(path)] => {
                let found = look_up(path, facts).filter(|value| !value.is_null());
                found.cloned().ok_or_else(|| format!("there is no {{{path}}} here"))?
            }
            _ => Value::String(fill_with(text, facts, own)?),
        },
        Value::Array(list) => {
            let mut out = Vec::with_capacity(list.len());
            for item in list {
                out.push(fill_all_with(item, facts, own)?);
            }
            Value::Array(out)
        }
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                out.insert(key.clone(), fill_all_with(value, facts, own)?);
            }
            Value::Object(out)
        }
        other => other.clone(),
    })
}

/// What stands at a path with dots.
pub(super) fn look_up<'a>(path: &str, facts: &'a Facts) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let mut value = facts.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Value::Array(list) => list.get(part.parse::<usize>().ok()?)?,
            other => other.get(part)?,
        };
    }
    Some(value)
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateFault> {
    let mut out = Vec::new();
    let (mut at, mut from, mut labels) = (0, 0, 0_usize);
    let bytes = text.as_bytes();
    let fault = |byte: usize, message: String| TemplateFault { column: text[..byte].chars().count() + 1, message };
    while at < bytes.len() {
        match bytes[at] {
            // What `${...}` stands for is filled in elsewhere.
            b'$' if bytes.get(at + 1) == Some(&b'{') => at += text[at..].find('}').map_or(2, |end| end + 1),
            b'{' if begins_labels(&text[at + 1..]) => {
                labels += 1;
                at += 1;
            }
            b'}' if labels > 0 => {
                labels -= 1;
                at += 1;
            }
            brace @ (b'{' | b'}') if bytes.get(at + 1) == Some(&brace) => {
                out.push(Piece::Text(&text[from..=at]));
                at += 2;
                from = at;
            }
            b'{' => {
                let end = text[at..].find('}').map(|end| at + end);
                let Some(end) = end else {
                    return Err(fault(at, "this { is not closed; for the brace itself write {{".to_owned()));
                };
                let name = &text[at + 1..end];
                let good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
                if name.is_empty() || !name.chars().all(good) || name.starts_with('.') {
                    return Err(fault(
                        at,
                        format!(
                            "{{{name}}} is no name such as {{stage.output}}; for the braces themselves write {{{{ and }}}}"
                        ),
                    ));
                }
                out.push(Piece::Text(&text[from..at]));
                out.push(Piece::Name(name));
                at = end + 1;
                from = at;
            }
            b'}' => return Err(fault(at, "this } closes nothing; for the brace itself write }}".to_owned())),
            _ => at += 1,
        }
    }
    out.push(Piece::Text(&text[from..]));
    out.retain(|piece| !matches!(piece, Piece::Text("")));
    Ok(out)
}

/// Whether a brace is followed by a label of a metric and its value: `v='new'`, `code=~"5.."`.
fn begins_labels(text: &str) -> bool {
    let rest = text.trim_start().trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if rest.len() == text.trim_start().len() {
        return false;
    }
    let rest = rest.trim_start();
    let value = ["=~", "!~", "!=", "="].iter().find_map(|sign| rest.strip_prefix(sign));
    value.is_some_and(|value| value.trim_start().starts_with(['\'', '"']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Facts {
        json!({"checkout": {"sha": "9f3c1e2"}, "run": {"number": 118}, "list": ["a", "b"]})
            .as_object()
            .cloned()
            .unwrap()
    }

    #[test]
    fn names_are_filled_in_and_doubled_braces_are_braces() {
        assert_eq!(fill("shop:{run.number}@{checkout.sha}", &facts()).unwrap(), "shop:118@9f3c1e2");
        assert_eq!(fill("{{x}} {list.1} ${env:HOME}", &facts()).unwrap(), "{x} b ${env:HOME}");
        assert_eq!(
            fill_all(&json!({"a": ["{list}", "{run.number}", 3]}), &facts()).unwrap(),
            json!({"a": [["a", "b"], 118, 3]})
        );
        assert!(fill("{checkout.tag}", &facts()).unwrap_err().contains("{checkout.tag}"));
    }

    #[test]
    fn labels_of_a_metric_are_text_and_what_is_in_them_is_filled_in() {
        let text = "err{v='{checkout.sha}', code=~\"5..\"} < 2 * err{ v = 'old' } + {run.number}";
        assert_eq!(fill(text, &facts()).unwrap(), "err{v='9f3c1e2', code=~\"5..\"} < 2 * err{ v = 'old' } + 118");
        assert!(fill("err{v=old}", &facts()).is_err() && fill("{'a'}", &facts()).is_err());
        assert!(fill("err{v='new'}}", &facts()).is_err());
    }

    #[test]
    fn a_slip_is_told_with_its_column() {
        assert_eq!(names("é {a b}").unwrap_err().column, 3);
        assert!(names("{x").unwrap_err().message.contains("not closed"));
        assert!(names("x}").is_err() && names("{}").is_err());
        assert_eq!(names("{a}-{b.c}").unwrap(), ["a", "b.c"]);
    }
}
