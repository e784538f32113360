//! The lines of a link that is up: read strictly, written in the short form. Table 3 of what Eggdrop speaks
//! (`botcmd.c`, `botmsg.c`).

use std::fmt;

use masterchief_contract::Secret;

use super::name::{Address, BotName, Word};
use super::number;

/// The longest text of a line that goes to others: longer ones are cut by Eggdrops on the way, so we split before.
pub const TEXT_MAX: usize = 400;

/// Whether a line tells what has been so for a while: it is not announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Told again, after a link came up.
    Before,
    /// It happens now.
    Now,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the parts are those of the line, by the names that the room uses everywhere")]
pub enum Message {
    /// `n`: a bot is there, behind another.
    Bot { bot: BotName, uplink: BotName, share: char, version: u32 },
    /// `un`: a bot is gone, and all behind it.
    Gone { bot: BotName, text: String },
    /// `u`: what a bot shares, or its version.
    Update { bot: BotName, share: char, version: u32 },
    /// `j`: somebody is on a channel of a partyline.
    Join { when: When, bot: BotName, nick: Word, chan: u32, icon: char, sock: u32, host: String },
    /// `pt`: somebody left.
    Part { when: When, bot: BotName, nick: Word, sock: u32, reason: String },
    /// `nc`: another name.
    Nick { bot: BotName, sock: u32, nick: Word },
    /// `aw`: away, or back where there is no text.
    Away { when: When, bot: BotName, sock: u32, text: String },
    /// `i`: idle for so many seconds.
    Idle { bot: BotName, sock: u32, secs: u32, away: String },
    /// `c`: words on a channel, of a person or of a bot.
    Chan { from: Address, chan: u32, text: String },
    /// `a`: an action on a channel.
    Act { from: Address, chan: u32, text: String },
    /// `ct`: words of a bot for everybody.
    Chat { bot: BotName, text: String },
    /// `p`: a note of a person, or a line that a bot answers with.
    Priv { from: Address, to: Address, text: String },
    /// `z`: a script's message to one bot.
    Zapf { from: BotName, to: BotName, code: Word, args: String },
    /// `zb`: a script's message to all.
    ZapfBroad { from: BotName, code: Word, args: String },
    /// `f!`, `fr`, `fs`: about a file area, which we have none of; `code` is the last letter. From whose bot to which, and the words
    /// as they came.
    File { code: char, from: BotName, to: BotName, words: String },
    /// `w`: who is there?
    Who { from: Address, to: BotName, chan: u32 },
    /// `i?`: what are you all?
    Info { from: Address },
    /// `m`: the message of the day. Whoever asks may like bold letters.
    Motd { bold: Option<char>, from: Address, to: BotName },
    /// `v`: which modules?
    Modules { from: BotName, to: BotName, who: String },
    /// `t`: the way to a bot, with the hops so far.
    Trace { from: Address, to: BotName, chain: String },
    /// `td`: the way so far, back to who asked.
    Traced { to: Address, chain: String },
    /// `l`: link with a bot, please.
    Link { from: Address, via: BotName, bot: BotName },
    /// `ul`: end the link with a bot, please.
    Unlink { from: Address, via: BotName, bot: BotName, reason: String },
    /// `r`: away with a bot, or with somebody.
    Reject { from: Address, who: Address, reason: String },
    /// `h`: the password of this link from now on.
    Handshake(Secret),
    /// `tb`: who the peer is.
    ThisBot(BotName),
    /// `el`: all is told.
    EndLink,
    /// `pi`.
    Ping,
    /// `po`.
    Pong,
    /// `bye`.
    Bye(String),
    /// `*bye`: the answer to it.
    ByeBye,
    /// `e`: something for the log.
    Error(String),
    /// `starttls`: `s`, you be the server; `c`, you be the client.
    StartTls(char),
    /// `s`: about sharing the user file.
    Share(String),
    /// Of later versions, or of none.
    Unknown(String),
}

/// A line that cannot be what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line `{token}` that is not understood")]
pub struct BadLine {
    /// Its first word.
    pub token: String,
}

