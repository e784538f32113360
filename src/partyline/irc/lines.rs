//! Lines as a server sends them. Whatever is put in, one line comes out.

use chrono::{DateTime, SecondsFormat, Utc};

/// The name of this server. Clients tell servers from people by the dot.
pub(super) const SERVER: &str = "partyline.masterchief";

/// A line, without tags and line end: `:source COMMAND middle :last`.
///
/// What would break the line is taken out of it: line ends and NUL, and blanks in parameters before the last.
pub(super) fn line(source: &str, command: &str, params: &[&str]) -> String {
    let mut out = String::with_capacity(96);
    if !source.is_empty() {
        out.push(':');
        out.extend(source.chars().filter(|c| !matches!(c, ' ' | '\r' | '\n' | '\0')));
        out.push(' ');
    }
    out.push_str(command);
    for (at, param) in params.iter().enumerate() {
        out.push(' ');
        let last = at + 1 == params.len();
        if last {
            if param.is_empty() || param.starts_with(':') || param.contains(' ') {
                out.push(':');
            }
            out.extend(param.chars().map(|c| if matches!(c, '\r' | '\n' | '\0') { ' ' } else { c }));
        } else {
            let middle: String = param.chars().filter(|c| !matches!(c, ' ' | '\r' | '\n' | '\0')).collect();
            let middle = middle.trim_start_matches(':');
            out.push_str(if middle.is_empty() { "*" } else { middle });
        }
    }
    out
}

/// The value of a tag as it is written: <https://ircv3.net/specs/extensions/message-tags#escaping-values>.
pub(super) fn tag_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            ';' => out.push_str("\\:"),
            ' ' => out.push_str("\\s"),
            '\\' => out.push_str("\\\\"),
            '\r' | '\n' | '\0' => {}
            c => out.push(c),
        }
    }
    out
}

/// A time as the tag `time` has it: <https://ircv3.net/specs/extensions/server-time>.
pub(super) fn time_tag(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::irc::message::Message;

    proptest! {
        #[test]
        fn whatever_is_put_in_is_one_line_with_as_many_parameters(
            source in "\\PC{0,12}", params in prop::collection::vec(any::<String>(), 1..5),
        ) {
            let params: Vec<&str> = params.iter().map(String::as_str).collect();
            let line = line(&format!("s{source}"), "PRIVMSG", &params);
            prop_assert!(!line.contains(['\r', '\n', '\0']));
            let read = Message::parse(&line).unwrap();
            prop_assert_eq!((read.command, read.params().len()), ("PRIVMSG", params.len()));
        }
    }
}
