//! User files: what a peer says of its own. It is declined, unless the record of that bot says what may be taken; we never offer ours,
//! since whoever takes one gives up all people of its own.

use super::super::book::PeerId;
use super::super::gift::Offer;
use super::super::message::Message;
use super::{Effect, Net, send};

/// How long one whose file was asked for, or could not be taken, waits until it is asked for again, by whatever link (milliseconds).
const AGAIN: i64 = 10_000;
const AFTER_FAULT: i64 = 300_000;

/// How far a link is with its user file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Giving {
    at: Stage,
    /// Before that, nothing is asked for.
    not_before: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    No,
    /// It was asked to send it.
    Asked,
    /// It has said where, and tells what changes.
    Gives,
}

impl Net {
    /// A line about user files.
    pub(super) fn share(&mut self, id: PeerId, text: &str) {
        let (sub, rest) = text.split_once(' ').unwrap_or((text, ""));
        let now = self.now;
        let Some(linked) = self.peers.get_mut(&id) else { return };
        let waits = self.untaken.get(&linked.peer.bot).is_some_and(|until| now < *until);
        let (takes, giving) = (linked.attrs.take, &mut linked.giving);
        match (sub, giving.at) {
            ("u?", _) if !takes => self.of_file(id, "un I take no user files."),
            ("r?", _) if !takes => self.of_file(id, "rn I take no user files."),
            ("u?", _) if waits || now < giving.not_before => self.of_file(id, "un Not so soon after the last one."),
            ("u?", _) => {
                *giving = Giving { at: Stage::Asked, not_before: now + AGAIN };
                self.effects.push(Effect::GivesNoMore { peer: id });
                // The blank belongs there: without it an Eggdrop loses the last word.
                self.of_file(id, "uy ");
            }
            // It then offers the whole.
            ("r?", _) => self.of_file(id, "rn I keep nothing back; send the whole."),
            ("us", Stage::Asked) => match Offer::parse(rest) {
                Ok(offer) => {
                    giving.at = Stage::Gives;
                    self.effects.push(Effect::Fetch { peer: id, offer });
                }
                Err(fault) => self.untaken(id, &fault),
            },
            ("e", Stage::Asked | Stage::Gives) => {
                giving.at = Stage::No;
                self.effects.push(Effect::GivesNoMore { peer: id });
            }
            // A password goes no further than this.
            ("c", Stage::Gives) if rest.to_ascii_uppercase().starts_with("PASS") => {}
            ("n" | "k" | "h" | "a" | "c" | "+h" | "-h" | "+a" | "-a", Stage::Gives) => {
                self.effects.push(Effect::Gives { peer: id, line: text.to_owned() });
            }
            _ => {}
        }
    }

    /// Its file cannot be taken, or not any more.
    pub(in crate::mesh) fn not_taken(&mut self, id: PeerId, fault: &str, now: i64) -> Vec<Effect> {
        self.now = now;
        self.untaken(id, fault);
        std::mem::take(&mut self.effects)
    }

    fn untaken(&mut self, id: PeerId, fault: &str) {
        let now = self.now;
        let Some(linked) = self.peers.get_mut(&id) else { return };
        linked.giving = Giving::default();
        // An Eggdrop ends the link where its file does not arrive, and would offer it again with the next.
        self.untaken.insert(linked.peer.bot.clone(), now + AFTER_FAULT);
        let (peer, text) = (linked.peer.bot.clone(), format!("its user file is not taken: {fault}"));
        self.effects.push(Effect::GivesNoMore { peer: id });
        self.effects.push(Effect::Warn { peer, text });
        self.of_file(id, &format!("e {fault}"));
    }

    /// What may be taken of whom is another: who gives what may not be taken any more is told so.
    pub(super) fn holds_to_takes(&mut self) {
        let ends = |linked: &&mut super::Linked| linked.giving.at != Stage::No && !linked.attrs.take;
        let mut ended = Vec::new();
        self.untaken.retain(|bot, _| self.records.get(bot).is_some_and(|attrs| attrs.take));
        for (id, linked) in &mut self.peers {
            if ends(&linked) {
                linked.giving = Giving::default();
                ended.push(*id);
            }
        }
        for id in ended {
            self.effects.push(Effect::GivesNoMore { peer: id });
            self.of_file(id, "e I take no user files any more.");
        }
    }

    fn of_file(&mut self, id: PeerId, words: &str) {
        self.effects.push(send(id, &Message::Share(words.to_owned()), false));
    }
}
