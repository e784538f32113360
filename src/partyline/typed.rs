//! What people type behind a dot: a command, whole or shortened as far as it is the only one that begins so.

use masterchief_contract::{CaseMap, FlagScope, Kind, Value};

use super::kinds::DCC;
use super::party::{NETWORK, Party};
use super::place::Place;
use crate::dispatch::BindRow;
use crate::users::Standing;

const COMMAND: [Kind; 1] = [DCC];

/// What somebody means with a line that they say in a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant<'a> {
    /// Words for who is there.
    Words,
    /// A command, without its dot.
    Command(&'a str),
    /// It was to be a command and is none: nobody hears it, for a secret may stand in it. Why, for who typed it.
    Fault(String),
}

impl Party {
    /// Somebody gives a command, written without its dot: `who`, `console +b`. A word may be shortened as long as it is
    /// the only one that begins so. Waits while the street is full.
    pub async fn command(&self, idx: u32, line: &str) -> Result<(), String> {
        self.command_in(idx, None, line).await
    }

    /// Words for somebody on a linked bot, who is called as in `owner/HubBot`: a note, which is what Eggdrops have for that. `false` if nobody
    /// there is called so.
    pub(super) async fn passes_on(&self, idx: u32, nick: &str, text: &str) -> Result<bool, String> {
        // Only whoever is elsewhere has such a name.
        let Some(to) = nick.contains('/').then(|| self.guest(nick)).flatten() else { return Ok(false) };
        self.command(idx, &format!("note {to} {text}")).await.map(|()| true)
    }

    /// The same, typed in a place.
    pub(super) async fn command_in(&self, idx: u32, place: Option<&Place>, line: &str) -> Result<(), String> {
        let (actor, standing) = self.person(idx).ok_or("you have left")?;
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let word = self.word(word, &standing)?;
        let (shown, secret) = super::commands::parted(&word, rest.trim_start());
        let mut event = self.event_of(&COMMAND, actor, &format!("{word} {shown}"));
        event.text.truncate(event.text.trim_end().len());
        let handle = event.actor.as_ref().and_then(|actor| actor.login.clone()).unwrap_or_default();
        let place = place.map(Place::to_string).unwrap_or_default();
        event.fields = vec![("handle", Value::from(handle)), ("idx", Value::from(idx)), ("place", Value::from(place))];
        if let Some(secret) = secret {
            // Not in the text: that is audited.
            event.body = secret.as_bytes().to_vec();
        }
        self.put(event).await
    }

    /// What a line means that somebody says in a place. A dot with a letter behind it is a command or nothing; in #ops it may
    /// be a word that the bot listens to.
    pub(super) fn meant<'a>(&self, idx: u32, place: &Place, line: &'a str) -> Meant<'a> {
        let Some(command) = line.strip_prefix('.').filter(|rest| !rest.starts_with(char::is_whitespace)) else {
            return Meant::Words;
        };
        let Some(typed) = command.split_whitespace().next() else { return Meant::Words };
        let Some((_, standing)) = self.person(idx) else { return Meant::Words };
        match self.word(typed, &standing) {
            Ok(_) => Meant::Command(command),
            Err(_) if !typed.trim_start_matches(['+', '-']).starts_with(char::is_alphabetic) => Meant::Words,
            Err(_) if *place == Place::Ops && self.listens(typed) => Meant::Words,
            Err(fault) => Meant::Fault(format!("{fault}. Nobody has heard it; a blank before the dot makes it words")),
        }
    }

    /// Whether a handler listens to this dotted word where people speak to the bot.
    pub(super) fn listens(&self, typed: &str) -> bool {
        let is = |mask: &str| mask.strip_prefix('.').is_some_and(|mask| mask.eq_ignore_ascii_case(typed));
        let hears = |row: &BindRow| {
            row.kind == Kind::Pub && (is(&row.mask) || row.aliases.iter().any(|alias| is(alias)))
                || row.kind == Kind::Pubm && row.mask.contains(" .")
        };
        self.table().rows().iter().any(hears)
    }

    /// The commands that begin so and that somebody may give, in order: what a tab could stand for.
    pub fn complete(&self, idx: u32, typed: &str) -> Vec<String> {
        self.standing(idx).map(|standing| self.near(typed, &standing)).unwrap_or_default()
    }

    fn near(&self, typed: &str, standing: &Standing) -> Vec<String> {
        let begins = |mask: &str| mask.get(..typed.len()).is_some_and(|front| front.eq_ignore_ascii_case(typed));
        let may = |flags| standing.allows(flags, FlagScope::AnyChannel, NETWORK, None, CaseMap::Rfc1459);
        let rows = self.table().rows();
        let rows = rows.iter().filter(|row| row.kind == DCC && !row.shadowed && begins(&row.mask) && may(&row.flags));
        let mut near: Vec<String> = rows.map(|row| row.mask.to_string()).collect();
        near.sort_unstable();
        near.dedup();
        near
    }

    /// The command that is meant.
    pub(super) fn word(&self, typed: &str, standing: &Standing) -> Result<String, String> {
        let whole = |row: &BindRow| row.kind == DCC && !row.shadowed && row.mask.eq_ignore_ascii_case(typed);
        if let Some(row) = self.table().rows().iter().find(|row| whole(row)) {
            return Ok(row.mask.to_string());
        }
        let near = self.near(typed, standing);
        match near.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(format!("there is no command .{typed}; .help lists those you may use")),
            several => Err(format!(".{typed} may be .{}; type more of it", several.join(" or ."))),
        }
    }
}
