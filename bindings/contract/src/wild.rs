//! The wildcard match that masks and hostmasks share.

use crate::CaseMap;

/// Whether `mask` matches all of `text`: `*` any run, `?` one character, `%` a run without blanks, `~` one or
/// more blanks, `\` takes the next character as it is. Case is folded by `casemap`.
///
/// Eggdrop's rules (`match.c`), with a character where Eggdrop counts a byte. Takes at most
/// `mask.len() * text.len()` steps, whatever the mask.
pub fn wild_match(mask: &str, text: &str, casemap: CaseMap) -> bool {
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