/// Reads the words of a line. As in Eggdrop's `newsplit` blanks before a word are passed over, and the rest is kept as it is.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        let line = self.0.trim_start_matches(' ');
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        self.0 = rest;
        word
    }

    fn bot(&mut self) -> Option<BotName> {
        self.next().parse().ok()
    }

    fn word(&mut self) -> Option<Word> {
        Word::new(self.next())
    }

    fn address(&mut self) -> Option<Address> {
        Address::parse(self.next())
    }

    /// A person; a bot alone is none.
    fn person(&mut self) -> Option<Address> {
        self.address().filter(|address| address.user.is_some())
    }

    fn number(&mut self) -> Option<u32> {
        Some(self.next()).filter(|word| !word.is_empty()).map(number::decode)
    }

    /// A character and a number behind it: `-EHxU`, `*H`.
    fn marked(&mut self) -> Option<(char, u32)> {
        let word = self.next();
        let mark = word.chars().next()?;
        Some((mark, number::decode(&word[mark.len_utf8()..])))
    }

    /// `!bot` is told again, `bot` is new.
    fn told(&mut self) -> Option<(When, BotName)> {
        let word = self.next();
        match word.strip_prefix('!') {
            Some(bot) => Some((When::Before, bot.parse().ok()?)),
            None => Some((When::Now, word.parse().ok()?)),
        }
    }

    fn rest(self) -> String {
        self.0.to_owned()
    }
}

impl Message {
    /// Reads a line without its ending.
    pub fn parse(line: &str) -> Result<Message, BadLine> {
        let mut words = Words(line);
        let token = words.next().to_ascii_lowercase();
        let message = net(&token, Words(words.0)).or_else(|| party(&token, Words(words.0)));
        let message = message.or_else(|| asked(&token, Words(words.0))).or_else(|| hop(&token, words));
        match message {
            Some(Some(message)) => Ok(message),
            Some(None) => Err(BadLine { token }),
            None => Ok(Message::Unknown(token)),
        }
    }
}

/// What it says of bots. `None` if it is of another sort, `Some(None)` if it is wrong.
fn net(token: &str, mut words: Words<'_>) -> Option<Option<Message>> {
    let read = || {
        Some(match token {
            "n" | "nlinked" => {
                let (bot, uplink) = (words.bot()?, words.bot()?);
                let (share, version) = words.marked().unwrap_or(('-', 0));
                Message::Bot { bot, uplink, share, version }
            }
            "un" | "unlinked" => Message::Gone { bot: words.bot()?, text: words.rest() },
            "u" | "update" => {
                let bot = words.bot()?;
                let (share, version) = words.marked()?;
                Message::Update { bot, share, version }
            }
            "z" | "zapf" => {
                Message::Zapf { from: words.bot()?, to: words.bot()?, code: words.word()?, args: words.rest() }
            }
            "zb" | "zapf-broad" => Message::ZapfBroad { from: words.bot()?, code: words.word()?, args: words.rest() },
            _ => {
                let code = match token {
                    "fr" | "filereq" => 'r',
                    "fs" | "filesend" => 's',
                    _ => '!',
                };
                let whole = words.0.to_owned();
                // A request goes from a person to a path, what is said to it from a path to a person.
                let (first, second) = (words.next(), words.next());
                let (person, path) = if code == 'r' { (first, second) } else { (second, first) };
                let person = Address::parse(person).filter(|person| person.user.is_some())?.bot;
                let path = path.split_once(':')?.0.parse().ok()?;
                let (from, to) = if code == 'r' { (person, path) } else { (path, person) };
                Message::File { code, from, to, words: whole }
            }
        })
    };
    let own = ["n", "nlinked", "un", "unlinked", "u", "update", "z", "zapf", "zb", "zapf-broad"];
    (own.contains(&token) || ["f!", "filereject", "fr", "filereq", "fs", "filesend"].contains(&token)).then(read)
}

