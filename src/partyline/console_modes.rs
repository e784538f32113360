//! What of the log a person sees: Eggdrop's console modes, and a level.

use std::fmt;

use tracing::Level;

/// The letters, and what each means here.
pub const MODES: &[(char, &str)] = &[
    ('b', "bots and links"),
    ('c', "commands, and who was refused"),
    ('d', "details, for who looks for a fault"),
    ('j', "who comes and goes on the partyline"),
    ('k', "runs of pipelines"),
    ('m', "what is said to the bot in private, and wallops"),
    ('o', "everything else"),
    ('p', "what is said in channels"),
    ('s', "servers"),
    ('w', "what comes from outside"),
];

/// What of the log a person sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    letters: u32,
    level: Level,
}

impl Default for Modes {
    fn default() -> Modes {
        Modes { letters: 0, level: Level::INFO }
    }
}

impl Modes {
    /// Whether a line of this mode and level is wanted.
    pub fn wants(&self, mode: char, level: Level) -> bool {
        self.letters & bit(mode) != 0 && level <= self.level
    }

    /// Whether anything is wanted.
    pub fn is_empty(&self) -> bool {
        self.letters == 0
    }

    /// The least important level that is wanted.
    pub fn level(&self) -> Level {
        self.level
    }

    /// With changes such as `+bc-d` (`*` is every letter), or a level such as `debug`.
    pub fn change(&self, text: &str) -> Result<Modes, String> {
        let mut modes = *self;
        if let Ok(level) = text.parse::<Level>()
            && text.parse::<usize>().is_err()
        {
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
                letter => {
                    let known: String = MODES.iter().map(|(letter, _)| *letter).collect();
                    return Err(format!("{letter:?} is no console mode; there are {known}, and levels error to trace"));
                }
            }
        }
        Ok(modes)
    }

    /// As it is kept: `+bco info`.
    pub fn parse(text: &str) -> Option<Modes> {
        text.split_whitespace().try_fold(Modes::default(), |modes, part| modes.change(part).ok())
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters: String =
            MODES.iter().map(|(letter, _)| *letter).filter(|letter| self.letters & bit(*letter) != 0).collect();
        let sign = if letters.is_empty() { "-*" } else { "+" };
        write!(f, "{sign}{letters} {}", self.level.as_str().to_ascii_lowercase())
    }
}

fn bit(letter: char) -> u32 {
    MODES.iter().position(|(known, _)| *known == letter).map_or(0, |at| 1 << at)
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
        assert_eq!(Modes::parse(&modes.to_string()), Some(modes));
        assert_eq!(modes.change("-*").unwrap().to_string(), "-* debug");
        assert_eq!(Modes::parse("-* debug"), modes.change("-*").ok());
        assert!(modes.change("+z").unwrap_err().contains("bcdjkmopsw"));
        assert!(Modes::default().change("+*").unwrap().wants('w', Level::INFO));
    }
}
