//! People on linked bots. Where a link comes up or is lost, many come or go at once: each such crowd is one piece of news, so
//! that nobody is let go for the size of a botnet.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::How;

use super::news::{Author, Change, Did, What};
use super::place::Place;
use super::room::{Room, bare};

/// People on linked bots that are remembered: as many as the mesh has room for, so that nobody is missing here who is there.
const GUESTS_MAX: usize = 20_000;

/// Somebody on a linked bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The bot.
    pub bot: Arc<str>,
    /// The session there.
    pub idx: u32,
    /// Whose.
    pub handle: Arc<str>,
    /// The channel.
    pub channel: u32,
    /// Eggdrop's sign for how much they are.
    pub icon: char,
    /// From where.
    pub host: Arc<str>,
    /// Why it is away.
    pub away: Option<Arc<str>>,
}

/// People who come to a place, or leave it, one right after the other.
#[derive(Default)]
struct Crowd {
    place: Option<Place>,
    comes: bool,
    reason: String,
    bot: Arc<str>,
    who: Vec<Author>,
}

impl Room {
    /// Takes what linked bots tell. Each becomes a change of its own, for binds, if it is one.
    pub(super) fn take(&mut self, changes: Vec<Change>, now: DateTime<Utc>) {
        let mut crowd = Crowd::default();
        for change in changes {
            self.take_one(change, &mut crowd, now);
        }
        self.tell_crowd(&mut crowd, now);
    }

    fn take_one(&mut self, change: Change, crowd: &mut Crowd, now: DateTime<Utc>) {
        let Some(bot) = change.bot.clone() else { return };
        let key = (bot.to_ascii_lowercase(), change.idx);
        match &change.what {
            Did::Joined { channel, icon, host } => {
                if self.guests.len() >= GUESTS_MAX && !self.guests.contains_key(&key) {
                    return;
                }
                let (handle, host) = (Arc::clone(&change.handle), Arc::clone(host));
                let before = self.guests.get(&key).cloned();
                let same = before.as_ref().filter(|before| before.handle.eq_ignore_ascii_case(&handle));
                let away = same.and_then(|before| before.away.clone());
                let was_there = same.is_some_and(|before| before.channel == *channel);
                let guest = Guest { bot, idx: change.idx, handle, channel: *channel, icon: *icon, host, away };
                self.guests.insert(key, guest.clone());
                if was_there {
                    // What is told again, after something was missed, is no news.
                    return;
                }
                if let Some(before) = before {
                    self.gather(crowd, &before, "", Comes::No, now);
                    self.changes.push(parted(&before, ""));
                }
                self.gather(crowd, &guest, "", Comes::Yes, now);
            }
            Did::Parted { reason, .. } | Did::Left { reason } => {
                let Some(guest) = self.guests.remove(&key) else { return };
                self.gather(crowd, &guest, reason, Comes::No, now);
                self.changes.push(parted(&guest, reason));
                return;
            }
            Did::Unlinked { reason } => return self.unlinked(&bot, reason, crowd, now),
            Did::Entered { .. } => return,
            _ => {
                self.tell_crowd(crowd, now);
                if !self.hear(&change, &bot, now) {
                    return;
                }
            }
        }
        self.changes.push(change);
    }

    /// What people on linked bots say and are; whether it is of somebody who is known.
    fn hear(&mut self, change: &Change, bot: &Arc<str>, now: DateTime<Utc>) -> bool {
        let key = (bot.to_ascii_lowercase(), change.idx);
        match &change.what {
            Did::Said { channel, text, act } => {
                let place = Place::Party(*channel);
                let from = self.guests.get(&key).map_or_else(|| elsewhere(&change.handle, bot), Guest::author);
                let how = if *act { How::Act } else { How::Say };
                self.tell_place(&place, from, What::Said { place: place.clone(), text: text.clone(), how }, now);
            }
            Did::Told { channel: Some(channel), text } => {
                let place = Place::Party(*channel);
                let what = What::Said { place: place.clone(), text: text.clone(), how: How::Notice };
                self.tell_place(&place, bare(bot), what, now);
            }
            Did::Told { channel: None, text } => {
                let place = Place::Party(0);
                self.tell_all(bare(bot), What::Said { place, text: text.clone(), how: How::Notice }, now);
            }
            Did::Away { reason } => {
                let Some(guest) = self.guests.get_mut(&key) else { return false };
                guest.away.clone_from(reason);
                let (from, place) = (guest.author(), Place::Party(guest.channel));
                self.tell_place(&place, from, What::Away { reason: reason.clone() }, now);
            }
            Did::Renamed { .. } => {
                let Some(guest) = self.guests.get_mut(&key) else { return false };
                let (from, place) = (guest.author(), Place::Party(guest.channel));
                guest.handle = Arc::clone(&change.handle);
                let to = guest.author().nick;
                self.tell_place(&place, from, What::Renamed { to }, now);
            }
            _ => {}
        }
        true
    }

