//! `fmt`: words and numbers for people, and IRC formatting. <https://modern.ircdocs.horse/formatting>

use std::time::Duration;

use mlua::{Lua, Table};
use unicode_segmentation::UnicodeSegmentation;

use super::super::value;

/// Colours by name.
const COLOURS: &[(&str, &str)] = &[
    ("white", "00"),
    ("black", "01"),
    ("blue", "02"),
    ("green", "03"),
    ("red", "04"),
    ("brown", "05"),
    ("purple", "06"),
    ("orange", "07"),
    ("yellow", "08"),
    ("lime", "09"),
    ("teal", "10"),
    ("cyan", "11"),
    ("royal", "12"),
    ("pink", "13"),
    ("grey", "14"),
    ("silver", "15"),
];

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let fmt = lua.create_table()?;
    for (name, code) in [("bold", '\u{2}'), ("italic", '\u{1d}'), ("underline", '\u{1f}'), ("mono", '\u{11}')] {
        fmt.set(name, lua.create_function(move |_, text: String| Ok(format!("{code}{text}{code}")))?)?;
    }
    fmt.set(
        "color",
        lua.create_function(|_, (text, colour): (String, String)| {
            let Some((_, code)) = COLOURS.iter().find(|(name, _)| *name == colour) else {
                let names: Vec<&str> = COLOURS.iter().map(|(name, _)| *name).collect();
                return Err(mlua::Error::runtime(format!(
                    "there is no colour {colour:?}; there are {}",
                    names.join(", ")
                )));
            };
            // Always two digits, so that a digit that follows is text.
            Ok(format!("\u{3}{code}{text}\u{3}"))
        })?,
    )?;
    fmt.set("plain", lua.create_function(|_, text: String| Ok(crate::irc::text::plain(&text).into_owned()))?)?;
    fmt.set(
        "duration",
        lua.create_function(|_, time: mlua::Value| Ok(spoken(value::duration("fmt.duration", &time)?)))?,
    )?;
    fmt.set("bytes", lua.create_function(|_, bytes: f64| Ok(bytes_spoken(bytes)))?)?;
    fmt.set(
        "list",
        lua.create_function(|_, (items, last): (Vec<String>, Option<String>)| {
            Ok(listed(&items, last.as_deref().unwrap_or("and")))
        })?,
    )?;
    fmt.set(
        "plural",
        lua.create_function(|_, (count, one, many): (f64, String, Option<String>)| {
            let word = if count == 1.0 { one } else { many.unwrap_or_else(|| format!("{one}s")) };
            Ok(format!("{count} {word}"))
        })?,
    )?;
    fmt.set("truncate", lua.create_function(|_, (text, most): (String, usize)| Ok(truncated(&text, most)))?)?;
    Ok(fmt)
}

/// `1 h 5 min`: the two largest units.
fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut parts = Vec::new();
    let mut left = seconds;
    for (size, name) in units {
        if left >= size || (size == 1 && parts.is_empty()) {
            parts.push(format!("{} {name}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

fn bytes_spoken(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut at) = (bytes, 0);
    while size.abs() >= 1024.0 && at + 1 < units.len() {
        size /= 1024.0;
        at += 1;
    }
    if at == 0 { format!("{size} B") } else { format!("{size:.1} {}", units[at]) }
}

fn listed(items: &[String], last: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [front @ .., end] => format!("{} {last} {end}", front.join(", ")),
    }
}

/// At most this many characters as people count them, the last an ellipsis where something is missing.
fn truncated(text: &str, most: usize) -> String {
    if text.graphemes(true).count() <= most {
        return text.to_owned();
    }
    let kept: String = text.graphemes(true).take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lists_read_like_words() {
        let spoken = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!([spoken(0), spoken(65), spoken(3600), spoken(90_061)], ["0 s", "1 min 5 s", "1 h", "1 d 1 h"]);
        assert_eq!([bytes_spoken(512.0), bytes_spoken(1536.0)], ["512 B", "1.5 KiB"]);
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!([listed(&items, "and"), listed(&items[..1], "or"), listed(&[], "and")], ["a, b and c", "a", ""]);
        assert_eq!([truncated("añb", 3), truncated("a👩‍👩‍👧bc", 3)], ["añb", "a👩‍👩‍👧…"]);
    }
}
