//! What the server says about itself in 005. <https://modern.ircdocs.horse/#rplisupport-005>

use std::collections::BTreeMap;

use masterchief_contract::CaseMap;

/// What a value may hold at most; longer ones are hostile.
const VALUE_MAX: usize = 1024;
/// Letters of one MODE line that are read; no server takes as many at once.
const MODES_MAX: usize = 128;
/// How many tokens are kept.
const TOKENS_MAX: usize = 256;

/// The tokens so far, with typed readings. Before the first 005 it has the protocol's defaults.
#[derive(Clone, Debug, Default)]
pub struct ISupport {
    tokens: BTreeMap<String, String>,
}

/// One mode of a MODE line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeChange {
    /// Set or unset.
    pub add: bool,
    /// Its letter.
    pub letter: char,
    /// Its parameter.
    pub param: Option<String>,
}

impl ModeChange {
    /// As Eggdrop writes it: `+o`.
    pub fn name(&self) -> String {
        format!("{}{}", if self.add { '+' } else { '-' }, self.letter)
    }
}

impl ISupport {
    /// Takes the parameters of a 005: our nick first, words for people last.
    pub fn take(&mut self, params: &[&str]) {
        let Some((_, tokens)) = params.get(1..).and_then(<[&str]>::split_last) else {
            return;
        };
        for token in tokens {
            if let Some(gone) = token.strip_prefix('-') {
                self.tokens.remove(gone);
                continue;
            }
            let (key, value) = token.split_once('=').unwrap_or((token, ""));
            if key.is_empty() || value.len() > VALUE_MAX || self.tokens.len() >= TOKENS_MAX {
                continue;
            }
            self.tokens.insert(key.to_owned(), unescape(value));
        }
    }

    /// A change is taken back: the token is what it `was` before. Not if it has changed again since; whether it was taken back.
    pub fn take_back(&mut self, token: &str, change: Option<&str>, was: Option<&str>) -> bool {
        if self.get(token) != change {
            return false;
        }
        match was {
            Some(value) => self.tokens.insert(token.to_owned(), value.to_owned()),
            None => self.tokens.remove(token),
        };
        true
    }

    /// A token's value; empty for one without.
    pub fn get(&self, token: &str) -> Option<&str> {
        self.tokens.get(token).map(String::as_str)
    }

    /// Whether the server has it.
    pub fn has(&self, token: &str) -> bool {
        self.tokens.contains_key(token)
    }

    /// How names are compared; RFC 1459 where nothing is said, ASCII where it is unknown.
    pub fn casemap(&self) -> CaseMap {
        self.get("CASEMAPPING").map_or(CaseMap::Rfc1459, |value| CaseMap::parse(value).unwrap_or(CaseMap::Ascii))
    }

    /// Whether this names a channel; a status prefix (`@#chan`) does not count.
    pub fn is_channel(&self, name: &str) -> bool {
        let types = self.get("CHANTYPES").unwrap_or("#&");
        name.chars().next().is_some_and(|first| types.contains(first))
    }

