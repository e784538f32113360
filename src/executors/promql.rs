//! Comparisons in PromQL, split into their sides, and what Prometheus answers to questions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A sample: labels and value.
pub(super) type Sample = (BTreeMap<String, String>, f64);

/// What Prometheus answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    /// `success` or `error`.
    pub(super) status: String,
    /// What was wrong.
    pub(super) error: String,
    /// The result.
    pub(super) data: Data,
}

/// The result of a question.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Data {
    /// `vector`, `scalar`, `matrix` or `string`.
    #[serde(rename = "resultType")]
    pub(super) kind: String,
    /// Series, or one point.
    pub(super) result: Value,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    /// What it is called in what is said: its left side where nobody named it.
    pub(super) name: String,
    /// What is on the left of the sign.
    pub(super) left: String,
    /// `<`, `<=`, `>`, `>=`, `==` or `!=`.
    pub(super) sign: &'static str,
    /// `on(...)`, `group_left(...)` and the like.
    pub(super) matching: String,
    /// What is on the right of it.
    pub(super) right: String,
    /// How its figures are shown: `percent`, `ms`, or what stands behind them.
    pub(super) unit: Option<String>,
    /// What it is compared with in what is said.
    pub(super) base: Option<String>,
}

/// Splits a comparison at its sign (the grammar is in Prometheus' "Operators").
pub(super) fn split(text: &str, name: Option<String>) -> Result<Check, String> {
    let text = text.trim();
    let text = text.strip_prefix("prometheus:").unwrap_or(text).trim();
    let mut depth = 0_i32;
    let mut quote = None;
    let mut sign: Option<(usize, &'static str)> = None;
    let mut letters = text.char_indices();
    let mut word = 0;
    while let Some((at, letter)) = letters.next() {
        if let Some(end) = quote {
            match letter {
                '\\' if end != '`' => drop(letters.next()),
                letter if letter == end => quote = None,
                _ => {}
            }
            continue;
        }
        match letter {
            '"' | '\'' | '`' => quote = Some(letter),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '#' => return Err("a check holds no comment".to_owned()),
            '<' | '>' | '=' | '!' if depth == 0 => {
                let known = ["<=", ">=", "==", "!=", "<", ">"].into_iter().find(|sign| text[at..].starts_with(sign));
                let Some(known) = known else { return Err(format!("{letter} is no comparison; use < <= > >= == !=")) };
                if sign.replace((at, known)).is_some() {
                    return Err("it compares twice; write each comparison as a check of its own".to_owned());
                }
                if known.len() == 2 {
                    letters.next();
                }
            }
            _ => {}
        }
        if depth < 0 {
            return Err(format!("{letter} closes nothing"));
        }
        if letter.is_alphanumeric() || letter == '_' {
            continue;
        }
        word = set_operator(text, word, at, depth)?;
    }
    set_operator(text, word, text.len(), depth)?;
    if depth != 0 || quote.is_some() {
        return Err("a bracket or a quote is not closed".to_owned());
    }
    let Some((at, sign)) = sign else { return Err("it compares nothing; write such as errors < 0.01".to_owned()) };
    let left = text[..at].trim().to_owned();
    let (matching, right) = modifiers(text[at + sign.len()..].trim());
    if left.is_empty() || right.is_empty() {
        return Err(format!("one side of {sign} is empty"));
    }
    let name = name.unwrap_or_else(|| left.chars().take(60).collect());
    Ok(Check { name, left, sign, matching, right, unit: None, base: None })
}

/// Refuses `and`, `or` and `unless` between comparisons; gives where the next word begins.
fn set_operator(text: &str, word: usize, at: usize, depth: i32) -> Result<usize, String> {
    let found = text.get(word..at).unwrap_or("").trim_start_matches(|letter: char| !letter.is_alphanumeric());
    if depth == 0 && ["and", "or", "unless"].iter().any(|operator| found.eq_ignore_ascii_case(operator)) {
        return Err(format!("it joins with {found}; write each comparison as a check of its own"));
    }
    Ok(at)
}

/// Takes `bool`, `on(...)`, `ignoring(...)`, `group_left(...)` and `group_right(...)` off the right side.
fn modifiers(text: &str) -> (String, String) {
    let mut matching = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let known = ["bool", "on", "ignoring", "group_left", "group_right"];
        let Some(known) = known.into_iter().find(|known| word.eq_ignore_ascii_case(known)) else { break };
        let after = after.trim_start();
        let labels = after.strip_prefix('(').filter(|_| known != "bool").and_then(|inner| inner.split_once(')'));
        // `group_left` may stand without labels.
        match labels {
            Some((labels, after)) => {
                matching.push(format!("{known}({labels})"));
                rest = after.trim_start();
            }
            None => {
                // What follows in brackets must not be taken for labels.
                let empty = if known.starts_with("group") { "()" } else { "" };
                matching.extend((known != "bool").then(|| format!("{known}{empty}")));
                rest = after;
            }
        }
    }
    (matching.join(" "), rest.to_owned())
}

/// The samples in an answer, a vector or a scalar, and their moment; `None` for anything else.
pub(super) fn samples(data: &Data) -> Option<(Vec<Sample>, Option<String>)> {
    let point = |point: &Value| -> Option<(f64, String)> {
        let value = point.get(1)?.as_str()?.parse().ok()?;
        Some((value, point.get(0)?.as_number()?.to_string()))
    };
    match data.kind.as_str() {
        "scalar" => {
            let (value, moment) = point(&data.result)?;
            Some((vec![(BTreeMap::new(), value)], Some(moment)))
        }
        "vector" => {
            let mut moment = None;
            let mut all = Vec::new();
            for series in data.result.as_array()? {
                let (value, at) = point(series.get("value")?)?;
                moment = Some(at);
                let labels = series.get("metric").and_then(Value::as_object).into_iter().flatten();
                let labels = labels.filter_map(|(label, text)| Some((label.clone(), text.as_str()?.to_owned())));
                all.push((labels.collect(), value));
            }
            Some((all, moment))
        }
        _ => None,
    }
}