/// What it says of people.
fn party(token: &str, mut words: Words<'_>) -> Option<Option<Message>> {
    let read = || {
        Some(match token {
            "j" | "join" => {
                let (when, bot) = words.told()?;
                let (nick, chan) = (words.word()?, words.number()?);
                let (icon, sock) = words.marked()?;
                Message::Join { when, bot, nick, chan, icon, sock, host: words.rest() }
            }
            "pt" | "part" => {
                let (when, bot) = words.told()?;
                Message::Part { when, bot, nick: words.word()?, sock: words.number()?, reason: words.rest() }
            }
            "nc" => Message::Nick { bot: words.bot()?, sock: words.number()?, nick: words.word()? },
            "aw" | "away" | "unaway" => {
                let (when, bot) = words.told()?;
                let sock = words.number()?;
                let text = if token == "unaway" { String::new() } else { words.rest() };
                Message::Away { when, bot, sock, text }
            }
            "i" | "idle" => {
                Message::Idle { bot: words.bot()?, sock: words.number()?, secs: words.number()?, away: words.rest() }
            }
            "c" | "chan" => Message::Chan { from: words.address()?, chan: words.number()?, text: words.rest() },
            "a" | "actchan" => Message::Act { from: words.person()?, chan: words.number()?, text: words.rest() },
            "ct" | "chat" => Message::Chat { bot: words.bot()?, text: words.rest() },
            _ => Message::Priv { from: words.address()?, to: words.person()?, text: words.rest() },
        })
    };
    let own = ["j", "join", "pt", "part", "nc", "aw", "away", "unaway", "i", "idle", "c", "chan", "a", "actchan"];
    (own.contains(&token) || ["ct", "chat", "p", "priv"].contains(&token)).then(read)
}

/// What somebody asks for, and answers on their way.
fn asked(token: &str, mut words: Words<'_>) -> Option<Option<Message>> {
    let read = || {
        Some(match token {
            "w" | "who" => Message::Who { from: words.person()?, to: words.bot()?, chan: words.number().unwrap_or(0) },
            "i?" | "info?" => Message::Info { from: words.person()? },
            "m" | "motd" => {
                let word = words.next();
                let bold = word.chars().next().filter(|c| matches!(c, '!' | '#'));
                let from =
                    Address::parse(&word[bold.map_or(0, char::len_utf8)..]).filter(|from| from.user.is_some())?;
                Message::Motd { bold, from, to: words.bot()? }
            }
            "v" | "versions" => {
                let (from, to) = (words.bot()?, words.bot()?);
                Message::Modules { from, to, who: words.word()?.to_string() }
            }
            "t" | "trace" => Message::Trace { from: words.person()?, to: words.bot()?, chain: words.rest() },
            "td" | "traced" => Message::Traced { to: words.person()?, chain: words.rest() },
            "l" | "link" => Message::Link { from: words.person()?, via: words.bot()?, bot: words.bot()? },
            "ul" | "unlink" => {
                Message::Unlink { from: words.person()?, via: words.bot()?, bot: words.bot()?, reason: words.rest() }
            }
            _ => Message::Reject { from: words.address()?, who: words.address()?, reason: words.rest() },
        })
    };
    let own = ["w", "who", "i?", "info?", "m", "motd", "v", "versions", "t", "trace", "td", "traced", "l", "link"];
    (own.contains(&token) || ["ul", "unlink", "r", "reject"].contains(&token)).then(read)
}

/// What concerns this link alone.
fn hop(token: &str, mut words: Words<'_>) -> Option<Option<Message>> {
    let message = match token {
        "h" | "handshake" => words.word().map(|word| Message::Handshake(Secret::new(word.as_str()))),
        "tb" | "thisbot" => words.bot().map(Message::ThisBot),
        "el" => Some(Message::EndLink),
        "pi" | "ping" => Some(Message::Ping),
        "po" | "pong" => Some(Message::Pong),
        "bye" => Some(Message::Bye(words.rest())),
        "*bye" => Some(Message::ByeBye),
        "e" | "error" => Some(Message::Error(words.rest())),
        "starttls" => words.next().chars().next().map(Message::StartTls),
        "s" => Some(Message::Share(words.rest())),
        _ => return None,
    };
    Some(message)
}

/// Text that cannot end the line before its end.
fn clean(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\r' | '\n' | '\0') { ' ' } else { c }).collect()
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == When::Before { "!" } else { "" })
    }
}

