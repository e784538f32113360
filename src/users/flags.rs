//! Flags: letters that a person holds, and the grammar with which a bind asks for them. Both are Eggdrop's.

use std::fmt;

/// Letters a to z and A to Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlagSet(u64);

/// What a bind asks for: `global|channel` or `global&channel`.
///
/// Letters are alternatives: `mn|o` is a global m or n, or o on the channel. With `&` every letter of every section is
/// demanded: `m&o` is a global m and o on the channel. `-`, `*`, nothing and `-|-` ask for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlagMask {
    global: FlagSet,
    channel: FlagSet,
    all: bool,
}

/// What is wrong with flags, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct FlagFault {
    /// Characters from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Which section a letter stands in: flags of a channel imply others than global ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Held everywhere.
    Global,
    /// Held on one channel.
    Channel,
}

/// What a global letter brings with it (`userrec.c`, `sanity_check`).
const GLOBAL_IMPLIES: &[(char, &str)] = &[('n', "m"), ('m', "toj"), ('t', "p"), ('j', "x"), ('o', "l")];
/// What a channel letter brings with it (`chan_sanity_check`).
const CHANNEL_IMPLIES: &[(char, &str)] = &[('n', "m"), ('m', "o"), ('a', "o"), ('y', "l"), ('g', "v"), ('o', "l")];
/// Letters that exclude each other.
const CONFLICTS: &[(char, char)] = &[('o', 'd'), ('a', 'd'), ('l', 'r'), ('y', 'r'), ('v', 'q'), ('g', 'q')];

impl FlagSet {
    /// No letter.
    pub const NONE: FlagSet = FlagSet(0);
    /// Every letter, as the console has them.
    pub const ALL: FlagSet = FlagSet((1 << 52) - 1);

    /// Reads letters such as `nmo`; `-` and nothing are no letter.
    pub fn parse(text: &str) -> Result<FlagSet, FlagFault> {
        let mut set = FlagSet::NONE;
        if text == "-" {
            return Ok(set);
        }
        for (at, letter) in text.chars().enumerate() {
            set.insert(letter).map_err(|message| FlagFault { column: at + 1, message })?;
        }
        Ok(set)
    }

    /// Whether it has a letter.
    pub fn has(self, letter: char) -> bool {
        bit(letter).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether there is no letter.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The letters of both.
    #[must_use]
    pub fn union(self, other: FlagSet) -> FlagSet {
        FlagSet(self.0 | other.0)
    }

    /// The letters that are in both.
    #[must_use]
    pub fn common(self, other: FlagSet) -> FlagSet {
        FlagSet(self.0 & other.0)
    }

    /// The letters that are not in the other.
    #[must_use]
    pub fn without(self, other: FlagSet) -> FlagSet {
        FlagSet(self.0 & !other.0)
    }

    /// With everything its letters imply, and without what excludes each other: globally both go, on a channel the
    /// letters of `new` stay.
    #[must_use]
    pub fn settled(self, section: Section, new: FlagSet) -> FlagSet {
        let implies = if section == Section::Global { GLOBAL_IMPLIES } else { CHANNEL_IMPLIES };
        let mut set = self;
        loop {
            let before = set;
            for (letter, more) in implies {
                if set.has(*letter) {
                    set = more.chars().filter_map(bit).fold(set, |set, bit| FlagSet(set.0 | bit));
                }
            }
            if set == before {
                break;
            }
        }
        for (one, other) in CONFLICTS {
            if !(set.has(*one) && set.has(*other)) {
                continue;
            }
            let (one_bit, other_bit) = (bit(*one).unwrap_or(0), bit(*other).unwrap_or(0));
            set.0 &= match (section, new.has(*one), new.has(*other)) {
                (Section::Channel, true, false) => !other_bit,
                (Section::Channel, false, true) => !one_bit,
                _ => !(one_bit | other_bit),
            };
        }
        set
    }

    /// Changes such as `+mo-v`; a letter without a sign is added, and `=` in front begins from nothing.
    pub fn change(self, changes: &str, section: Section) -> Result<FlagSet, FlagFault> {
        let (mut set, mut added, mut add) = (self, FlagSet::NONE, true);
        for (at, letter) in changes.chars().enumerate() {
            match letter {
                '=' if at == 0 => set = FlagSet::NONE,
                '+' => add = true,
                '-' => add = false,
                letter => {
                    let mut one = FlagSet::NONE;
                    one.insert(letter).map_err(|message| FlagFault { column: at + 1, message })?;
                    if add {
                        (set, added) = (set.union(one), added.union(one));
                    } else {
                        (set, added) = (set.without(one), added.without(one));
                    }
                }
            }
        }
        Ok(set.settled(section, added))
    }

    fn insert(&mut self, letter: char) -> Result<(), String> {
        match bit(letter) {
            Some(bit) => {
                self.0 |= bit;
                Ok(())
            }
            None if letter.is_ascii_digit() => Err(format!("{letter} is a flag of bots only; use a letter")),
            None => Err(format!("{letter:?} is not a flag; flags are the letters a-z and A-Z")),
        }
    }
}

impl fmt::Display for FlagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let all = ('a'..='z').chain('A'..='Z').filter(|letter| self.has(*letter));
        f.write_str(&all.collect::<String>())
    }
}