    fn unlinked(&mut self, bot: &Arc<str>, reason: &str, crowd: &mut Crowd, now: DateTime<Utc>) {
        let gone: Vec<Guest> =
            self.guests.values().filter(|guest| guest.bot.eq_ignore_ascii_case(bot)).cloned().collect();
        for guest in gone {
            self.take_one(parted(&guest, reason), crowd, now);
        }
    }

    /// Adds somebody to the crowd, if they come or go with it; else the crowd is told and another begins.
    fn gather(&mut self, crowd: &mut Crowd, guest: &Guest, reason: &str, comes: Comes, now: DateTime<Utc>) {
        let (place, comes) = (Place::Party(guest.channel), comes == Comes::Yes);
        let same = crowd.comes == comes && crowd.reason == reason && crowd.bot == guest.bot;
        if crowd.place.as_ref() != Some(&place) || !same {
            self.tell_crowd(crowd, now);
            let (reason, bot) = (reason.to_owned(), Arc::clone(&guest.bot));
            *crowd = Crowd { place: Some(place), comes, reason, bot, who: Vec::new() };
        }
        crowd.who.push(guest.author());
    }

    fn tell_crowd(&mut self, crowd: &mut Crowd, now: DateTime<Utc>) {
        let Crowd { place: Some(place), comes, reason, bot, who } = std::mem::take(crowd) else { return };
        let one = if let [one] = who.as_slice() { Some(one.clone()) } else { None };
        let what = match (&one, comes) {
            (Some(_), true) => What::Joined { place: place.clone() },
            (Some(_), false) => What::Parted { place: place.clone(), reason },
            (None, true) => What::Came { place: place.clone(), who },
            (None, false) => What::Went { place: place.clone(), who, reason },
        };
        self.tell_place(&place, one.unwrap_or_else(|| bare(&bot)), what, now);
    }

    pub(super) fn guests(&self) -> impl Iterator<Item = &Guest> {
        self.guests.values()
    }
}

/// Somebody has left the channel in which they were.
fn parted(guest: &Guest, reason: &str) -> Change {
    let what = Did::Parted { channel: guest.channel, reason: reason.to_owned() };
    Change { bot: Some(Arc::clone(&guest.bot)), idx: guest.idx, handle: Arc::clone(&guest.handle), what }
}

/// Whether somebody comes or goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comes {
    Yes,
    No,
}

fn elsewhere(handle: &Arc<str>, bot: &Arc<str>) -> Author {
    Author { idx: None, nick: Arc::from(format!("{handle}/{bot}")), handle: Arc::clone(handle), host: Arc::clone(bot) }
}

impl Guest {
    /// As people here see it: `handle/bot`.
    pub fn author(&self) -> Author {
        elsewhere(&self.handle, &self.bot)
    }
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Shutdown;

    use super::*;
    use crate::partyline::room::QUEUE;
    use crate::partyline::{Entry, Face, Modes};

    fn of(bot: &str, idx: u32, what: Did) -> Change {
        Change { bot: Some(Arc::from(bot)), idx, handle: Arc::from(format!("p{idx}")), what }
    }

    fn enters(room: &mut Room, nick: &str) -> tokio::sync::mpsc::Receiver<Arc<crate::partyline::News>> {
        let (nick, handle, host) = (nick.to_owned(), nick.to_owned(), "h".to_owned());
        let entry = Entry { nick, handle, host, face: Face::Irc, icon: '-', modes: Modes::default() };
        let (idx, news) = room.enter(entry, Shutdown::new().0, DateTime::UNIX_EPOCH);
        room.join(idx, &Place::Party(0), DateTime::UNIX_EPOCH);
        news
    }

