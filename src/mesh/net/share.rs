//! User files: what a peer says of its own. It is declined, unless the record of that bot says what may be taken; we never offer ours,
//! since whoever takes one gives up all people of its own.

use super::super::BotName;
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
                Err(fault) => {
                    let bot = linked.peer.bot.clone();
                    self.untaken(id, bot, &fault);
                }
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

    /// The file of a bot cannot be taken, or not any more; its link may have ended.
    pub(in crate::mesh) fn not_taken(&mut self, id: PeerId, bot: BotName, fault: &str, now: i64) -> Vec<Effect> {
        self.now = now;
        self.untaken(id, bot, fault);
        std::mem::take(&mut self.effects)
    }

    fn untaken(&mut self, id: PeerId, bot: BotName, fault: &str) {
        // An Eggdrop ends the link where its file does not arrive, and would offer it again with the next.
        self.untaken.insert(bot.clone(), self.now + AFTER_FAULT);
        let text = format!("its user file is not taken: {fault}");
        self.effects.push(Effect::Warn { peer: bot, text });
        let Some(linked) = self.peers.get_mut(&id) else { return };
        linked.giving = Giving::default();
        self.effects.push(Effect::GivesNoMore { peer: id });
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{name, told};
    use super::*;
    use crate::mesh::Attrs;

    #[test]
    fn a_user_file_is_not_taken_unless_that_is_named() {
        let mut net = told(&[("A", &[])]);
        net.says(1, &["s u?", "s us 2130706433 36297 566", "s r?", "s k alice", "s c PASS alice x", "s !", "s e bye"]);
        assert_eq!(net.to(1), ["s un I take no user files.", "s rn I take no user files."]);
        assert_eq!(net.effects.len(), 2);
    }

    #[test]
    fn a_user_file_is_taken_where_the_record_says_so_when_it_was_asked_for() {
        let mut net = told(&[("A", &[])]);
        let takes = |take| BTreeMap::from([(name("A"), Attrs { take, ..Attrs::default() })]);
        net.net.know(takes(true));
        assert_eq!(net.says(1, &["s us 2130706433 36297 566", "s n eve *!e@x - n", "s !"]).effects, [], "nobody asked");
        net.says(1, &["s r?", "s u?", "s us 167837953 +36297 566"]);
        assert_eq!(net.to(1), ["s rn I keep nothing back; send the whole.", "s uy "]);
        let offer = Offer { port: 36_297, tls: true, length: 566 };
        assert_eq!(net.effects.last(), Some(&Effect::Fetch { peer: 1, offer }));
        net.says(1, &["s +h carol *!c@x", "s c PASS carol secret12", "s +b *!*@x 0 p y z", "s us 1 36297 5"]);
        assert_eq!(net.effects, [Effect::Gives { peer: 1, line: "+h carol *!c@x".to_owned() }]);
        // Once more at once is too soon; it offers again each minute.
        assert_eq!(net.says(1, &["s u?"]).to(1), ["s un Not so soon after the last one."]);
        net.now += 10_000;
        assert_eq!(net.says(1, &["s u?", "s us 1 80 566"]).to(1)[..1], ["s uy "]);
        assert!(net.to(1)[1].starts_with("s e the port of the file"), "{:?}", net.effects);
        net.now += 60_000;
        assert_eq!(net.says(1, &["s u?"]).to(1), ["s un Not so soon after the last one."]);
        net.now += 300_000;
        net.says(1, &["s u?", "s us 1 36297 566"]);
        // What may not be taken any more is not.
        net.effects = net.net.know(takes(false));
        assert_eq!(net.to(1), ["s e I take no user files any more."]);
        assert_eq!(net.says(1, &["s +h carol *!c@x"]).effects, []);
        assert_eq!(net.says(1, &["s u?"]).to(1), ["s un I take no user files."]);
    }

    #[test]
    fn who_ends_the_link_because_its_file_did_not_arrive_is_not_asked_for_it_over_the_next() {
        let mut net = told(&[("A", &[])]);
        net.net.know(BTreeMap::from([(name("A"), Attrs { take: true, ..Attrs::default() })]));
        net.says(1, &["s u?", "s us 167837953 +36297 566"]);
        net.net.down(1, "it closed the connection", net.now);
        net.effects = net.net.not_taken(1, name("A"), "the file broke off", net.now);
        assert!(matches!(&net.effects[..], [Effect::Warn { peer, .. }] if *peer == name("A")), "{:?}", net.effects);
        net.links(2, "A");
        net.net.know(BTreeMap::from([(name("A"), Attrs { take: true, ..Attrs::default() })]));
        assert_eq!(net.says(2, &["s u?"]).to(2), ["s un Not so soon after the last one."]);
        net.now += 300_000;
        assert_eq!(net.says(2, &["s u?"]).to(2), ["s uy "]);
    }
}
