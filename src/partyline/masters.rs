//! What only some may: to come in at all, to be where they go, to see the log, and to hear what is said to masters alone.

use masterchief_contract::{CaseMap, FlagScope, How};

use super::console_modes::Shown;
use super::here::{hears, watches};
use super::news::What;
use super::party::{NETWORK, Party};
use super::place::Place;
use super::room::{Session, author};
use crate::users::{FlagMask, Standing};

/// Who comes in.
pub(super) const ENTRANCE: &str = "p";
/// Who may see the log, and hears what is said to masters.
const READERS: &str = "m";
/// Who may see the lines of servers and of linked bots.
const OWNERS: &str = "n";
/// Who may see what happens in channels that they may watch.
const WATCHERS: &str = "o|o";
/// Channels that one session may be in.
const PLACES: usize = 200;
/// With what Eggdrop's people begin words that only masters of this bot may hear.
const MARK: char = ',';

impl Party {
    /// Somebody goes to a place; whether they were not there yet. A watched channel is for those who may.
    pub fn join(&self, idx: u32, place: &Place) -> Result<bool, String> {
        if let Place::Watched { channel, network } = place {
            if !self.standing(idx).is_some_and(|standing| watches(&standing, network, channel)) {
                return Err(format!("{place} is for those with the flag o there; ask an owner"));
            }
            self.watches();
        }
        if self.session(idx, |session| session.places.len() >= PLACES && !session.places.contains(place)) == Some(true)
        {
            return Err(format!("you are in {PLACES} channels already; leave one first"));
        }
        Ok(self.change(|room, now| room.join(idx, place, now)))
    }

    /// Somebody leaves every channel where people meet.
    pub fn goes_off(&self, idx: u32) {
        let places = self.session(idx, |session| session.places.clone()).unwrap_or_default();
        for place in places.iter().filter(|place| matches!(place, Place::Party(_) | Place::Own(_))) {
            self.part(idx, place, "");
        }
    }

    /// Ends sessions of people who have no access any more, and shows the log only to those who may see it.
    pub fn sweep(&self) {
        for idx in self.each(|session| session.idx) {
            let Some(standing) = self.standing(idx) else { continue };
            if !may(&standing, ENTRANCE) {
                self.boot(idx, "you have no access any more");
                continue;
            }
            let lost = |session: &Session| -> Vec<Place> {
                session.places.iter().filter(|place| !hears(&standing, place)).cloned().collect()
            };
            for place in self.session(idx, lost).unwrap_or_default() {
                self.part(idx, &place, "you may not listen there any more");
            }
            let most = self.most_of(&standing);
            let fewer = |session: &Session| Some(session.modes.only(most)).filter(|modes| *modes != session.modes);
            if let Some(modes) = self.session(idx, fewer).flatten() {
                self.set_modes(idx, modes);
            }
        }
    }

    /// What of the console somebody may see at most.
    pub(super) fn most_of(&self, standing: &Standing) -> Option<Shown> {
        let sees = [(OWNERS, Shown::Owners), (READERS, Shown::Masters), (WATCHERS, Shown::Watchers)];
        sees.into_iter().find(|(flags, _)| may(standing, flags)).map(|(_, shown)| shown)
    }

    /// Words for the masters on this bot's own partyline: nobody else hears them, and no linked bot. Gives the number of the news.
    pub(super) fn say_to_masters(&self, idx: u32, words: &str) -> Result<u64, String> {
        // People are looked up before the room is held.
        let masters: Vec<u32> = self.each(|session| session.idx);
        let hears = |other: &u32| *other == idx || self.standing(*other).is_some_and(|one| may(&one, READERS));
        let masters: Vec<u32> = masters.into_iter().filter(hears).collect();
        if masters.iter().all(|other| *other == idx) {
            return Err("nobody else with the flag m is here, so that nobody has heard it".to_owned());
        }
        let text = match words.strip_prefix("me ") {
            Some(act) => format!("(to masters) acts: {act}"),
            None => format!("(to masters) {words}"),
        };
        let told = self.change(|room, now| {
            let from = room.session(idx).map(author)?;
            let mut own = None;
            for other in masters {
                let Some(to) = room.session(other).map(|session| session.nick.clone()) else { continue };
                let what = What::Whisper { to, text: text.clone(), how: How::Notice };
                let id = room.tell(other, from.clone(), what, now);
                own = own.or((other == idx).then_some(id));
            }
            own
        });
        told.ok_or_else(|| "you have left".to_owned())
    }
}

/// Whether words are for masters only: these words, without what says so.
pub(super) fn for_masters<'a>(place: &Place, text: &'a str, how: How) -> Option<&'a str> {
    let ours = matches!(place, Place::Party(_) | Place::Own(_) | Place::Ops) && how == How::Say;
    text.strip_prefix(MARK).filter(|words| ours && !words.trim().is_empty())
}

fn may(standing: &Standing, flags: &str) -> bool {
    let mask = FlagMask::parse(flags).ok();
    mask.is_some_and(|mask| standing.allows(&mask, FlagScope::AnyChannel, NETWORK, None, CaseMap::Rfc1459))
}