impl FlagMask {
    /// Asks for nothing: anyone.
    pub const ANYONE: FlagMask = FlagMask { global: FlagSet::NONE, channel: FlagSet::NONE, all: false };

    /// Reads a mask. Unlike Eggdrop, which drops them in silence, unknown letters, a minus and a section for bots are
    /// errors: each would make a bind that anyone may run.
    pub fn parse(text: &str) -> Result<FlagMask, FlagFault> {
        let mut mask = FlagMask::ANYONE;
        let mut section = 0;
        for (at, letter) in text.chars().enumerate() {
            let fault = |message: String| FlagFault { column: at + 1, message };
            match letter {
                '|' | '&' => {
                    mask.all |= section == 0 && letter == '&';
                    section += 1;
                    if section == 2 {
                        return Err(fault(
                            "a third section would be flags of bots, which cannot run binds; leave it out".to_owned(),
                        ));
                    }
                }
                '-' | '*' => {
                    let alone_before = at == 0 || text[..byte_at(text, at)].ends_with(['|', '&']);
                    let alone_after = matches!(text.chars().nth(at + 1), None | Some('|' | '&'));
                    if !(alone_before && alone_after) {
                        return Err(fault(format!(
                            "{letter} stands alone for `nothing is asked`; a bind cannot ask for the absence of a flag"
                        )));
                    }
                }
                '+' => {}
                letter => {
                    let set = if section == 0 { &mut mask.global } else { &mut mask.channel };
                    set.insert(letter).map_err(fault)?;
                }
            }
        }
        Ok(mask)
    }

    /// Whether anyone may, also people the bot does not know.
    pub fn is_open(&self) -> bool {
        self.global.is_empty() && self.channel.is_empty()
    }

    /// Whether it asks for flags of a channel.
    pub fn asks_of_channels(&self) -> bool {
        !self.channel.is_empty()
    }

    /// Whether somebody with these flags may.
    pub fn allows(&self, global: FlagSet, channel: FlagSet) -> bool {
        if self.is_open() {
            return true;
        }
        if self.all {
            return self.global.without(global).is_empty() && self.channel.without(channel).is_empty();
        }
        !self.global.common(global).is_empty() || !self.channel.common(channel).is_empty()
    }
}

impl fmt::Display for FlagMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.all { '&' } else { '|' };
        write!(f, "{}{sign}{}", self.global, self.channel)
    }
}

fn bit(letter: char) -> Option<u64> {
    match letter {
        'a'..='z' => Some(1 << (letter as u32 - 'a' as u32)),
        'A'..='Z' => Some(1 << (letter as u32 - 'A' as u32 + 26)),
        _ => None,
    }
}

