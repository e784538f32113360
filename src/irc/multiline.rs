//! Words of several lines as one message, where the server takes such. <https://ircv3.net/specs/extensions/multiline>. Pure.

use super::message::Message;
use super::outgoing::{Line, Most};

/// Lines of one message where the server names no limit.
const LINES: usize = 100;

/// The capability's value, `max-bytes=4096,max-lines=24`. Without a limit in bytes it is none.
pub(super) fn most(value: &str) -> Option<Most> {
    let number = |key: &str| {
        let mut pairs = value.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).and_then(|(_, number)| number.parse::<usize>().ok())
    };
    let lines = number("max-lines").unwrap_or(LINES).min(LINES);
    // Counted with command and target, so that it is never more than the server counts.
    number("max-bytes").map(|bytes| Most { lines, bytes }).filter(|most| most.lines > 1)
}

/// The batch for these lines, which are words to one target. The tags of the first are the message's.
pub(super) fn batch(lines: &[Line], reference: &str) -> Vec<String> {
    let Some(Ok(first)) = lines.first().map(|line| Message::parse(&line.text)) else { return Vec::new() };
    let tags = lines[0].text.strip_suffix(without_tags(&lines[0].text)).unwrap_or("");
    let mut out = vec![format!("{tags}BATCH +{reference} draft/multiline {}", first.param(0))];
    for (at, line) in lines.iter().enumerate() {
        let concat = if line.goes_on && at > 0 { ";draft/multiline-concat" } else { "" };
        out.push(format!("@batch={reference}{concat} {}", without_tags(&line.text)));
    }
    out.push(format!("BATCH -{reference}"));
    out
}

/// A line of ours without the tags in front.
pub(super) fn without_tags(line: &str) -> &str {
    match line.strip_prefix('@') {
        Some(tagged) => tagged.split_once(' ').map_or("", |(_, rest)| rest),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_the_servers_and_without_bytes_there_is_no_multiline() {
        assert_eq!(most("max-bytes=4096,max-lines=24"), Some(Most { lines: 24, bytes: 4096 }));
        assert_eq!(most("max-bytes=4096"), Some(Most { lines: LINES, bytes: 4096 }));
        assert_eq!((most("max-lines=9"), most(""), most("max-bytes=9,max-lines=1")), (None, None, None));
    }

    #[test]
    fn the_tags_stand_on_the_opening_and_a_cut_line_goes_on() {
        let line = |text: &str, goes_on| Line { text: text.to_owned(), whole: 1, goes_on };
        let lines = [
            line("@+reply=x PRIVMSG #ops :one", false),
            line("PRIVMSG #ops :two ", false),
            line("PRIVMSG #ops :goes on", true),
        ];
        assert_eq!(
            batch(&lines, "m1"),
            [
                "@+reply=x BATCH +m1 draft/multiline #ops",
                "@batch=m1 PRIVMSG #ops :one",
                "@batch=m1 PRIVMSG #ops :two ",
                "@batch=m1;draft/multiline-concat PRIVMSG #ops :goes on",
                "BATCH -m1",
            ]
        );
        assert_eq!(without_tags("@a=b;c PRIVMSG x :@y z"), "PRIVMSG x :@y z");
    }
}
