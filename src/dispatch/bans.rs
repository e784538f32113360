//! Bans, and what channels are held to: who may not come in, and which modes stay. Pure; the time of day is handed in.

use chrono::{DateTime, Utc};
use masterchief_contract::{CaseMap, Secret, wild_match};
use serde::{Deserialize, Serialize, Serializer};

/// Somebody who may not be in a channel, or in none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// `network/#channel`, folded; every channel without.
    pub place: Option<String>,
    /// `nick!user@host`, with wildcards.
    pub mask: String,
    /// The handle of who set it.
    pub by: String,
    /// Why: what they are told when they are kicked.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when; for ever without.
    pub until: Option<DateTime<Utc>>,
    /// Whether it stands in the channel's own list always, also while nobody meets it.
    pub sticky: bool,
}

/// Which of a channel's lists somebody stands in whom it treats better than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PassSort {
    /// No ban keeps them out: the list `e`.
    Exempt,
    /// They come in where only the invited may: the list `I`.
    Invite,
}

/// Somebody who may come in although others may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Past what.
    pub sort: PassSort,
    /// `network/#channel`, folded; every channel without.
    pub place: Option<String>,
    /// `nick!user@host`, with wildcards.
    pub mask: String,
    /// The handle of who set it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What the bot holds one channel to. Eggdrop's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// Its name as it is written, where the bot joins it by itself, beside those in the configuration.
    pub joined: Option<String>,
    /// Its key, for that.
    #[serde(serialize_with = "reveal")]
    pub key: Option<Secret>,
    /// Gives @ to those with the flag `o` when they come.
    pub autoop: bool,
    /// Gives + to those with the flag `v` when they come.
    pub autovoice: bool,
    /// Takes @ from those who were given it and have no flag `o`.
    pub bitch: bool,
    /// Modes that stay, as in `+nt-i`.
    pub chanmode: String,
    /// Minutes for which a ban stands where no time is said; 0 is for ever.
    pub ban_time: u64,
}

/// Into the records, which only this bot reads.
fn reveal<S: Serializer>(key: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(Secret::reveal).serialize(to)
}

/// The name of a place, as it is compared.
pub fn place_key(network: &str, channel: &str) -> String {
    format!("{network}/{}", CaseMap::Rfc1459.fold(channel))
}

impl Ban {
    /// Whether it counts in a place.
    pub fn counts_in(&self, place: &str) -> bool {
        self.place.as_deref().is_none_or(|own| own == place)
    }

    /// Whether it is over.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether somebody meets it.
    pub fn meets(&self, source: &str, casemap: CaseMap) -> bool {
        wild_match(&self.mask, source, casemap)
    }

    /// Whether it is the one of this mask and place.
    pub fn is(&self, place: Option<&str>, mask: &str) -> bool {
        self.place.as_deref() == place && CaseMap::Rfc1459.eq(&self.mask, mask)
    }
}

impl PassSort {
    /// The letter of its list.
    pub fn letter(self) -> char {
        match self {
            PassSort::Exempt => 'e',
            PassSort::Invite => 'I',
        }
    }
}

impl Pass {
    /// Whether it counts in a place.
    pub fn counts_in(&self, place: &str) -> bool {
        self.place.as_deref().is_none_or(|own| own == place)
    }

    /// Whether it is the one of this sort, mask and place.
    pub fn is(&self, sort: PassSort, place: Option<&str>, mask: &str) -> bool {
        self.sort == sort && self.place.as_deref() == place && CaseMap::Rfc1459.eq(&self.mask, mask)
    }

    /// Whether no ban keeps somebody out of a place.
    pub fn exempts(&self, place: &str, source: &str, casemap: CaseMap) -> bool {
        self.sort == PassSort::Exempt && self.counts_in(place) && wild_match(&self.mask, source, casemap)
    }
}

impl Held {
    /// Changes a setting: `+autoop`, `-bitch`, or a name and its value.
    pub fn change(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let known = "there are +autoop +autovoice +bitch, chanmode and ban-time";
        if let Some(value) = value {
            match name {
                "chanmode" => self.chanmode = modes(value)?,
                "ban-time" => {
                    let fault = || format!("{value:?} is no number of minutes; 0 is for ever");
                    self.ban_time = value.parse().ok().filter(|minutes| *minutes <= 5_256_000).ok_or_else(fault)?;
                }
                _ => return Err(format!("{name:?} takes no value; {known}")),
            }
            return Ok(());
        }
        let (sign, switch) = name.split_at_checked(1).unwrap_or(("", name));
        let on = match sign {
            "+" => true,
            "-" => false,
            _ => return Err(format!("{name:?} begins with neither + nor -; {known}")),
        };
        match switch {
            "autoop" => self.autoop = on,
            "autovoice" => self.autovoice = on,
            "bitch" => self.bitch = on,
            _ => return Err(format!("{switch:?} is no setting of a channel; {known}")),
        }
        Ok(())
    }

