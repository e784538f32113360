//! What masks of the ingested kinds have in common: words, quotes, times, numbers and comparisons.

use std::time::Duration;

use masterchief_contract::{MaskFault, Value};

/// A word of a mask and where it begins, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) at: usize,
}

/// Splits a mask at blanks. A word, or a part of one, may stand in `'` or `"`; the quotes are taken off.
pub(crate) fn words(mask: &str) -> Result<Vec<Word>, MaskFault> {
    let mut out: Vec<Word> = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote: Option<(char, usize)> = None;
    for (at, letter) in mask.char_indices() {
        match quote {
            Some((open, _)) if letter == open => quote = None,
            Some(_) => word.get_or_insert(Word { text: String::new(), at }).text.push(letter),
            None if letter == '\'' || letter == '"' => {
                quote = Some((letter, at));
                word.get_or_insert(Word { text: String::new(), at });
            }
            None if letter.is_whitespace() => out.extend(word.take()),
            None => word.get_or_insert(Word { text: String::new(), at }).text.push(letter),
        }
    }
    if let Some((open, at)) = quote {
        return Err(MaskFault::at(mask, at, format!("this {open} is not closed")));
    }
    out.extend(word);
    Ok(out)
}

/// A word as [`words`] reads it: as it is, or in quotes where it needs them.
pub(crate) fn quoted(text: &str) -> String {
    if !text.is_empty() && !text.contains(|letter: char| letter.is_whitespace() || matches!(letter, '\'' | '"')) {
        return text.to_owned();
    }
    // A quote stands in quotes of the other sort; a blank and a ~ would begin a pattern.
    format!("\"{}\"", text.replace('"', "\"'\"'\"").replace(" ~", " \"\"~"))
}

/// `500ms`, `10s`, `1h30m`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).filter(|at| *at > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        total = total.checked_add(match &rest[..unit] {
            "ms" => Duration::from_millis(number),
            "s" => seconds(1)?,
            "m" => seconds(60)?,
            "h" => seconds(3600)?,
            "d" => seconds(86_400)?,
            _ => return None,
        })?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

/// `80`, `-1.5`, `10k`, `2Gi`, `95%`.
pub(crate) fn number(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 7] =
        [("Ki", 1024.0), ("Mi", 1_048_576.0), ("Gi", 1_073_741_824.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("%", 1.0)];
    let (digits, unit) =
        UNITS.iter().find_map(|(unit, times)| Some((text.strip_suffix(unit)?, *times))).unwrap_or((text, 1.0));
    let plain = digits.strip_prefix('-').unwrap_or(digits);
    let shape = plain.starts_with(|letter: char| letter.is_ascii_digit())
        && plain.ends_with(|letter: char| letter.is_ascii_digit())
        && plain.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    let value: f64 = shape.then(|| digits.parse().ok()).flatten()?;
    Some(value * unit)
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cmp {
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Equal,
    NotEqual,
}

impl Cmp {
    /// The comparison a text begins with, and its length. The longer ones come first.
    pub(crate) fn at_start(text: &str) -> Option<(Cmp, usize)> {
        const ALL: [(&str, Cmp); 7] = [
            (">=", Cmp::GreaterEqual),
            ("<=", Cmp::LessEqual),
            ("==", Cmp::Equal),
            ("!=", Cmp::NotEqual),
            (">", Cmp::Greater),
            ("<", Cmp::Less),
            ("=", Cmp::Equal),
        ];
        ALL.iter().find(|(sign, _)| text.starts_with(sign)).map(|(sign, cmp)| (*cmp, sign.len()))
    }

    /// As it is written.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Cmp::Greater => ">",
            Cmp::GreaterEqual => ">=",
            Cmp::Less => "<",
            Cmp::LessEqual => "<=",
            Cmp::Equal => "==",
            Cmp::NotEqual => "!=",
        }
    }

    /// Whether it holds. What is no number holds for nothing.
    pub(crate) fn holds(self, left: f64, right: f64) -> bool {
        if left.is_nan() || right.is_nan() {
            return false;
        }
        match self {
            Cmp::Greater => left > right,
            Cmp::GreaterEqual => left >= right,
            Cmp::Less => left < right,
            Cmp::LessEqual => left <= right,
            Cmp::Equal => left == right,
            Cmp::NotEqual => left != right,
        }
    }

    /// A field against a text: as numbers where both are, else as texts, for which only `==` and `!=` make sense.
    pub(crate) fn holds_for(self, field: &Value, right: &str) -> bool {
        let left = match field {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        if let (Some(left), Some(right)) = (left, number(right)) {
            return self.holds(left, right);
        }
        let text = match field {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self {
            Cmp::Equal => text == right,
            Cmp::NotEqual => text != right,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks_and_quotes_keep_them_together() {
        let texts = |mask: &str| words(mask).map(|words| words.into_iter().map(|word| word.text).collect::<Vec<_>>());
        assert_eq!(texts("/data/*.json on=create").unwrap(), ["/data/*.json", "on=create"]);
        assert_eq!(texts("'/my data/*.csv' rows").unwrap(), ["/my data/*.csv", "rows"]);
        assert_eq!(texts("a multi='x y'").unwrap(), ["a", "multi=x y"]);
        assert_eq!(texts("a 'b").unwrap_err().column, 3);
        assert_eq!(words("ä  b").unwrap()[1].at, 4);
    }

    #[test]
    fn what_is_written_as_a_word_is_read_as_that_word() {
        assert_eq!((quoted("/var/log/a.log"), quoted("/a b")), ("/var/log/a.log".to_owned(), "\"/a b\"".to_owned()));
        for text in ["/a b", "/it's", "/a\"b", "\"'\"", "/a ~b", "/a\tb", ""] {
            let word = quoted(text);
            assert!(!word.contains(" ~"), "{word}");
            assert_eq!(words(&word).unwrap(), [Word { text: text.to_owned(), at: 0 }], "{word}");
        }
    }

    #[test]
    fn times_and_numbers_are_read_or_refused() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        for bad in ["", "5", "m", "5 m", "5x", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(number("10k"), Some(10_000.0));
        assert_eq!(number("-1.5"), Some(-1.5));
        assert_eq!(number("95%"), Some(95.0));
        assert_eq!(number("2Gi"), Some(2_147_483_648.0));
        for bad in ["", "-", ".", "1.", "e5", "NaN", "inf", "1 0", "--1"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn fields_are_compared_as_numbers_where_both_are() {
        assert!(Cmp::GreaterEqual.holds_for(&Value::from(503), "500"));
        assert!(Cmp::Greater.holds_for(&Value::from("12.5"), "12"));
        assert!(Cmp::Equal.holds_for(&Value::from("error"), "error"));
        assert!(!Cmp::Greater.holds_for(&Value::from("error"), "500"));
        assert!(!Cmp::Equal.holds(f64::NAN, f64::NAN));
    }
}
