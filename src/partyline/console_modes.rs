//! What of the log a person sees: Eggdrop's console modes with Eggdrop's meaning, ours in capitals, a channel, and a level.

use std::fmt;
use std::sync::Arc;

use tracing::Level;

/// Who may see what a letter shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// Whoever may watch the channel in which it happens.
    Watchers,
    /// Masters.
    Masters,
    /// Owners.
    Owners,
}

/// The letters, what each means here, and for whom.
pub const MODES: &[(char, &str, Shown)] = &[
    ('m', "what is said to the bot in private", Shown::Masters),
    ('p', "what is said in channels", Shown::Watchers),
    ('j', "who comes to channels, leaves them, and takes another nick", Shown::Watchers),
    ('k', "kicks, modes and topics in channels", Shown::Watchers),
    ('c', "commands, and who was refused", Shown::Masters),
    ('o', "everything else", Shown::Masters),
    ('b', "bots and links", Shown::Masters),
    ('r', "lines of servers as they come", Shown::Owners),
    ('v', "lines to servers as they leave", Shown::Owners),
    ('s', "servers", Shown::Masters),
    ('d', "details, for who looks for a fault", Shown::Masters),
    ('w', "wallops", Shown::Masters),
    ('t', "lines of linked bots as they come", Shown::Owners),
    ('u', "lines to linked bots as they leave", Shown::Owners),
    ('P', "who comes and goes on the partyline", Shown::Masters),
    ('R', "runs of pipelines", Shown::Masters),
    ('W', "what comes from outside", Shown::Masters),
];

/// Letters of Eggdrop's for which there is nothing here: files, shares of the user file, and those for scripts.
const NOTHING: &str = "xhgl12345678";

/// The lines of which a bot has many: each is a detail of the log.
const RAW: &str = "vtu";

/// What of the log a person sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modes {
    letters: u32,
    level: Level,
    /// The channel they see words and people of, `network/#channel`; all that they may without.
    place: Option<Arc<str>>,
}

impl Default for Modes {
    fn default() -> Modes {
        Modes { letters: 0, level: Level::INFO, place: None }
    }
}

impl Modes {
    /// Whether a line of this mode and level is wanted.
    pub fn wants(&self, mode: char, level: Level) -> bool {
        self.letters & bit(mode) != 0 && level <= self.level
    }

    /// Whether lines of a channel are wanted.
    pub fn wants_place(&self, place: &str) -> bool {
        self.place.as_deref().is_none_or(|only| only.eq_ignore_ascii_case(place))
    }

    /// Whether anything is wanted.
    pub fn is_empty(&self) -> bool {
        self.letters == 0
    }

    /// Whether any of these letters is wanted.
    pub fn wants_any(&self, letters: &str) -> bool {
        letters.chars().any(|letter| self.letters & bit(letter) != 0)
    }

    /// The least important level that is wanted.
    pub fn level(&self) -> Level {
        if self.wants_any(RAW) { Level::DEBUG } else { self.level }
    }

    /// Without the letters that are for others than those who may see this.
    #[must_use]
    pub fn only(&self, most: Option<Shown>) -> Modes {
        let may = MODES.iter().filter(|(.., shown)| Some(*shown) <= most).map(|(letter, ..)| bit(*letter));
        Modes { letters: self.letters & may.fold(0, |all, bit| all | bit), ..self.clone() }
    }

