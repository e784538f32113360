//! The wildcard match that masks and hostmasks share.

use crate::CaseMap;

/// Whether `mask` matches all of `text`: `*` any run, `?` one character, `%` a run without blanks, `~` one or
/// more blanks, `\` takes the next character as it is. Case is folded by `casemap`.
///
/// Eggdrop's rules (`match.c`), with a character where Eggdrop counts a byte: an empty text is never matched. Takes at
/// most `mask.len() * text.len()` steps, whatever the mask.
pub fn wild_match(mask: &str, text: &str, casemap: CaseMap) -> bool {
    if text.is_empty() {
        return false;
    }
    if mask.is_ascii() && !mask.contains(['%', '~', '\\']) {
        return simple_match(mask.as_bytes(), text, casemap);
    }
    let mask: Vec<Piece> = pieces(mask, casemap);
    // One row of the classic table: which prefixes of the text the mask so far can cover.
    let text: Vec<char> = text.chars().map(|c| casemap.fold_char(c)).collect();
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for piece in &mask {
        piece.step(&text, &mut row);
    }
    row[text.len()]
}

/// The same for a mask of ASCII with nothing but `*` and `?`, which nearly all are, without allocating.
fn simple_match(mask: &[u8], text: &str, casemap: CaseMap) -> bool {
    let (mut at, mut rest) = (0, text.chars());
    // Where to go on if what follows the last `*` does not fit here.
    let mut again: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let before = rest.clone();
        let next = rest.next();
        match (mask.get(at), next) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                rest = before.clone();
                at += 1;
                again = Some((at, before));
            }
            (Some(b'?'), Some(_)) => at += 1,
            (Some(want), Some(got)) if char::from(casemap.fold_byte(*want)) == casemap.fold_char(got) => at += 1,
            _ => {
                let Some((star, mut from)) = again.take() else {
                    return false;
                };
                if from.next().is_none() {
                    return false;
                }
                (at, rest) = (star, from.clone());
                again = Some((star, from));
            }
        }
    }
}

enum Piece {
    Any,
    Word,
    Blanks,
    One,
    Exactly(char),
}

fn pieces(mask: &str, casemap: CaseMap) -> Vec<Piece> {
    let mut out = Vec::with_capacity(mask.len());
    let mut chars = mask.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Piece::Any,
            '%' => Piece::Word,
            '~' => Piece::Blanks,
            '?' => Piece::One,
            '\\' => Piece::Exactly(casemap.fold_char(chars.next().unwrap_or('\\'))),
            c => Piece::Exactly(casemap.fold_char(c)),
        });
    }
    out
}

impl Piece {
    fn step(&self, text: &[char], row: &mut [bool]) {
        match self {
            Piece::Any => spread(text, row, |_| true),
            Piece::Word => spread(text, row, |c| c != ' '),
            Piece::One => shift(text, row, |_| true),
            Piece::Exactly(want) => shift(text, row, |c| c == *want),
            Piece::Blanks => {
                shift(text, row, |c| c == ' ');
                spread(text, row, |c| c == ' ');
            }
        }
    }
}

/// The piece takes exactly one character.
fn shift(text: &[char], row: &mut [bool], takes: impl Fn(char) -> bool) {
    for at in (0..text.len()).rev() {
        row[at + 1] = row[at] && takes(text[at]);
    }
    row[0] = false;
}

/// The piece takes any run of characters, also none.
fn spread(text: &[char], row: &mut [bool], takes: impl Fn(char) -> bool) {
    for at in 0..text.len() {
        row[at + 1] |= row[at] && takes(text[at]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word for word.
    fn naive(mask: &[char], text: &[char], fold: &dyn Fn(char) -> char) -> bool {
        let rest = &mask[mask.len().min(1)..];
        match mask.first() {
            None => text.is_empty(),
            Some('*') => (0..=text.len()).any(|n| naive(rest, &text[n..], fold)),
            Some('%') => {
                let run = text.iter().take_while(|c| **c != ' ').count();
                (0..=run).any(|n| naive(rest, &text[n..], fold))
            }
            Some('~') => {
                let run = text.iter().take_while(|c| **c == ' ').count();
                (1..=run).any(|n| naive(rest, &text[n..], fold))
            }
            Some('?') => !text.is_empty() && naive(rest, &text[1..], fold),
            Some('\\') => {
                let want = rest.first().copied().unwrap_or('\\');
                let after = &rest[rest.len().min(1)..];
                text.first().is_some_and(|got| fold(*got) == fold(want)) && naive(after, &text[1..], fold)
            }
            Some(want) => text.first().is_some_and(|got| fold(*got) == fold(*want)) && naive(rest, &text[1..], fold),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_agrees_with_the_definition(mask in r"[ab\*?%~ \\{\[A]{0,8}", text in r"[abAB {\[é]{0,8}", ascii in any::<bool>()) {
            let casemap = if ascii { CaseMap::Ascii } else { CaseMap::Rfc1459 };
            let chars = |text: &str| text.chars().collect::<Vec<char>>();
            let expected = !text.is_empty() && naive(&chars(&mask), &chars(&text), &|c| casemap.fold_char(c));
            prop_assert_eq!(wild_match(&mask, &text, casemap), expected, "{} {}", mask, text);
        }

        #[test]
        fn a_mask_of_stars_and_letters_agrees_with_the_definition(mask in "[ab*?]{0,10}", text in "[ab]{1,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<char>>();
            let expected = naive(&chars(&mask), &chars(&text), &|c| c);
            prop_assert_eq!(wild_match(&mask, &text, CaseMap::Ascii), expected);
        }
    }

    #[test]
    fn a_hostile_mask_takes_no_longer_than_its_length_times_the_texts() {
        let mask = format!("{}b", "a*".repeat(2000));
        assert!(!wild_match(&mask, &"a".repeat(8000), CaseMap::Ascii));
    }
}
