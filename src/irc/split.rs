//! Cutting words into lines that arrive whole.

use unicode_segmentation::UnicodeSegmentation;

/// The least room for words that is ever assumed, so that a hostile prefix cannot stop the bot from talking.
const LEAST_ROOM: usize = 64;

/// The bytes that words may take in `:PREFIX COMMAND TARGET :words` as others receive it.
///
/// A server cuts what does not fit into its line length, `linelen` with CRLF, including the source it puts in front.
pub fn room(linelen: usize, prefix: usize, command: &str, target: &str) -> usize {
    // `:` prefix blank, command blank, target blank `:`, CRLF.
    let taken = 1 + prefix + 1 + command.len() + 1 + target.len() + 2 + 2;
    linelen.saturating_sub(taken).max(LEAST_ROOM)
}

/// Cuts words into pieces of at most `room` bytes: at line breaks first (they are dropped, and empty lines with
/// them), then after a blank where there is one in the second half, never inside a grapheme that fits by itself.
///
/// The pieces of a line concatenate to that line: the blank at a cut stays at the end of its piece.
pub fn split(text: &str, room: usize) -> Vec<&str> {
    let room = room.max(4);
    let lines = text.split(['\r', '\n', '\0']).filter(|line| !line.is_empty());
    let mut out = Vec::new();
    for mut line in lines {
        while line.len() > room {
            let at = cut(line, room);
            out.push(&line[..at]);
            line = &line[at..];
        }
        out.push(line);
    }
    out
}

/// Where to cut a line that is longer than `room`; more than 0.
fn cut(line: &str, room: usize) -> usize {
    let (mut fits, mut blank) = (0, 0);
    for (at, grapheme) in line.grapheme_indices(true) {
        let end = at + grapheme.len();
        if end > room {
            break;
        }
        fits = end;
        if grapheme == " " {
            blank = end;
        }
    }
    if blank > room / 2 {
        return blank;
    }
    if fits > 0 {
        return fits;
    }
    // One grapheme alone is too long, as only hostile text is: cut between its characters.
    line.char_indices().map(|(at, _)| at).take_while(|at| *at <= room).last().unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_breaks_after_a_blank_and_a_family_stays_together() {
        assert_eq!(split("one two three four", 10), ["one two ", "three four"]);
        assert_eq!(split("a\r\nb\n\nc\0d", 10), ["a", "b", "c", "d"]);
        let family = "👩‍👩‍👧‍👦";
        assert_eq!(split(&family.repeat(3), family.len() + 3), [family, family, family]);
        assert_eq!(split("x", 0), ["x"]);
    }

    #[test]
    fn the_room_is_what_the_server_leaves() {
        // `:chief!bot@host.test PRIVMSG #ops :` is 35 bytes, and CRLF.
        assert_eq!(room(512, "chief!bot@host.test".len(), "PRIVMSG", "#ops"), 512 - 35 - 2);
        assert_eq!(room(512, 2000, "PRIVMSG", "#ops"), LEAST_ROOM);
    }

    proptest! {
        #[test]
        fn the_pieces_fit_and_concatenate_to_the_input(text in any::<String>(), room in 4usize..600) {
            let pieces = split(&text, room);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= room && !piece.is_empty()));
            prop_assert!(pieces.iter().all(|piece| !piece.contains(['\r', '\n', '\0'])));
            prop_assert_eq!(pieces.concat(), text.replace(['\r', '\n', '\0'], ""));
        }

        #[test]
        fn no_grapheme_that_fits_is_cut(text in "[a-z é👍🏽e\u{301}🇩🇪]{0,200}", room in 40usize..80) {
            let whole: Vec<&str> = text.graphemes(true).collect();
            let cut: Vec<&str> = split(&text, room).into_iter().flat_map(|piece| piece.graphemes(true)).collect();
            prop_assert_eq!(whole, cut);
        }
    }
}