    /// The channel in a target, without the status it is limited to (`@#chan`).
    pub fn channel_of<'a>(&self, target: &'a str) -> Option<&'a str> {
        let statuses = self.get("STATUSMSG").unwrap_or("");
        let bare = target.trim_start_matches(|c| statuses.contains(c));
        if self.is_channel(target) { Some(target) } else { self.is_channel(bare).then_some(bare) }
    }

    /// The statuses of members, highest first: mode letter and symbol.
    pub fn statuses(&self) -> Vec<(char, char)> {
        let value = self.get("PREFIX").unwrap_or("(ov)@+");
        let Some((letters, symbols)) = value.strip_prefix('(').and_then(|value| value.split_once(')')) else {
            return Vec::new();
        };
        letters.chars().zip(symbols.chars()).collect()
    }

    /// A number, where the server gives one.
    pub fn number(&self, token: &str) -> Option<usize> {
        self.get(token)?.parse().ok()
    }

    /// How many targets a command takes at once (TARGMAX); no limit where nothing is said.
    pub fn targmax(&self, command: &str) -> usize {
        let rows = self.get("TARGMAX").unwrap_or("").split(',').filter_map(|row| row.split_once(':'));
        let mut found = rows.filter(|(name, _)| name.eq_ignore_ascii_case(command));
        found.next().and_then(|(_, most)| most.parse().ok()).filter(|most| *most > 0).unwrap_or(usize::MAX)
    }

    /// In how many channels with this sign one may be (CHANLIMIT, before it MAXCHANNELS); nothing where there is no limit.
    pub fn chanlimit(&self, sign: char) -> Option<usize> {
        let Some(limits) = self.get("CHANLIMIT") else { return self.number("MAXCHANNELS").filter(|most| *most > 0) };
        let rows = limits.split(',').filter_map(|row| row.split_once(':'));
        let mut found = rows.filter(|(signs, _)| signs.contains(sign));
        found.next().and_then(|(_, most)| most.parse().ok()).filter(|most| *most > 0)
    }

    /// Whether a mode of channels is a list, such as bans.
    pub fn is_list(&self, letter: char) -> bool {
        self.get("CHANMODES").unwrap_or("b").split(',').next().is_some_and(|lists| lists.contains(letter))
    }

    /// Whether who has this status letter is an operator, or more. Where a server has none, everybody is.
    pub fn is_operator(&self, letter: char) -> bool {
        let statuses = self.statuses();
        let place = |wanted: char| statuses.iter().position(|(letter, _)| *letter == wanted);
        place('o').is_none_or(|op| place(letter).is_some_and(|at| at <= op))
    }

    /// The longest nick; 9 where nothing is said.
    pub fn nicklen(&self) -> usize {
        self.number("NICKLEN").filter(|len| *len > 0).unwrap_or(9)
    }

    /// The longest line with its CRLF.
    pub fn linelen(&self) -> usize {
        self.number("LINELEN").unwrap_or(512).clamp(512, 16 * 1024)
    }

    /// The user mode that marks bots.
    pub fn bot_letter(&self) -> Option<char> {
        self.get("BOT")?.chars().next().filter(char::is_ascii_alphabetic)
    }

    /// The single changes of a MODE line on a channel: `letters` and what follows them.
    pub fn modes(&self, letters: &str, params: &[&str]) -> Vec<ModeChange> {
        let classes: Vec<&str> = self.get("CHANMODES").unwrap_or("b,k,l,imnpst").split(',').collect();
        let class = |at: usize, letter| classes.get(at).is_some_and(|letters: &&str| letters.contains(letter));
        let statuses = self.statuses();
        let mut params = params.iter();
        let (mut add, mut out) = (true, Vec::new());
        for letter in letters.chars().take(MODES_MAX) {
            match letter {
                '+' => add = true,
                '-' => add = false,
                letter => {
                    let status = statuses.iter().any(|(mode, _)| *mode == letter);
                    let takes = status || class(0, letter) || class(1, letter) || (class(2, letter) && add);
                    let param = if takes { params.next().map(|param| (*param).to_owned()) } else { None };
                    out.push(ModeChange { add, letter, param });
                }
            }
        }
        out
    }
}

