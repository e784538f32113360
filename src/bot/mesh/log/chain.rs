//! Lines of an incident log as they cross the mesh, and whether one follows another. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::mesh::facts::Pins;
use crate::pipelines::{Tampered, hash_of_line};
use crate::store::runs::IncidentRow;
use crate::store::{Anchor, ToldRow};

/// The longest words of a line, in bytes; what people write is shorter.
const TEXT_MAX: usize = 8000;
/// The longest name in one, in bytes.
const NAME_MAX: usize = 200;

/// The newest line of each bot: its number and its hash.
pub(super) type Heads = BTreeMap<String, Anchor>;

/// A line, as it is told. Its hash is not: whoever takes it makes it anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(rename = "o")]
    pub(super) origin: String,
    #[serde(rename = "i")]
    id: i64,
    #[serde(rename = "t")]
    at: i64,
    #[serde(rename = "h")]
    handle: String,
    #[serde(rename = "a")]
    app: String,
    #[serde(rename = "e", default, skip_serializing_if = "String::is_empty")]
    env: String,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    run: Option<i64>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    amends: Option<i64>,
    #[serde(rename = "x")]
    text: String,
    #[serde(rename = "p", default, skip_serializing_if = "String::is_empty")]
    prev: String,
    #[serde(rename = "s")]
    signature: String,
}

/// How a line stands to what is known of its log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is the next one.
    Next,
    /// It was there before.
    Known,
    /// There are others between.
    Later,
    /// It and what is known are not of one log.
    Not(Tampered),
}

impl Line {
    pub(super) fn of(told: ToldRow) -> Line {
        let ToldRow { origin, row, signature } = told;
        let IncidentRow { id, at, handle, app, env, run, amends, text, prev, hash: _ } = row;
        Line { origin, id, at, handle, app, env, run, amends, text, prev, signature }
    }

    /// The line with its hash, if it can be one at all.
    pub(super) fn read(self) -> Option<ToldRow> {
        let short = |text: &str| text.len() <= NAME_MAX && !text.contains(char::is_control);
        let names = [&self.origin, &self.handle, &self.app, &self.env, &self.prev, &self.signature];
        let lower = !self.origin.is_empty() && !self.origin.contains(|c: char| c.is_ascii_uppercase());
        if self.id < 1 || !lower || self.text.len() > TEXT_MAX || !names.into_iter().all(|name| short(name)) {
            return None;
        }
        let Line { origin, id, at, handle, app, env, run, amends, text, prev, signature } = self;
        let mut row = IncidentRow { id, at, handle, app, env, run, amends, text, prev, hash: String::new() };
        row.hash = hash_of_line(&row);
        Some(ToldRow { origin, row, signature })
    }

    /// About how many bytes it takes in a call.
    pub(super) fn bytes(&self) -> usize {
        250 + self.origin.len() + self.handle.len() + self.app.len() + self.env.len() + self.text.len()
    }
}

/// What a bot signs of a line: the hash stands for all of it, and for all lines before.
pub(super) fn words(origin: &str, hash: &str) -> Vec<u8> {
    format!("masterchief incident 1 {origin} {hash}").into_bytes()
}

/// Whether a line is by the word of its bot.
pub(super) fn is_signed(pins: &Pins, told: &ToldRow) -> bool {
    let signature = BASE64.decode(&told.signature).unwrap_or_default();
    pins.vouch_words(&told.origin, &words(&told.origin, &told.row.hash), &signature)
}

/// How a line stands to the newest one that is known of its log.
pub(super) fn follows(known: Option<&Anchor>, row: &IncidentRow) -> Follows {
    let Some(known) = known else { return Follows::Next };
    match row.id - known.id {
        0 if row.hash != known.hash => Follows::Not(Tampered::Line(row.id)),
        ..=0 => Follows::Known,
        1 if row.prev == known.hash => Follows::Next,
        1 => Follows::Not(Tampered::Line(known.id)),
        _ => Follows::Later,
    }
}

/// What is wrong with lines of one log that stand behind each other, if anything. Where it begins is nobody's fault: older ones went.
pub(super) fn fault<'a>(
    rows: impl Iterator<Item = &'a ToldRow>,
    pins: &Pins,
    last: &mut Option<Anchor>,
) -> Option<Tampered> {
    for told in rows {
        let row = &told.row;
        let good = hash_of_line(row) == row.hash && is_signed(pins, told);
        if !good || follows(last.as_ref(), row) != Follows::Next {
            return Some(Tampered::Line(row.id));
        }
        *last = Some(told.anchor());
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mesh::facts::Key;

    fn log(key: &Key, texts: &[&str]) -> Vec<ToldRow> {
        let mut prev = String::new();
        let mut out = Vec::new();
        for (id, text) in (1..).zip(texts) {
            let (app, text) = ("shop".to_owned(), (*text).to_owned());
            let mut row = IncidentRow { id, app, text, prev, ..IncidentRow::default() };
            row.hash = hash_of_line(&row);
            prev = row.hash.clone();
            let origin = key.origin().to_owned();
            let signature = BASE64.encode(key.sign_words(&words(&origin, &row.hash)));
            out.push(ToldRow { origin, row, signature });
        }
        out
    }

    fn key() -> (Key, Pins) {
        let key = Key::read(&Key::make().unwrap(), "One").unwrap();
        let mut pins = Pins::default();
        assert!(pins.take("one", &key.public(), crate::mesh::facts::Told::Itself));
        (key, pins)
    }

    #[test]
    fn a_log_is_whole_from_wherever_it_begins_and_no_letter_of_it_can_be_changed() {
        let (key, pins) = key();
        let rows = log(&key, &["a", "b", "c", "d"]);
        assert_eq!(fault(rows.iter(), &pins, &mut None), None);
        assert_eq!(fault(rows[2..].iter(), &pins, &mut None), None);
        let mut between = rows.clone();
        between.remove(1);
        assert_eq!(fault(between.iter(), &pins, &mut None), Some(Tampered::Line(3)));
        let mut changed = rows.clone();
        changed[1].row.text = "B".to_owned();
        assert_eq!(fault(changed.iter(), &pins, &mut None), Some(Tampered::Line(2)));
        changed[1].row.hash = hash_of_line(&changed[1].row);
        assert_eq!(fault(changed.iter(), &pins, &mut None), Some(Tampered::Line(2)), "nobody else can sign it");
        // By the bot itself, with all hashes made anew.
        let other = log(&key, &["a", "B", "c", "d", "e"]);
        let known = rows[3].anchor();
        assert_eq!(follows(Some(&known), &other[4].row), Follows::Not(Tampered::Line(4)));
        assert_eq!(follows(Some(&known), &other[3].row), Follows::Not(Tampered::Line(4)));
        assert_eq!(follows(Some(&rows[1].anchor()), &rows[3].row), Follows::Later);
        assert_eq!(follows(Some(&known), &rows[0].row), Follows::Known);
    }

    proptest! {
        #[test]
        fn a_line_that_is_told_is_the_same_there(text in ".{0,300}", run in proptest::option::of(any::<i64>()), id in 1..i64::MAX) {
            let mut row = IncidentRow { id, run, text, handle: "ana".to_owned(), ..IncidentRow::default() };
            row.hash = hash_of_line(&row);
            let told = ToldRow { origin: "one".to_owned(), row, signature: "s".to_owned() };
            let text = serde_json::to_string(&Line::of(told.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Line>(&text).unwrap().read(), Some(told));
        }
    }
}