    /// With changes such as `+bc-d` (`*` is every letter), a channel (`network/#channel`, `*` for all), or a level such as `debug`.
    pub fn change(&self, text: &str) -> Result<Modes, String> {
        let mut modes = self.clone();
        if text == "*" || text.contains('/') {
            modes.place = (text != "*").then(|| Arc::from(text));
            return Ok(modes);
        }
        if text.contains('#') {
            return Err(format!("{text:?} is on no network; write it as in libera/{text}"));
        }
        if let Ok(level) = text.parse::<Level>()
            && text.parse::<usize>().is_err()
        {
            if level > Level::DEBUG {
                return Err("there is nothing finer than debug".to_owned());
            }
            modes.level = level;
            return Ok(modes);
        }
        let mut add = true;
        for letter in text.chars() {
            match letter {
                '+' => add = true,
                '-' => add = false,
                '*' => modes.letters = if add { all() } else { 0 },
                letter if bit(letter) != 0 && add => modes.letters |= bit(letter),
                letter if bit(letter) != 0 => modes.letters &= !bit(letter),
                letter if NOTHING.contains(letter) => {}
                letter => {
                    let known: String = MODES.iter().map(|(letter, ..)| *letter).collect();
                    return Err(format!("{letter:?} is no console mode; there are {known}, and levels error to debug"));
                }
            }
        }
        Ok(modes)
    }

    /// The letters of a change for which there is nothing here.
    pub fn nothing_for(text: &str) -> String {
        text.chars().filter(|letter| NOTHING.contains(*letter)).collect()
    }

    /// As it is kept: `+bco info libera/#ops`.
    pub fn parse(text: &str) -> Option<Modes> {
        text.split_whitespace().try_fold(Modes::default(), |modes, part| modes.change(part).ok())
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters: String =
            MODES.iter().map(|(letter, ..)| *letter).filter(|letter| self.letters & bit(*letter) != 0).collect();
        let sign = if letters.is_empty() { "-*" } else { "+" };
        write!(f, "{sign}{letters} {}", self.level.as_str().to_ascii_lowercase())?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, " {place}"))
    }
}

fn bit(letter: char) -> u32 {
    MODES.iter().position(|(known, ..)| *known == letter).map_or(0, |at| 1 << at)
}

fn all() -> u32 {
    (1 << MODES.len()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_by_letter_and_are_kept_as_they_are_shown() {
        let modes = Modes::default().change("+bc-c").unwrap().change("debug").unwrap();
        assert!(modes.wants('b', Level::DEBUG) && !modes.wants('b', Level::TRACE) && !modes.wants('c', Level::ERROR));
        assert_eq!(Modes::parse(&modes.to_string()), Some(modes.clone()));
        assert_eq!(modes.change("-*").unwrap().to_string(), "-* debug");
        assert_eq!(Modes::parse("-* debug"), modes.change("-*").ok());
        assert!(modes.change("+z").unwrap_err().contains("mpjkcobrvsdwtuPRW"));
        assert!(Modes::default().change("+*").unwrap().wants('W', Level::INFO));
        assert!(modes.change("trace").unwrap_err().contains("debug"));
    }

    #[test]
    fn what_eggdrops_people_type_is_understood_and_shows_what_it_shows_there() {
        let modes = Modes::default().change("+mcobxs").unwrap();
        assert_eq!((modes.to_string(), Modes::nothing_for("+mcobxs")), ("+mcobs info".to_owned(), "x".to_owned()));
        let place = modes.change("lab/#ops").unwrap();
        assert!(place.wants_place("lab/#OPS") && !place.wants_place("lab/#dev") && modes.wants_place("lab/#dev"));
        assert_eq!(Modes::parse(&place.to_string()), Some(place.clone()));
        assert_eq!(place.change("*").unwrap(), modes);
        assert!(modes.change("#ops").unwrap_err().contains("libera/#ops"));
    }

    #[test]
    fn nobody_sees_what_is_for_others() {
        let all = Modes::default().change("+*").unwrap();
        let seen = |most| all.only(most).to_string();
        assert_eq!(seen(None), "-* info");
        assert_eq!(seen(Some(Shown::Watchers)), "+pjk info");
        assert!(!seen(Some(Shown::Masters)).contains(['r', 'v', 't', 'u']) && seen(Some(Shown::Masters)).contains('m'));
        assert_eq!(all.only(Some(Shown::Owners)), all);
        assert_eq!((all.level(), all.only(Some(Shown::Masters)).level()), (Level::DEBUG, Level::INFO));
    }
}
