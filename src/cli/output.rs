//! What commands print: for people, with colour where a terminal wants it, or as JSON.

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// A fault, on standard error.
pub(super) fn fault(text: &str) {
    // Nobody is there to hear that standard error is gone.
    let _ = writeln!(std::io::stderr(), "{} {text}", painted("31", "error:", std::io::stderr().is_terminal()));
}

/// Something to know that is no fault, on standard error.
pub(super) fn warning(text: &str) {
    // As above.
    let _ = writeln!(std::io::stderr(), "{} {text}", painted("33", "warning:", std::io::stderr().is_terminal()));
}

/// A number of things.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// A line on standard output.
pub(super) fn line(text: &str) -> std::io::Result<()> {
    // What keeps clients of IRC from calling somebody would only hide a name from grep.
    writeln!(std::io::stdout(), "{}", text.replace('\u{200b}', ""))
}

/// Words from outside as a terminal may have them: line breaks and tabs stay, whatever else could move its cursor or call
/// its window something is written out.
pub(super) fn tame(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => out.push(letter),
            letter if letter.is_control() => out.extend(letter.escape_default()),
            letter => out.push(letter),
        }
    }
    out
}

/// A value as JSON on standard output.
pub(super) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)?;
    Ok(())
}

/// A good word in green.
pub(super) fn good(text: &str) -> String {
    painted("32", text, std::io::stdout().is_terminal())
}

/// A bad word in red.
pub(super) fn bad(text: &str) -> String {
    painted("31", text, std::io::stdout().is_terminal())
}

/// <https://no-color.org>
fn painted(code: &str, text: &str, terminal: bool) -> String {
    let wanted = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Rows in columns as wide as they need; the last column is not padded.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain(head.get(at).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let heads: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_moves_no_terminal() {
        assert_eq!(tame("a\tkäse\nb\u{1b}[2J\r\u{9b}1m"), "a\tkäse\nb\\u{1b}[2J\\r\\u{9b}1m");
    }
}