/// `\x20` and the like.
fn unescape(value: &str) -> String {
    if !value.contains("\\x") {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.push_str(before);
        let code = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[2..];
            }
            None => {
                out.push_str("\\x");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(tokens: &[&str]) -> ISupport {
        let mut isupport = ISupport::default();
        let mut params = vec!["chief"];
        params.extend(tokens);
        params.push("are supported by this server");
        isupport.take(&params);
        isupport
    }

    #[test]
    fn targets_are_limited_by_command() {
        let mut isupport = ISupport::default();
        assert_eq!(isupport.targmax("JOIN"), usize::MAX);
        isupport.take(&["chief", "TARGMAX=NAMES:1,JOIN:4,KICK:", "are supported"]);
        assert_eq!([isupport.targmax("JOIN"), isupport.targmax("names"), isupport.targmax("KICK")], [4, 1, usize::MAX]);
    }

    #[test]
    fn later_lines_override_and_a_minus_takes_away() {
        let mut isupport = told(&["NICKLEN=30", "CASEMAPPING=ascii", "NETWORK=Lab\\x20Net", "WHOX"]);
        assert_eq!((isupport.nicklen(), isupport.casemap()), (30, CaseMap::Ascii));
        assert_eq!(isupport.get("NETWORK"), Some("Lab Net"));
        isupport.take(&["chief", "-WHOX", "NICKLEN=20", "CASEMAPPING=rfc7613", "x"]);
        assert_eq!((isupport.has("WHOX"), isupport.nicklen(), isupport.casemap()), (false, 20, CaseMap::Ascii));
        assert_eq!(ISupport::default().casemap(), CaseMap::Rfc1459);
    }

    #[test]
    fn a_change_is_taken_back_unless_there_was_another_since() {
        let mut isupport = told(&["NICKLEN=30", "WHOX"]);
        isupport.take(&["chief", "NICKLEN=20", "-WHOX", "BOT=B", "x"]);
        assert!(isupport.take_back("NICKLEN", Some("20"), Some("30")) && isupport.nicklen() == 30);
        assert!(isupport.take_back("WHOX", None, Some("")) && isupport.has("WHOX"));
        assert!(isupport.take_back("BOT", Some("B"), None) && !isupport.has("BOT"));
        assert!(!isupport.take_back("NICKLEN", Some("20"), Some("9")), "it is 30 by now");
        assert_eq!(isupport.nicklen(), 30);
    }

    #[test]
    fn a_status_in_front_of_a_channel_is_not_its_name() {
        let isupport = told(&["CHANTYPES=#", "STATUSMSG=@+"]);
        assert_eq!(isupport.channel_of("@#ops"), Some("#ops"));
        assert_eq!(isupport.channel_of("#ops"), Some("#ops"));
        assert_eq!((isupport.channel_of("bob"), isupport.channel_of("&x")), (None, None));
    }

    #[test]
    fn who_is_an_operator_goes_by_the_rank_and_channels_are_limited_by_their_sign() {
        let isupport = told(&["PREFIX=(qaohv)~&@%+", "CHANLIMIT=#:20,&+:"]);
        assert!("qao".chars().all(|letter| isupport.is_operator(letter)));
        assert!("hvx".chars().all(|letter| !isupport.is_operator(letter)));
        assert!(told(&["PREFIX="]).is_operator('v'), "nobody is one there");
        assert_eq!((isupport.chanlimit('#'), isupport.chanlimit('+'), isupport.chanlimit('!')), (Some(20), None, None));
        assert_eq!(told(&["MAXCHANNELS=10"]).chanlimit('#'), Some(10));
    }

    #[test]
    fn modes_take_their_parameters_by_class() {
        let isupport = told(&["CHANMODES=Ibe,k,HJl,imnst", "PREFIX=(qaohv)~&@%+"]);
        let names: Vec<String> = isupport
            .modes("+bo-lk+lZn", &["*!*@x", "bob", "key", "10"])
            .iter()
            .map(|change| format!("{} {}", change.name(), change.param.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(names, ["+b *!*@x", "+o bob", "-l ", "-k key", "+l 10", "+Z ", "+n "]);
        assert_eq!(told(&["PREFIX="]).statuses(), []);
    }

    proptest! {
        #[test]
        fn nothing_a_server_says_panics(tokens in prop::collection::vec(any::<String>(), 0..6), modes in any::<String>()) {
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            let mut isupport = ISupport::default();
            isupport.take(&tokens);
            isupport.modes(&modes, &tokens);
            isupport.channel_of(&modes);
            isupport.statuses();
        }
    }
}