/// What a check said once.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Holds(String),
    Fails(String),
    /// There is no data, and why.
    Nothing(String),
}

impl Said {
    pub(super) fn words(&self) -> String {
        match self {
            Said::Holds(values) => format!("holds, {values}"),
            Said::Fails(values) => format!("fails, {values}"),
            Said::Nothing(why) => format!("no data: {why}"),
        }
    }
}

/// What the pairs say. A pair that has no number on one side says nothing.
pub(super) fn judge(check: &Check, left: &[Sample], right: &[Sample], pairs: &[Sample], base: Option<f64>) -> Said {
    let value = |side: &[Sample], pair: &Sample| -> Option<f64> {
        let fits = |sample: &&Sample| pair.0.iter().all(|(label, text)| sample.0.get(label) == Some(text));
        let alone = (side.len() == 1).then(|| side.first()).flatten();
        side.iter().find(fits).or(alone).map(|(_, value)| *value)
    };
    let mut good = None;
    let mut unclear = false;
    for pair in pairs {
        let (one, other) = (value(left, pair), value(right, pair));
        if one.is_some_and(f64::is_nan) || other.is_some_and(f64::is_nan) {
            unclear = true;
            continue;
        }
        let known = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| check.shown(value));
        let base = base.filter(|base| !base.is_nan()).map(|base| check.shown(base));
        let labels: Vec<String> = pair.0.iter().take(3).map(|(label, text)| format!("{label}={text}")).collect();
        let among = if pairs.len() > 1 { format!(" for {}", labels.join(", ")) } else { String::new() };
        if pair.1 == 1.0 {
            good.get_or_insert_with(|| match base {
                Some(base) => format!("{} (base {base})", known(one)),
                None => format!("{} ({} {})", known(one), check.sign, known(other)),
            });
        } else {
            let than = base
                .map_or_else(|| format!(", not {} {}", check.sign, known(other)), |base| format!(" vs base {base}"));
            return Said::Fails(format!("{}{than}{among}", known(one)));
        }
    }
    match good {
        Some(_) if unclear => Said::Nothing(format!("a part of {} is not a number", check.left)),
        Some(values) => Said::Holds(values),
        None if unclear => Said::Nothing(format!("{} is not a number", check.left)),
        None => Said::Nothing(format!("no series of {} belongs to one of {}", check.left, check.right)),
    }
}

impl Check {
    /// A figure with its unit: a part of one as percent, seconds as milliseconds.
    fn shown(&self, value: f64) -> String {
        match self.unit.as_deref() {
            None => short(value),
            Some("percent") => format!("{}%", short(value * 100.0)),
            Some("ms") => format!("{} ms", short(value * 1000.0)),
            Some(unit) => format!("{} {unit}", short(value)),
        }
    }
}

/// A number with four significant digits at most.
pub(super) fn short(number: f64) -> String {
    if !number.is_finite() || number == 0.0 {
        return number.to_string();
    }
    let size = number.abs().log10().floor();
    if !(-6.0..15.0).contains(&size) {
        return format!("{number:.3e}");
    }
    // Between 0 and 9 for the sizes that are left.
    let digits = (3.0 - size).max(0.0) as usize;
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(text: &str) -> Result<(String, &'static str, String, String), String> {
        split(text, None).map(|check| (check.left, check.sign, check.matching, check.right))
    }

    fn apart(
        left: &str,
        sign: &'static str,
        matching: &str,
        right: &str,
    ) -> Result<(String, &'static str, String, String), String> {
        Ok((left.to_owned(), sign, matching.to_owned(), right.to_owned()))
    }

    #[test]
    fn a_comparison_is_split_at_its_own_sign_only() {
        assert_eq!(
            sides("err{v='new'} < 2 * err{v='old'} + 0.001"),
            apart("err{v='new'}", "<", "", "2 * err{v='old'} + 0.001")
        );
        assert_eq!(sides("prometheus:a{x!=\"<\",y=~'>'} >= b"), apart("a{x!=\"<\",y=~'>'}", ">=", "", "b"));
        assert_eq!(sides("sum(a > 1) != bool 3"), apart("sum(a > 1)", "!=", "", "3"));
        assert_eq!(sides("a == on (v, w) group_left sum(b)"), apart("a", "==", "on(v, w) group_left()", "sum(b)"));
        assert_eq!(sides("a<on_call"), apart("a", "<", "", "on_call"));
        assert_eq!(sides("land_rover < \"\\\"and\""), apart("land_rover", "<", "", "\"\\\"and\""));
    }

    #[test]
    fn what_is_no_single_comparison_is_refused() {
        for (text, words) in [
            ("up", "compares nothing"),
            ("sum(a < 1)", "compares nothing"),
            ("a < b < c", "compares twice"),
            ("a < 1 and b", "joins with and"),
            ("a{v='x'}OR b < 1", "joins with OR"),
            ("a < (1", "not closed"),
            ("a < 'x", "not closed"),
            ("a) < 1", "closes nothing"),
            ("< 1", "is empty"),
            ("a <", "is empty"),
            ("a = 1", "no comparison"),
            ("a < 1 # b", "comment"),
        ] {
            let said = sides(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
