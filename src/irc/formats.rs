//! Words in bold, in colours and the like, cut into lines: what was open where a line ends is open where the next one begins. Pure.
//! <https://modern.ircdocs.horse/formatting>

use std::borrow::Cow;

use super::split::split;

/// Codes that begin something and end it again.
const TOGGLES: [char; 6] = ['\u{2}', '\u{1d}', '\u{1f}', '\u{1e}', '\u{11}', '\u{16}'];
/// Colours by number, and by what is mixed.
const COLOUR: char = '\u{3}';
const HEX: char = '\u{4}';
/// The code that ends all.
const RESET: char = '\u{f}';
/// What codes at both ends of a line may take; where that is not there, they are left to chance.
const CODES_MAX: usize = TOGGLES.len() + 2 * 14 + 3;

/// What is open. Colours as their sign and digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Open {
    toggles: [bool; TOGGLES.len()],
    front: Option<(char, String)>,
    back: Option<(char, String)>,
}

/// Cuts words into pieces of at most `room` bytes, as [`split`] does, each of which looks by itself as it would have in one line.
pub(super) fn pieces(text: &str, room: usize) -> Vec<Cow<'_, str>> {
    let is_code = |c: char| TOGGLES.contains(&c) || matches!(c, COLOUR | HEX | RESET);
    if text.len() <= room || room < 2 * CODES_MAX || !text.contains(is_code) {
        return split(text, room).into_iter().map(Cow::Borrowed).collect();
    }
    let (mut out, mut open, mut rest) = (Vec::new(), Open::default(), text);
    while !rest.is_empty() {
        let before = open.begin(rest);
        let left = room - before.len();
        let at = if rest.len() <= left {
            rest.len()
        } else {
            whole_codes(rest, split(rest, left - 1).first().map_or(rest.len(), |part| part.len()))
        };
        let (part, after) = rest.split_at(at);
        open.take(part);
        let end = if after.is_empty() || open == Open::default() { "" } else { "\u{f}" };
        out.push(Cow::Owned(format!("{before}{part}{end}")));
        rest = after;
    }
    out
}

/// The place of a cut, moved so that it goes through no code.
fn whole_codes(text: &str, at: usize) -> usize {
    let mut from = 0;
    while let Some(begin) = text[from..].find([COLOUR, HEX]).map(|found| from + found).filter(|begin| *begin < at) {
        let end = begin + colour(&text[begin..]).0;
        if end > at {
            return if begin > 0 { begin } else { end };
        }
        from = end;
    }
    at
}

/// The length of the colour code with which a text begins, and its digits in front and behind the comma.
fn colour(text: &str) -> (usize, &str, &str) {
    let width = if text.starts_with(COLOUR) { 2 } else { 6 };
    let is_digit = |c: &u8| if width == 2 { c.is_ascii_digit() } else { c.is_ascii_hexdigit() };
    let digits = |text: &str| {
        let count = text.bytes().take(width).take_while(is_digit).count();
        if width == 2 || count == width { count } else { 0 }
    };
    let front = digits(&text[1..]);
    let rest = &text[1 + front..];
    let back = rest.strip_prefix(',').filter(|_| front > 0).map_or(0, digits);
    let end = 1 + front + if back > 0 { 1 + back } else { 0 };
    (end, &text[1..=front], if back > 0 { &rest[1..=back] } else { "" })
}

