//! One line of IRC: parsed without copying, and composed so that no text can become a command.
//!
//! Grammar: <https://modern.ircdocs.horse/#message-format>, message tags:
//! <https://ircv3.net/specs/extensions/message-tags>.

use std::borrow::Cow;
use std::fmt::Write;

use memchr::memchr;

/// Parameters kept as slices; RFC 2812 allows 15, and what stands beyond belongs to the last.
const MAX_PARAMS: usize = 15;

/// A parsed line that borrows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The tags as they stand between `@` and the blank.
    pub tags: Tags<'a>,
    /// Who sent it.
    pub source: Option<Source<'a>>,
    /// The command or numeric, as sent. Compare without case.
    pub command: &'a str,
    params: [&'a str; MAX_PARAMS],
    count: usize,
}

/// The source of a line: `nick!user@host`, or a server's name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// Before the `!`, or all of it.
    pub nick: &'a str,
    /// Between `!` and `@`; empty where absent.
    pub user: &'a str,
    /// After the `@`; empty where absent.
    pub host: &'a str,
}

/// Message tags, read when asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags<'a>(&'a str);

/// Why a line is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFault {
    /// Nothing but blanks.
    #[error("an empty line")]
    Empty,
    /// Tags or a source, and then nothing.
    #[error("a line without a command")]
    NoCommand,
}

/// Why a line cannot be composed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeFault {
    /// A line break or NUL, which would end the command and begin another.
    #[error("a line break or NUL in {0:?}: send the parts as lines of their own")]
    LineBreak(String),
    /// A parameter before the last that is empty, begins with a colon or holds a blank.
    #[error("{0:?} cannot stand before the last parameter: it is empty, begins with `:` or holds a blank")]
    Middle(String),
    /// A command that is not letters or digits.
    #[error("{0:?} is not a command: letters and digits only")]
    Command(String),
}

impl<'a> Message<'a> {
    /// Reads a line without its CRLF. Several blanks count as one; trailing blanks are no parameter.
    pub fn parse(line: &'a str) -> Result<Message<'a>, ParseFault> {
        let mut rest = line.trim_start_matches(' ');
        let mut tags = Tags::default();
        if let Some(tagged) = rest.strip_prefix('@') {
            let (text, after) = word(tagged);
            (tags, rest) = (Tags(text), after);
        }
        let mut source = None;
        if let Some(sourced) = rest.strip_prefix(':') {
            let (text, after) = word(sourced);
            (source, rest) = (Some(Source::parse(text)), after);
        }
        let (command, mut rest) = word(rest);
        if command.is_empty() {
            return Err(if line.trim_matches(' ').is_empty() { ParseFault::Empty } else { ParseFault::NoCommand });
        }
        let (mut params, mut count) = ([""; MAX_PARAMS], 0);
        while !rest.is_empty() {
            let (param, after) = match rest.strip_prefix(':') {
                Some(trailing) => (trailing, ""),
                None if count == MAX_PARAMS - 1 => (rest, ""),
                None => word(rest),
            };
            params[count] = param;
            count += 1;
            rest = after;
        }
        Ok(Message { tags, source, command, params, count })
    }

    /// The parameters.
    pub fn params(&self) -> &[&'a str] {
        &self.params[..self.count]
    }

    /// A parameter, empty where absent.
    pub fn param(&self, at: usize) -> &'a str {
        self.params().get(at).copied().unwrap_or("")
    }

    /// The last parameter, empty where there is none.
    pub fn last(&self) -> &'a str {
        self.params().last().copied().unwrap_or("")
    }

    /// Tags and source as they stand in front of a command, the tag `batch` left out; for a line that is put together of parts.
    pub(super) fn head(&self) -> String {
        let tags: Vec<&str> =
            self.tags.0.split(';').filter(|tag| !tag.is_empty() && !tag.starts_with("batch=")).collect();
        let mut out = String::new();
        if !tags.is_empty() {
            out = format!("@{} ", tags.join(";"));
        }
        if let Some(Source { nick, user, host }) = self.source {
            out.push(':');
            out.push_str(nick);
            [('!', user), ('@', host)].iter().filter(|(_, part)| !part.is_empty()).for_each(|(sign, part)| {
                out.push(*sign);
                out.push_str(part);
            });
            out.push(' ');
        }
        out
    }

    /// The line this was read from with its command in capitals, where it has it otherwise. Case means nothing in a command.
    pub(super) fn in_capitals(&self, line: &str) -> Option<String> {
        if !self.command.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return None;
        }
        let at = (self.command.as_ptr() as usize).checked_sub(line.as_ptr() as usize)?;
        let (before, after) = (line.get(..at)?, line.get(at + self.command.len()..)?);
        Some(format!("{before}{}{after}", self.command.to_ascii_uppercase()))
    }

    /// Whether this is the command, without case.
    pub fn is(&self, command: &str) -> bool {
        self.command.eq_ignore_ascii_case(command)
    }

    /// The nick of the source, empty where there is none.
    pub fn nick(&self) -> &'a str {
        self.source.map_or("", |source| source.nick)
    }
}

