//! What people type around their words: colours, and CTCP.

use std::borrow::Cow;

/// The byte around a CTCP.
const CTCP: char = '\u{1}';

/// The words without bold, colours and the like. <https://modern.ircdocs.horse/formatting>
pub fn plain(text: &str) -> Cow<'_, str> {
    let is_code = |c: char| matches!(c, '\u{2}' | '\u{1d}' | '\u{1f}' | '\u{1e}' | '\u{11}' | '\u{16}' | '\u{f}');
    if !text.contains(|c| is_code(c) || matches!(c, '\u{3}' | '\u{4}')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\u{3}' => rest = after_colour(rest, 2, |c| c.is_ascii_digit()),
            '\u{4}' => rest = after_colour(rest, 6, |c| c.is_ascii_hexdigit()),
            c if is_code(c) => {}
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A CTCP's keyword in capitals and its text; nothing for ordinary words. The closing mark may be missing.
pub fn ctcp(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix(CTCP)?;
    let body = body.strip_suffix(CTCP).unwrap_or(body);
    let (keyword, text) = body.split_once(' ').unwrap_or((body, ""));
    (!keyword.is_empty()).then(|| (keyword.to_ascii_uppercase(), text))
}

/// Words as a CTCP.
pub fn as_ctcp(keyword: &str, text: &str) -> String {
    if text.is_empty() { format!("{CTCP}{keyword}{CTCP}") } else { format!("{CTCP}{keyword} {text}{CTCP}") }
}

/// What follows a colour code: up to `width` digits, and the same again after a comma.
fn after_colour(text: &str, width: usize, is_digit: impl Fn(char) -> bool) -> &str {
    let digits = |text: &str| text.chars().take(width).take_while(|c| is_digit(*c)).count();
    let front = digits(text);
    let rest = &text[front..];
    match rest.strip_prefix(',') {
        Some(back) if front > 0 && digits(back) > 0 => &back[digits(back)..],
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_go_and_digits_that_are_text_stay() {
        assert_eq!(plain("\u{3}04,12red\u{3} \u{2}bold\u{2} \u{4}ff0000hex \u{3}123"), "red bold hex 3");
        assert_eq!(plain("\u{3}4,text \u{3},5 \u{16}\u{1f}x\u{f}"), ",text ,5 x");
        assert!(matches!(plain("nothing"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_ctcp_has_a_keyword_and_may_lack_its_end() {
        assert_eq!(ctcp("\u{1}action waves\u{1}"), Some(("ACTION".to_owned(), "waves")));
        assert_eq!(ctcp("\u{1}VERSION"), Some(("VERSION".to_owned(), "")));
        assert_eq!(ctcp("\u{1}\u{1}"), None);
        assert_eq!(ctcp("words"), None);
        assert_eq!(as_ctcp("ACTION", "waves"), "\u{1}ACTION waves\u{1}");
    }

    proptest! {
        #[test]
        fn no_code_survives(text in any::<String>()) {
            let left = plain(&text).contains(['\u{2}', '\u{3}', '\u{4}', '\u{f}', '\u{16}']);
            prop_assert!(!left, "a code survived");
        }
    }
}