impl fmt::Display for Message {
    /// The line, in the short form that Eggdrops since 1.3 use, without its ending.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use number::encode as n;
        match self {
            Message::Bot { bot, uplink, share, version } => write!(f, "n {bot} {uplink} {share}{}", n(*version)),
            Message::Gone { bot, text } => write!(f, "un {bot} {}", clean(text)),
            Message::Update { bot, share, version } => write!(f, "u {bot} {share}{}", n(*version)),
            Message::Join { when, bot, nick, chan, icon, sock, host } => {
                write!(f, "j {when}{bot} {nick} {} {icon}{} {}", n(*chan), n(*sock), clean(host))
            }
            Message::Part { when, bot, nick, sock, reason } => {
                write!(f, "pt {when}{bot} {nick} {} {}", n(*sock), clean(reason))
            }
            Message::Nick { bot, sock, nick } => write!(f, "nc {bot} {} {nick}", n(*sock)),
            Message::Away { when, bot, sock, text } => write!(f, "aw {when}{bot} {} {}", n(*sock), clean(text)),
            Message::Idle { bot, sock, secs, away } => {
                write!(f, "i {bot} {} {} {}", n(*sock), n(*secs), clean(away))
            }
            Message::Chan { from, chan, text } => write!(f, "c {from} {} {}", n(*chan), clean(text)),
            Message::Act { from, chan, text } => write!(f, "a {from} {} {}", n(*chan), clean(text)),
            Message::Chat { bot, text } => write!(f, "ct {bot} {}", clean(text)),
            Message::Priv { from, to, text } => write!(f, "p {from} {to} {}", clean(text)),
            Message::Zapf { from, to, code, args } => write!(f, "z {from} {to} {code} {}", clean(args)),
            Message::ZapfBroad { from, code, args } => write!(f, "zb {from} {code} {}", clean(args)),
            Message::File { code, words, .. } => write!(f, "f{code} {}", clean(words)),
            Message::Who { from, to, chan } => write!(f, "w {from} {to} {}", n(*chan)),
            Message::Info { from } => write!(f, "i? {from}"),
            Message::Motd { bold, from, to } => {
                write!(f, "m {}{from} {to}", bold.map(String::from).unwrap_or_default())
            }
            Message::Modules { from, to, who } => write!(f, "v {from} {to} {}", clean(who)),
            Message::Trace { from, to, chain } => write!(f, "t {from} {to} {}", clean(chain)),
            Message::Traced { to, chain } => write!(f, "td {to} {}", clean(chain)),
            Message::Link { from, via, bot } => write!(f, "l {from} {via} {bot}"),
            Message::Unlink { from, via, bot, reason } => write!(f, "ul {from} {via} {bot} {}", clean(reason)),
            Message::Reject { from, who, reason } => write!(f, "r {from} {who} {}", clean(reason)),
            Message::Handshake(password) => write!(f, "h {}", clean(password.reveal())),
            Message::ThisBot(bot) => write!(f, "tb {bot}"),
            Message::EndLink => f.write_str("el"),
            Message::Ping => f.write_str("pi"),
            Message::Pong => f.write_str("po"),
            Message::Bye(reason) => write!(f, "bye {}", clean(reason)),
            Message::ByeBye => f.write_str("*bye"),
            Message::Error(text) => write!(f, "e {}", clean(text)),
            Message::StartTls(who) => write!(f, "starttls {who}"),
            Message::Share(text) => write!(f, "s {}", clean(text)),
            Message::Unknown(token) => f.write_str(&clean(token)),
        }
    }
}