impl<'a> Source<'a> {
    /// Splits `nick!user@host`. Any part may be missing.
    pub fn parse(text: &'a str) -> Source<'a> {
        let (name, host) = match memchr(b'@', text.as_bytes()) {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, ""),
        };
        match memchr(b'!', name.as_bytes()) {
            Some(at) => Source { nick: &name[..at], user: &name[at + 1..], host },
            None => Source { nick: name, user: "", host },
        }
    }
}

impl<'a> Tags<'a> {
    /// The value of a tag, unescaped; of the last where it is repeated. A tag without a value is empty.
    pub fn get(&self, key: &str) -> Option<Cow<'a, str>> {
        self.raw().filter(|(name, _)| *name == key).last().map(|(_, value)| unescape(value))
    }

    /// All tags with unescaped values, in order, repeated ones too.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        self.raw().map(|(key, value)| (key, unescape(value)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn raw(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0.split(';').filter(|tag| !tag.is_empty()).map(|tag| tag.split_once('=').unwrap_or((tag, "")))
    }
}

/// Composes a line without its CRLF.
///
/// Every parameter but the last must be one word. Text with a line break is refused: it would become a second
/// command on the wire.
pub fn compose(tags: &[(&str, &str)], command: &str, params: &[&str]) -> Result<String, ComposeFault> {
    if command.is_empty() || !command.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(ComposeFault::Command(command.to_owned()));
    }
    let mut line = String::with_capacity(64);
    for (at, (key, value)) in tags.iter().enumerate() {
        let good = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-/.".contains(&byte));
        if !good {
            return Err(ComposeFault::Middle((*key).to_owned()));
        }
        line.push(if at == 0 { '@' } else { ';' });
        line.push_str(key);
        if !value.is_empty() {
            line.push('=');
            escape(value, &mut line);
        }
    }
    if !tags.is_empty() {
        line.push(' ');
    }
    line.push_str(command);
    for (at, param) in params.iter().enumerate() {
        let last = at + 1 == params.len();
        if param.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(ComposeFault::LineBreak((*param).to_owned()));
        }
        let needs_colon = param.is_empty() || param.starts_with(':') || memchr(b' ', param.as_bytes()).is_some();
        if needs_colon && !last {
            return Err(ComposeFault::Middle((*param).to_owned()));
        }
        let colon = if needs_colon { ":" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(line, " {colon}{param}");
    }
    Ok(line)
}

/// The first word and what follows its blanks.
fn word(text: &str) -> (&str, &str) {
    match memchr(b' ', text.as_bytes()) {
        Some(at) => (&text[..at], text[at + 1..].trim_start_matches(' ')),
        None => (text, ""),
    }
}

/// A tag's value as it is meant. A lone backslash at the end is dropped, an unknown escape loses its backslash.
fn unescape(value: &str) -> Cow<'_, str> {
    if memchr(b'\\', value.as_bytes()).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { Some(c) }) {
            ('\\', Some(':')) => out.push(';'),
            ('\\', Some('s')) => out.push(' '),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some('n')) => out.push('\n'),
            (_, Some(c)) => out.push(c),
            (_, None) => {}
        }
    }
    Cow::Owned(out)
}

fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            ';' => out.push_str("\\:"),
            ' ' => out.push_str("\\s"),
            '\\' => out.push_str("\\\\"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\0' => {}
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(line: &str) -> (Option<&str>, &str, Vec<&str>) {
        let message = Message::parse(line).unwrap();
        (message.source.map(|source| source.nick), message.command, message.params().to_vec())
    }

    #[test]
    fn blanks_colons_and_missing_sources_are_read_as_servers_mean_them() {
        let cases: &[(&str, Option<&str>, &str, &[&str])] = &[
            ("foo bar baz asdf", None, "foo", &["bar", "baz", "asdf"]),
            (":coolguy foo bar baz  asdf", Some("coolguy"), "foo", &["bar", "baz", "asdf"]),
            ("foo bar baz :asdf quux", None, "foo", &["bar", "baz", "asdf quux"]),
            ("foo bar baz :", None, "foo", &["bar", "baz", ""]),
            ("foo bar baz ::asdf", None, "foo", &["bar", "baz", ":asdf"]),
            (":src JOIN #chan  ", Some("src"), "JOIN", &["#chan"]),
            (":src JOIN :#chan", Some("src"), "JOIN", &["#chan"]),
            (":src AWAY", Some("src"), "AWAY", &[]),
            ("  PING   :tok en ", None, "PING", &["tok en "]),
            (":gravel.mozilla.org MODE #tckk +n  ", Some("gravel.mozilla.org"), "MODE", &["#tckk", "+n"]),
            ("AUTHENTICATE :+", None, "AUTHENTICATE", &["+"]),
        ];
        for (line, source, command, params) in cases {
            assert_eq!(parsed(line), (*source, *command, params.to_vec()), "{line}");
        }
        assert_eq!(Message::parse("   "), Err(ParseFault::Empty));
        assert_eq!(Message::parse("@a=b :src"), Err(ParseFault::NoCommand));
    }

    #[test]
    fn a_source_has_three_parts_and_any_may_be_missing() {
        let parts = |text| {
            let source = Source::parse(text);
            (source.nick, source.user, source.host)
        };
        assert_eq!(parts("coolguy!ag@net\u{3}5w\u{3}ork.admin"), ("coolguy", "ag", "net\u{3}5w\u{3}ork.admin"));
        assert_eq!(parts("coolguy@127.0.0.1"), ("coolguy", "", "127.0.0.1"));
        assert_eq!(parts("coolguy!~ag"), ("coolguy", "~ag", ""));
        assert_eq!(parts("irc.example.net"), ("irc.example.net", "", ""));
    }

    #[test]
    fn tags_are_unescaped_and_the_last_of_a_key_wins() {
        let message = Message::parse(r"@a=b\\and\nk;c=72\s45;d=gh\:764;e=;f;a=last\;x=\b\ :s CMD").unwrap();
        let get = |key| message.tags.get(key).map(Cow::into_owned);
        assert_eq!(get("a").as_deref(), Some("last"));
        assert_eq!(get("c").as_deref(), Some("72 45"));
        assert_eq!(get("d").as_deref(), Some("gh;764"));
        assert_eq!((get("e").as_deref(), get("f").as_deref(), get("g")), (Some(""), Some(""), None));
        assert_eq!(get("x").as_deref(), Some("b"));
        let first = message.tags.iter().next().unwrap();
        assert_eq!(first, ("a", Cow::from("b\\and\nk")));
    }

    #[test]
    fn the_sixteenth_word_belongs_to_the_fifteenth_parameter() {
        let line = format!("X {}", (1..=20).map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
        let message = Message::parse(&line).unwrap();
        assert_eq!((message.params().len(), message.last()), (15, "15 16 17 18 19 20"));
    }

    #[test]
    fn a_line_break_is_never_composed() {
        for bad in ["a\nQUIT", "a\rQUIT", "a\0b"] {
            assert_eq!(compose(&[], "PRIVMSG", &["#a", bad]), Err(ComposeFault::LineBreak(bad.to_owned())));
            assert!(compose(&[], "PRIVMSG", &[bad, "x"]).is_err());
        }
        assert!(compose(&[], "PRIV MSG", &[]).is_err());
        assert!(compose(&[], "PRIVMSG", &["#a b", "x"]).is_err());
        assert!(compose(&[("a b", "x")], "PRIVMSG", &[]).is_err());
        let line = compose(&[("+draft/reply", "a;b\nc")], "PRIVMSG", &["#a", ":) hi"]).unwrap();
        assert_eq!(line, r"@+draft/reply=a\:b\nc PRIVMSG #a ::) hi");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(line in any::<String>()) {
            if let Ok(message) = Message::parse(&line) {
                prop_assert!(!message.command.is_empty());
                message.tags.iter().for_each(drop);
            }
        }

        #[test]
        fn what_is_composed_is_parsed_back(
            tags in prop::collection::vec(("[a-z+][a-z/.-]{0,8}", "[^\u{0}]{1,12}"), 0..4),
            command in "[A-Z]{1,8}|[0-9]{3}",
            middle in prop::collection::vec("[^ :\r\n\u{0}][^ \r\n\u{0}]{0,8}", 0..10),
            last in "[^\r\n\u{0}]{0,60}",
        ) {
            let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let mut params: Vec<&str> = middle.iter().map(String::as_str).collect();
            params.push(&last);
            let line = compose(&tags, &command, &params).unwrap();
            let message = Message::parse(&line).unwrap();
            prop_assert_eq!(message.command, command.as_str());
            prop_assert_eq!(message.params(), &params[..]);
            let back: Vec<(&str, String)> = message.tags.iter().map(|(key, value)| (key, value.into_owned())).collect();
            let want: Vec<(&str, String)> = tags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            prop_assert_eq!(back, want);
        }
    }
}