impl Open {
    /// What is open behind these words.
    fn take(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let mut taken = c.len_utf8();
            match c {
                RESET => *self = Open::default(),
                COLOUR | HEX => {
                    let (length, front, back) = colour(rest);
                    taken = length;
                    if front.is_empty() {
                        (self.front, self.back) = (None, None);
                    } else {
                        self.front = Some((c, front.to_owned()));
                        self.back = if back.is_empty() { self.back.take() } else { Some((c, back.to_owned())) };
                    }
                }
                c => {
                    if let Some(open) =
                        TOGGLES.iter().position(|code| *code == c).and_then(|at| self.toggles.get_mut(at))
                    {
                        *open = !*open;
                    }
                }
            }
            rest = &rest[taken..];
        }
    }

    /// The codes that open it again in front of these words.
    fn begin(&self, words: &str) -> String {
        let on = TOGGLES.iter().zip(self.toggles).filter(|(_, on)| *on);
        let mut out: String = on.map(|(code, _)| *code).collect();
        let whole =
            |(sign, digits): &(char, String)| if *sign == COLOUR { format!("{digits:0>2}") } else { digits.clone() };
        let Some(front) = &self.front else { return out };
        match &self.back {
            Some(back) if back.0 == front.0 => out += &format!("{}{},{}", front.0, whole(front), whole(back)),
            Some(back) => {
                // A colour behind the words stands behind one in front of them, which the next code changes again.
                let any = if back.0 == COLOUR { "01" } else { "000000" };
                out += &format!("{}{any},{}{}{}", back.0, whole(back), front.0, whole(front));
            }
            None => out += &format!("{}{}", front.0, whole(front)),
        }
        if words.starts_with(',') {
            // Two that are nothing together, so that the words are no part of the code.
            out += "\u{2}\u{2}";
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each letter with how it looks.
    fn looks(text: &str, open: &mut Open) -> Vec<(char, Open)> {
        let (mut out, mut rest) = (Vec::new(), text);
        while let Some(c) = rest.chars().next() {
            let taken = if matches!(c, COLOUR | HEX) { colour(rest).0 } else { c.len_utf8() };
            open.take(&rest[..taken]);
            if !TOGGLES.contains(&c) && !matches!(c, COLOUR | HEX | RESET) {
                out.push((c, same(open)));
            }
            rest = &rest[taken..];
        }
        out
    }

    /// A number is the same with and without a nought in front.
    fn same(open: &Open) -> Open {
        let number = |part: &Option<(char, String)>| {
            part.as_ref().map(|(sign, digits)| {
                (*sign, if *sign == COLOUR { digits.trim_start_matches('0').to_owned() } else { digits.clone() })
            })
        };
        Open { toggles: open.toggles, front: number(&open.front), back: number(&open.back) }
    }

    #[test]
    fn what_is_open_at_a_cut_is_open_behind_it() {
        let (bold, red) = ("\u{2}", "\u{3}4");
        let text = format!("plain {bold}fat {red}{}", "red ".repeat(40));
        let pieces = pieces(&text, 100);
        assert!(pieces[0].ends_with("red \u{f}") && pieces[1].starts_with("\u{2}\u{3}04red "), "{pieces:?}");
        assert!(!pieces.last().unwrap().ends_with('\u{f}'));
        assert!(super::pieces(&"word ".repeat(40), 100).iter().all(|piece| matches!(piece, Cow::Borrowed(_))));
    }

    #[test]
    fn no_code_is_cut_in_two_and_no_words_become_a_part_of_one() {
        let text = format!("{}\u{3}12,13{}", "x".repeat(95), "y".repeat(100));
        let cut = pieces(&text, 100);
        assert!(cut[1].starts_with("\u{3}12,13y"), "{cut:?}");
        let text = format!("\u{3}4{},5 apples", "x".repeat(95));
        let cut = pieces(&text, 100);
        assert_eq!(
            cut.iter().map(|piece| super::super::text::plain(piece).into_owned()).collect::<String>(),
            format!("{},5 apples", "x".repeat(95))
        );
    }

    proptest! {
        #[test]
        fn each_letter_looks_as_it_did_in_every_piece_and_in_all_of_them_together(
            text in "([a-z ,0-9]{0,12}(\u{2}|\u{1d}|\u{16}|\u{f}|\u{3}|\u{3}[0-9]{1,2}|\u{3}[0-9]{1,2},[0-9]{1,2}|\u{4}[0-9a-f]{6}|\u{4}[0-9a-f]{6},[0-9a-f]{6}|é👍)?){0,40}",
            room in 2 * CODES_MAX..160,
        ) {
            let wanted = looks(&text, &mut Open::default());
            let pieces = pieces(&text, room);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= room));
            let alone: Vec<_> = pieces.iter().flat_map(|piece| looks(piece, &mut Open::default())).collect();
            prop_assert_eq!(&alone, &wanted);
            prop_assert_eq!(&looks(&pieces.concat(), &mut Open::default()), &wanted);
        }
    }
}
