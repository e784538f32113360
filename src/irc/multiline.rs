//! Words of several lines as one message, where the server takes such. <https://ircv3.net/specs/extensions/multiline>. Pure.

use std::collections::VecDeque;

use super::message::Message;
use super::outgoing::{Line, Most};

/// Lines of one message where the server names no limit.
const LINES: usize = 100;
/// Messages whose fate is not known yet; the oldest are taken for passed on.
const OPEN_MAX: usize = 64;

/// How a line begins that is a part of a message.
pub(super) const PART: &str = "@batch=";

/// The messages in parts of one connection whose fate is not known yet.
///
/// A refusal (`FAIL BATCH MULTILINE_…`) names no batch, and there may be several for one. But a server answers in order, so a PING
/// behind each message tells to which one what comes before its PONG belongs.
#[derive(Debug, Default)]
pub(super) struct Wholes {
    last: u64,
    /// The oldest first. The lines of one that was refused are taken out and said one by one.
    open: VecDeque<(String, Option<Vec<Line>>)>,
}

impl Wholes {
    /// What to send for these lines.
    pub(super) fn send(&mut self, lines: Vec<Line>) -> Vec<Line> {
        self.last += 1;
        let reference = format!("mc{}", self.last);
        let mut out = batch(&lines, &reference);
        out.push(around(format!("PING {reference}")));
        if self.open.len() >= OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back((reference, Some(lines)));
        out
    }

    /// Takes a line of the server in; gives the lines of a message that it just refused.
    pub(super) fn take(&mut self, message: &Message<'_>) -> Option<Vec<Line>> {
        if message.is("PONG") {
            let passed = self.open.iter().position(|(reference, _)| reference == message.last());
            passed.into_iter().for_each(|at| drop(self.open.drain(..=at)));
            return None;
        }
        let refusal = message.is("FAIL") && message.param(0) == "BATCH" && message.param(1).starts_with("MULTILINE_");
        self.open.front_mut().filter(|_| refusal)?.1.take()
    }
}

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
pub(super) fn batch(lines: &[Line], reference: &str) -> Vec<Line> {
    let Some(Ok(first)) = lines.first().map(|line| Message::parse(&line.text)) else { return Vec::new() };
    let tags = lines[0].text.strip_suffix(without_tags(&lines[0].text)).unwrap_or("");
    let mut out = vec![around(format!("{tags}BATCH +{reference} draft/multiline {}", first.param(0)))];
    for (at, line) in lines.iter().enumerate() {
        let concat = if line.goes_on && at > 0 { ";draft/multiline-concat" } else { "" };
        let text = format!("{PART}{reference}{concat} {}", without_tags(&line.text));
        out.push(Line { text, ..line.clone() });
    }
    out.push(around(format!("BATCH -{reference}")));
    out
}

/// What stands around the parts: nobody has said it.
fn around(text: String) -> Line {
    Line { hush: true, ..Line::from(text) }
}

/// A line of ours without the tags in front.
pub(super) fn without_tags(line: &str) -> &str {
    match line.strip_prefix('@') {
        Some(tagged) => tagged.split_once(' ').map_or("", |(_, rest)| rest),
        None => line,
    }
}

/// Whether a line of ours is words for somebody.
pub(super) fn is_words(line: &str) -> bool {
    let bare = without_tags(line);
    bare.starts_with("PRIVMSG ") || bare.starts_with("NOTICE ")
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
    fn a_refusal_is_of_the_message_before_the_next_pong_and_each_is_said_again_once() {
        let whole = |text: &str| vec![Line { text: format!("PRIVMSG #ops :{text}"), whole: 1, ..Line::default() }];
        let mut wholes = Wholes::default();
        assert_eq!(wholes.send(whole("one")).last().unwrap().text, "PING mc1");
        wholes.send(whole("two"));
        wholes.send(whole("three"));
        let mut take = |line: &str| {
            let refused = wholes.take(&Message::parse(line).unwrap());
            refused.map(|lines| lines[0].text.clone())
        };
        let fail = ":s FAIL BATCH MULTILINE_MAX_BYTES 9 :Too long";
        assert_eq!(take(":s PONG s mc1"), None);
        assert_eq!(take(fail).as_deref(), Some("PRIVMSG #ops :two"));
        assert_eq!(take(":s FAIL BATCH MULTILINE_INVALID :x"), None, "two reasons for one refusal");
        assert_eq!(take(":s FAIL BATCH OTHER :x"), None);
        assert_eq!(take(":s PONG s :mc2"), None);
        assert_eq!(take(fail).as_deref(), Some("PRIVMSG #ops :three"));
        assert_eq!(take(":s PONG s mc3"), None);
        assert_eq!(take(fail), None, "of nothing that we sent");
    }

    #[test]
    fn the_tags_stand_on_the_opening_and_a_cut_line_goes_on() {
        let line = |text: &str, goes_on| Line { text: text.to_owned(), whole: 1, goes_on, ..Line::default() };
        let lines = [
            line("@+reply=x PRIVMSG #ops :one", false),
            line("PRIVMSG #ops :two ", false),
            line("PRIVMSG #ops :goes on", true),
        ];
        assert_eq!(
            batch(&lines, "m1").into_iter().map(|line| line.text).collect::<Vec<_>>(),
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