fn byte_at(text: &str, chars: usize) -> usize {
    text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> FlagSet {
        FlagSet::parse(text).unwrap()
    }

    fn allows(mask: &str, global: &str, channel: &str) -> bool {
        FlagMask::parse(mask).unwrap().allows(set(global), set(channel))
    }

    #[test]
    fn the_grammar_is_eggdrops() {
        for anyone in ["", "-", "*", "-|-", "|", "*|*", "-&-", "&"] {
            assert!(allows(anyone, "", ""), "{anyone}");
        }
        assert!(allows("mn", "n", "") && !allows("mn", "o", "n"));
        assert!(allows("mn|o", "", "o") && allows("mn|o", "m", "") && !allows("mn|o", "o", "m"));
        assert!(allows("mn&v", "mn", "v") && !allows("mn&v", "m", "v") && !allows("mn&v", "mn", ""));
        assert!(allows("&mn", "", "mn") && !allows("&mn", "mn", "m"));
        assert!(allows("|o", "", "o") && allows("-|o", "", "o") && !allows("-|o", "o", ""));
        assert!(allows("D|D", "", "D") && !allows("D|D", "d", "d"));
        assert!(allows("m&-", "m", "") && !allows("mo&-", "m", ""));
        assert!(allows("+m|+o", "", "o"));
    }

    #[test]
    fn what_eggdrop_drops_in_silence_is_refused_with_its_place() {
        let column = |mask: &str| FlagMask::parse(mask).unwrap_err().column;
        assert_eq!(column("-n"), 1);
        assert_eq!(column("n-"), 2);
        assert_eq!(column("m|-o"), 3);
        assert_eq!(column("||b"), 2);
        assert_eq!(column("m|o|"), 4);
        assert_eq!(column("m é"), 2);
        assert_eq!(column("1"), 1);
        assert_eq!(column("é"), 1);
    }

    #[test]
    fn flags_bring_others_with_them_and_exclude_each_other() {
        let change = |from: &str, changes: &str, section| set(from).change(changes, section).unwrap().to_string();
        assert_eq!(change("", "+n", Section::Global), "jlmnoptx");
        assert_eq!(change("", "+n", Section::Channel), "lmno");
        assert_eq!(change("", "ag", Section::Channel), "aglov");
        assert_eq!(change("o", "+d", Section::Global), "l", "globally both go");
        assert_eq!(change("o", "+d", Section::Channel), "dl", "on a channel the new one stays");
        assert_eq!(change("vf", "-v+D", Section::Global), "fD");
        assert_eq!(change("vf", "=p", Section::Global), "p");
        assert_eq!(change("v", "-v", Section::Global), "-");
        assert!(set("").change("+o1", Section::Global).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_mask_or_a_fault_within_it(text in any::<String>()) {
            if let Err(fault) = FlagMask::parse(&text) {
                prop_assert!(fault.column >= 1 && fault.column <= text.chars().count());
            }
        }

        #[test]
        fn a_mask_prints_as_what_it_is_read_from(text in "[a-zA-Z]{0,4}[|&][a-zA-Z]{0,4}") {
            let mask = FlagMask::parse(&text).unwrap();
            prop_assert_eq!(FlagMask::parse(&mask.to_string()).unwrap(), mask);
        }

        #[test]
        fn a_mask_agrees_with_its_definition(
            asked_global in "[a-d]{0,3}", sign in "[|&]", asked_channel in "[a-d]{0,3}",
            global in "[a-d]{0,4}", channel in "[a-d]{0,4}",
        ) {
            let mut wanted = asked_global.chars().map(|c| global.contains(c))
                .chain(asked_channel.chars().map(|c| channel.contains(c)));
            let open = asked_global.is_empty() && asked_channel.is_empty();
            let by_definition = open || if sign == "&" { wanted.all(|has| has) } else { wanted.any(|has| has) };
            prop_assert_eq!(allows(&format!("{asked_global}{sign}{asked_channel}"), &global, &channel), by_definition);
        }
    }
}