    #[test]
    fn a_bot_with_more_people_than_a_queue_holds_throws_nobody_out() {
        let (mut room, now) = (Room::new("chief"), DateTime::UNIX_EPOCH);
        let mut news = enters(&mut room, "alice");
        let joins = |idx| of("hub", idx, Did::Joined { channel: 0, icon: '-', host: Arc::from("h") });
        let many = QUEUE as u32 * 3;
        room.take((0..many).map(joins).collect(), now);
        room.let_slow_go(now);
        assert_eq!((room.sessions().count(), room.guests().count()), (1, many as usize));
        assert!(matches!(&news.try_recv().unwrap().what, What::Joined { .. }), "her own");
        assert!(matches!(&news.try_recv().unwrap().what, What::Came { who, .. } if who.len() == many as usize));
        // What is known already is no news.
        room.take(vec![joins(1)], now);
        room.take(vec![of("hub", 0, Did::Unlinked { reason: "split".to_owned() })], now);
        assert!(matches!(&news.try_recv().unwrap().what, What::Went { reason, .. } if reason == "split"));
        assert!(news.try_recv().is_err() && room.guests().count() == 0);
    }

    #[test]
    fn binds_hear_of_each_channel_that_somebody_elsewhere_comes_to_and_leaves_once() {
        let (mut room, now) = (Room::new("chief"), DateTime::UNIX_EPOCH);
        let joins = |channel| of("hub", 7, Did::Joined { channel, icon: '-', host: Arc::from("h") });
        let mut heard = |change: Change| {
            room.take(vec![change], now);
            let told = |change: Change| match change.what {
                Did::Joined { channel, .. } => format!("{} joins {channel}", change.handle),
                Did::Parted { channel, reason } => format!("{} leaves {channel} {reason}", change.handle),
                other => format!("{other:?}"),
            };
            room.changes().into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(heard(joins(0)), ["p7 joins 0"]);
        assert_eq!(heard(joins(0)), [""; 0], "told again, after something was missed");
        assert_eq!(heard(joins(5)), ["p7 leaves 0 ", "p7 joins 5"]);
        let other = Change { handle: Arc::from("bob"), ..joins(5) };
        assert_eq!(heard(other), ["p7 leaves 5 ", "bob joins 5"], "another in the same session");
        let gone = of("hub", 7, Did::Left { reason: "bye".to_owned() });
        assert_eq!(heard(gone.clone()), ["bob leaves 5 bye"]);
        assert_eq!(heard(gone), [""; 0]);
        heard(joins(3));
        assert_eq!(heard(of("hub", 0, Did::Unlinked { reason: "split".to_owned() })), ["p7 leaves 3 split"]);
    }

    #[test]
    fn many_who_do_not_read_go_one_after_the_other() {
        let (mut room, now) = (Room::new("chief"), DateTime::UNIX_EPOCH);
        let queues: Vec<_> = (0..300).map(|n| enters(&mut room, &format!("s{n}"))).collect();
        for n in 0..=QUEUE {
            let what = What::Said { place: Place::Party(0), text: n.to_string(), how: How::Say };
            room.tell_place(&Place::Party(0), bare(&Arc::from("chief")), what, now);
        }
        room.let_slow_go(now);
        assert_eq!((room.sessions().count(), room.let_go()), (0, 300));
        drop(queues);
    }

    #[test]
    fn a_bot_whose_name_is_written_otherwise_is_the_same_bot() {
        let mut room = Room::new("chief");
        let now = DateTime::UNIX_EPOCH;
        let did = |bot: &str, what| Change { bot: Some(Arc::from(bot)), idx: 7, handle: Arc::from("bob"), what };
        room.take(vec![did("HubBot", Did::Joined { channel: 0, icon: '-', host: Arc::from("home") })], now);
        room.take(vec![did("hubbot", Did::Away { reason: Some(Arc::from("lunch")) })], now);
        let away: Vec<_> = room.guests().map(|guest| guest.away.as_deref()).collect();
        assert_eq!(away, [Some("lunch")]);
        room.take(vec![did("HUBBOT", Did::Unlinked { reason: "gone".to_owned() })], now);
        assert_eq!(room.guests().count(), 0);
    }
}