/// Text in parts of at most `max` bytes, cut between characters, at a blank where there is one in the last third.
pub fn parts(text: &str, max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut left = text;
    while left.len() > max {
        let mut end = max;
        while !left.is_char_boundary(end) {
            end -= 1;
        }
        let end = left[..end].rfind(' ').filter(|at| *at > max - max / 3).unwrap_or(end).max(1);
        parts.push(&left[..end]);
        left = left[end..].trim_start_matches(' ');
    }
    parts.push(left);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines that real Eggdrops sent, 1.8.4 and 1.10.
    const REAL: &[&str] = &[
        "tb LeafBot",
        "n Leaf2 HubBot !EHxU",
        "j !LeafBot owner A *H telnet@localhost",
        "j LeafBot bob A -J telnet@localhost",
        "i LeafBot H A ",
        "el",
        "c owner@LeafBot A hello from leaf",
        "c LeafBot A text via dccputchan",
        "a owner@LeafBot A waves",
        "aw LeafBot H lunch time",
        "aw LeafBot H ",
        "pt LeafBot owner H ",
        "nc LeafBot H boss",
        "w 7:owner@LeafBot HubBot A",
        "p HubBot 7:owner@LeafBot no channels",
        "p HubBot 7:owner@LeafBot   *owner           telnet@localhost",
        "t 7:owner@LeafBot Leaf2 :1795224868:LeafBot",
        "td 7:owner@LeafBot :1795224868:LeafBot:HubBot",
        "i? 7:owner@LeafBot",
        "m !7:owner@LeafBot Leaf2",
        "p LeafBot owner@Leaf2 Note sent to bob.",
        "z LeafBot HubBot labcmd one two",
        "zb LeafBot noargs ",
        "ct LeafBot text via dccbroadcast",
        "r owner@Leaf2 bob@LeafBot be gone",
        "r HubBot Leaf2 ",
        "un Leaf2 Unlinked from: Leaf2",
        "u Taker +EHxU",
        "s us 2130706433 36297 566",
        "fr 7:owner@LeafBot HubBot:pub/notes.txt",
        "fs HubBot:pub/notes.txt 7:owner@LeafBot 2130706433 36297 566",
        "f! HubBot:pub/notes.txt 7:owner@LeafBot No such file.",
    ];

    #[test]
    fn real_lines_are_read_and_written_as_they_were() {
        for line in REAL {
            let message = Message::parse(line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
            assert!(!matches!(message, Message::Unknown(_)), "{line}");
            assert_eq!(message.to_string(), *line);
        }
        assert_eq!(Message::parse("zapf-broad A x"), Message::parse("zb A x "));
        assert_eq!(Message::parse("qqq what"), Ok(Message::Unknown("qqq".to_owned())));
        assert_eq!(Message::parse("PI"), Ok(Message::Ping));
    }

    #[test]
    fn what_lacks_its_parts_is_refused_and_a_break_cannot_be_smuggled_in() {
        for line in ["n", "n a", "j x", "c", "p a b", "z a b", "r", "t x@y", "m !", "h", "tb ", "w a b A", "i? LeafBot"]
        {
            assert!(Message::parse(line).is_err(), "{line}");
        }
        let text = "x\ntb Other\r\n".to_owned();
        let line = Message::Chat { bot: "A".parse().unwrap(), text }.to_string();
        assert_eq!(line, "ct A x tb Other  ");
        assert_eq!(format!("{:?}", Message::parse("h geheim").unwrap()), "Handshake(***)");
    }

    #[test]
    fn long_text_is_parted_at_blanks() {
        assert_eq!(parts("one two three", 9), ["one two", "three"]);
        assert_eq!(parts("ääää", 3), ["ä", "ä", "ä", "ä"]);
        assert_eq!(parts("", 3), [""]);
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_harm_and_stays_the_same(line in "(n|un|u|j|pt|nc|aw|i|c|a|ct|p|z|zb|w|i\\?|m|v|t|td|l|ul|r|h|tb|bye|e|s)( !?[0-9a-zA-Z:@*-]{1,12}){0,6} ?[^\r\n\0]{0,30}") {
            if let Ok(message) = Message::parse(&line) {
                let again = Message::parse(&message.to_string());
                prop_assert_eq!(again, Ok(message));
            }
        }

        #[test]
        fn whatever_comes_is_no_panic(line in ".{0,200}") {
            let _ = Message::parse(&line).map(|message| message.to_string());
        }

        #[test]
        fn parts_fit_and_lose_only_blanks(text in "[a-zä ]{0,60}", max in 4usize..20) {
            let parts = parts(&text, max);
            prop_assert!(parts.iter().all(|part| part.len() <= max));
            prop_assert_eq!(parts.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }
}
