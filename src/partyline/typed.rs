//! What people type behind a dot: a command, whole or shortened as far as it is the only one that begins so.

use masterchief_contract::{CaseMap, FlagScope, Kind, Value};

use super::kinds::DCC;
use super::party::{NETWORK, Party};
use crate::users::Standing;

const COMMAND: [Kind; 1] = [DCC];

impl Party {
    /// Somebody gives a command, written without its dot: `who`, `console +b`. A word may be shortened as long as it is
    /// the only one that begins so. Waits while the street is full.
    pub async fn command(&self, idx: u32, line: &str) -> Result<(), String> {
        let (actor, standing) = self.person(idx).ok_or("you have left")?;
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let word = self.word(word, &standing)?;
        let (shown, secret) = super::commands::parted(&word, rest.trim_start());
        let mut event = self.event_of(&COMMAND, actor, &format!("{word} {shown}"));
        event.text.truncate(event.text.trim_end().len());
        let handle = event.actor.as_ref().and_then(|actor| actor.login.clone()).unwrap_or_default();
        event.fields = vec![("handle", Value::from(handle)), ("idx", Value::from(idx))];
        if let Some(secret) = secret {
            // Not in the text: that is audited.
            event.body = secret.as_bytes().to_vec();
        }
        self.put(event).await
    }

    /// Whether a line that somebody says is a command: a dot, and a word that is one for this person.
    pub fn is_command(&self, idx: u32, line: &str) -> bool {
        let Some(word) = line.strip_prefix('.').and_then(|line| line.split_whitespace().next()) else { return false };
        let Some((_, standing)) = self.person(idx) else { return false };
        line.chars().nth(1).is_some_and(|c| !c.is_whitespace()) && self.word(word, &standing).is_ok()
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
        let whole =
            |row: &crate::dispatch::BindRow| row.kind == DCC && !row.shadowed && row.mask.eq_ignore_ascii_case(typed);
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