    /// The settings in one line.
    pub fn shown(&self) -> String {
        let switch = |on: bool, name: &str| format!("{}{name}", if on { '+' } else { '-' });
        let mut parts = vec![
            switch(self.autoop, "autoop"),
            switch(self.autovoice, "autovoice"),
            switch(self.bitch, "bitch"),
            format!("chanmode {}", if self.chanmode.is_empty() { "none" } else { &self.chanmode }),
            format!("ban-time {}", self.ban_time),
        ];
        parts.extend(self.joined.as_ref().map(|_| "joined at every start".to_owned()));
        parts.join(", ")
    }

    /// Whether a change of a mode without parameter is against what stays.
    pub fn forbids(&self, add: bool, letter: char) -> bool {
        wanted(&self.chanmode).any(|(wants, own)| own == letter && wants != add)
    }

    /// The modes that are not as they stay, given those that are set.
    pub fn missing(&self, set: &str) -> String {
        let set: Vec<char> = set.chars().filter(|letter| *letter != '+').collect();
        let (mut on, mut off) = (String::new(), String::new());
        for (wants, letter) in wanted(&self.chanmode).filter(|(wants, letter)| set.contains(letter) != *wants) {
            if wants { &mut on } else { &mut off }.push(letter);
        }
        let signed =
            |sign: char, letters: String| if letters.is_empty() { letters } else { format!("{sign}{letters}") };
        signed('+', on) + &signed('-', off)
    }
}

/// Modes as in `+nt-i`: letters that take no parameter with every server.
fn modes(text: &str) -> Result<String, String> {
    let text = if text == "none" { "" } else { text };
    let good = |c: char| c.is_ascii_alphabetic() && !"bklovhqaeIfjJL".contains(c);
    match text.chars().find(|c| !matches!(c, '+' | '-') && !good(*c)) {
        Some(bad) => Err(format!("{bad:?} cannot stay: it is no mode without parameter")),
        None if text.is_empty() || text.starts_with(['+', '-']) => Ok(text.to_owned()),
        None => Err(format!("write +{text} or -{text}")),
    }
}

fn wanted(modes: &str) -> impl Iterator<Item = (bool, char)> + '_ {
    let mut add = true;
    modes.chars().filter_map(move |c| {
        match c {
            '+' => add = true,
            '-' => add = false,
            letter => return Some((add, letter)),
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_counts_in_its_place_until_its_time() {
        let at = |secs| DateTime::from_timestamp(secs, 0).unwrap();
        let ban = Ban {
            place: Some(place_key("libera", "#Ops[1]")),
            mask: "*!*@*.bad.example".to_owned(),
            by: "alice".to_owned(),
            reason: String::new(),
            since: at(0),
            until: Some(at(60)),
            sticky: false,
        };
        assert!(ban.counts_in("libera/#ops{1}") && !ban.counts_in("libera/#dev") && !ban.counts_in("oftc/#ops{1}"));
        assert!(Ban { place: None, ..ban.clone() }.counts_in("oftc/#dev"));
        assert!(!ban.is_over(at(59)) && ban.is_over(at(60)));
        assert!(ban.meets("Mallory!m@x.BAD.example", CaseMap::Rfc1459) && !ban.meets("m!m@good", CaseMap::Rfc1459));
        assert!(ban.is(Some("libera/#ops{1}"), "*!*@*.BAD.example") && !ban.is(None, "*!*@*.bad.example"));
    }

    #[test]
    fn settings_change_by_name_and_modes_stay() {
        let mut held = Held::default();
        held.change("+autoop", None).unwrap();
        held.change("chanmode", Some("+nt-i")).unwrap();
        assert_eq!(held.shown(), "+autoop, -autovoice, -bitch, chanmode +nt-i, ban-time 0");
        assert!(held.forbids(false, 't') && held.forbids(true, 'i') && !held.forbids(true, 'm'));
        assert_eq!(held.missing("+ni"), "+t-i");
        assert_eq!(held.missing("+nt"), "");
        for (name, value) in
            [("autoop", None), ("+magic", None), ("chanmode", Some("+k")), ("ban-time", Some("-1")), ("x", Some("y"))]
        {
            assert!(held.change(name, value).is_err(), "{name}");
        }
        held.key = Some(Secret::new("letmein"));
        let kept = serde_json::to_value(&held).unwrap();
        assert_eq!(serde_json::from_value::<Held>(kept).unwrap(), held);
        assert!(!format!("{held:?}").contains("letmein"));
        held.change("chanmode", Some("none")).unwrap();
        assert_eq!(held.missing("+s"), "");
    }
}
