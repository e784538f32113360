//! The book of the net: which bot stands behind which, and who is on whose partyline. It keeps the tree a tree.
//!
//! It has room for so many. No link may tell of more than half of them, and where all together are too many, the one that tells of
//! most goes: whoever fills the book pays for it.

use std::collections::BTreeMap;

use super::login::NUMBER;
use super::name::{BotName, Word};

/// Bots of one net. More than any botnet ever had; a peer that tells of more means harm.
pub(super) const BOTS_MAX: usize = 2000;
/// People on all partylines.
pub(super) const MEMBERS_MAX: usize = 20_000;

/// The number of a link of ours.
pub type PeerId = u64;

/// A bot of the net that is not us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bot {
    /// Its name, as it writes it.
    pub name: BotName,
    /// The link that leads to it.
    pub via: PeerId,
    /// The bot it is linked to, on our side of it.
    pub uplink: BotName,
    /// Its version as a number.
    pub version: u32,
    /// `+` if it shares its users with its uplink, `-` if not.
    pub share: char,
}

impl Bot {
    /// Whether it is one of us, by its version.
    pub fn is_ours(&self) -> bool {
        self.version == NUMBER
    }
}

/// Somebody on a partyline of the net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where.
    pub bot: BotName,
    /// The number of the session there.
    pub sock: u32,
    /// The name.
    pub nick: Word,
    /// The channel, 0 the main one.
    pub chan: u32,
    /// `*` owner, `+` master, `%` botmaster, `@` op, `^` halfop, `-` none.
    pub icon: char,
    /// `user@host`.
    pub host: String,
    /// The words of one who is away.
    pub away: Option<String>,
    /// Since when nothing was said: Unix milliseconds.
    pub active: i64,
}

/// How much of the book stands behind a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    bots: usize,
    members: usize,
}

/// Bots and members.
#[derive(Clone, Debug)]
pub(super) struct Book {
    me: BotName,
    /// What each link tells of. Our own people are counted apart.
    shares: BTreeMap<PeerId, Share>,
    own: usize,
    bots: BTreeMap<BotName, Bot>,
    members: BTreeMap<(BotName, u32), Member>,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// The link that tells of too many; nothing where they are ours.
    pub(super) pays: Option<PeerId>,
}

/// Why a bot is not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BotFault {
    /// It is there already, so that there are two ways to it.
    Loop,
    /// Its uplink is not behind this link.
    Bogus,
    /// There are too many; this link tells of most.
    TooMany(PeerId),
}

impl Book {
    /// The book of one who is alone.
    pub(super) fn new(me: BotName) -> Book {
        let (shares, own) = (BTreeMap::new(), 0);
        Book { me, shares, own, bots: BTreeMap::new(), members: BTreeMap::new() }
    }

    /// Whether a link may tell of one more; if not, which one tells of too many.
    fn room(&self, via: PeerId, of: fn(&Share) -> usize, most: usize) -> Result<(), PeerId> {
        let own = self.shares.get(&via).map_or(0, of);
        if own >= most / 2 {
            return Err(via);
        }
        if self.shares.values().map(of).sum::<usize>() < most {
            return Ok(());
        }
        Err(self.shares.iter().max_by_key(|(_, share)| of(share)).map_or(via, |(id, _)| *id))
    }

    fn count(&mut self, via: PeerId, change: impl Fn(&mut Share)) {
        let share = self.shares.entry(via).or_default();
        change(share);
        if *share == Share::default() {
            self.shares.remove(&via);
        }
    }

    /// A bot.
    pub(super) fn bot(&self, name: &BotName) -> Option<&Bot> {
        self.bots.get(name)
    }

    /// All bots but us.
    pub(super) fn bots(&self) -> impl Iterator<Item = &Bot> {
        self.bots.values()
    }

    /// The link that leads to a bot.
    pub(super) fn via(&self, name: &BotName) -> Option<PeerId> {
        self.bots.get(name).map(|bot| bot.via)
    }

    /// Takes in a bot that is linked with us.
    pub(super) fn link(&mut self, name: BotName, via: PeerId, version: u32) -> Result<(), BotFault> {
        let uplink = self.me.clone();
        self.put(Bot { name, via, uplink, version, share: '-' })
    }

    /// Takes in a bot that a link tells of: one that nobody knows, behind one of this link.
    pub(super) fn put_behind(&mut self, bot: Bot) -> Result<(), BotFault> {
        if self.via(&bot.uplink) != Some(bot.via) {
            // Whoever names a bot that is known already makes a loop, whatever it says of its uplink.
            let known = bot.name == self.me || self.bots.contains_key(&bot.name);
            return Err(if known { BotFault::Loop } else { BotFault::Bogus });
        }
        self.put(bot)
    }

    fn put(&mut self, bot: Bot) -> Result<(), BotFault> {
        if bot.name == self.me || self.bots.contains_key(&bot.name) {
            return Err(BotFault::Loop);
        }
        self.room(bot.via, |share| share.bots, BOTS_MAX).map_err(BotFault::TooMany)?;
        self.count(bot.via, |share| share.bots += 1);
        self.bots.insert(bot.name.clone(), bot);
        Ok(())
    }

    /// What a bot shares, and its version.
    pub(super) fn update(&mut self, name: &BotName, share: char, version: u32) {
        if let Some(bot) = self.bots.get_mut(name) {
            bot.share = share;
            // Some tell the share flag alone.
            if version != 0 {
                bot.version = version;
            }
        }
    }

    /// Takes a bot out with all behind it and their members; gives the bots, those behind first, and the members.
    pub(super) fn cut(&mut self, name: &BotName) -> (Vec<Bot>, Vec<Member>) {
        let mut gone = Vec::new();
        let mut next = vec![name.clone()];
        while let Some(name) = next.pop() {
            if let Some(bot) = self.bots.remove(&name) {
                let behind = self.bots.values().filter(|other| other.uplink == name);
                next.extend(behind.map(|other| other.name.clone()));
                gone.push(bot);
            }
        }
        gone.reverse();
        let mut left = Vec::new();
        for bot in &gone {
            let keys: Vec<_> = self.of_bot(&bot.name).map(|member| member.sock).collect();
            let there = keys.len();
            left.extend(keys.into_iter().filter_map(|sock| self.members.remove(&(bot.name.clone(), sock))));
            self.count(bot.via, |share| {
                share.bots = share.bots.saturating_sub(1);
                share.members = share.members.saturating_sub(there);
            });
        }
        (gone, left)
    }

    /// The bots in an order in which each stands after its uplink.
    pub(super) fn parents_first(&self) -> Vec<&Bot> {
        let mut out = Vec::with_capacity(self.bots.len());
        let mut next = vec![&self.me];
        while let Some(uplink) = next.pop() {
            for bot in self.bots.values().filter(|bot| bot.uplink == *uplink) {
                out.push(bot);
                next.push(&bot.name);
            }
        }
        out
    }

    /// Bots that stand between a bot and us: itself, its uplink, and so on to the one that is linked with us.
    pub(super) fn way(&self, name: &BotName) -> Vec<&BotName> {
        let mut out = Vec::new();
        let mut next = self.bots.get(name);
        // A tree has no way that is longer than its bots are many.
        while let Some(bot) = next.filter(|_| out.len() <= self.bots.len()) {
            out.push(&bot.name);
            next = self.bots.get(&bot.uplink);
        }
        out
    }

    /// Somebody, by the session, to be changed.
    pub(super) fn member_mut(&mut self, bot: &BotName, sock: u32) -> Option<&mut Member> {
        self.members.get_mut(&(bot.clone(), sock))
    }

    /// The people on a bot.
    pub(super) fn of_bot(&self, bot: &BotName) -> impl Iterator<Item = &Member> {
        let range = (bot.clone(), 0)..=(bot.clone(), u32::MAX);
        self.members.range(range).map(|(_, member)| member)
    }

    /// Somebody on a bot by name, the newest session to speak first.
    pub(super) fn named(&self, bot: &BotName, nick: &str) -> Option<&Member> {
        let same = self.of_bot(bot).filter(|member| member.nick.as_str().eq_ignore_ascii_case(nick));
        same.max_by_key(|member| member.active)
    }

    /// All people.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Somebody comes, or changes the channel; gives what was before.
    pub(super) fn join(&mut self, member: Member) -> Result<Option<Member>, Full> {
        let key = (member.bot.clone(), member.sock);
        if !self.members.contains_key(&key) {
            match self.via(&member.bot) {
                None if self.own >= MEMBERS_MAX => return Err(Full { pays: None }),
                None => self.own += 1,
                Some(via) => {
                    let room = self.room(via, |share| share.members, MEMBERS_MAX);
                    room.map_err(|pays| Full { pays: Some(pays) })?;
                    self.count(via, |share| share.members += 1);
                }
            }
        }
        Ok(self.members.insert(key, member))
    }

    /// Somebody leaves.
    pub(super) fn part(&mut self, bot: &BotName, sock: u32) -> Option<Member> {
        let gone = self.members.remove(&(bot.clone(), sock))?;
        match self.via(bot) {
            None => self.own = self.own.saturating_sub(1),
            Some(via) => self.count(via, |share| share.members = share.members.saturating_sub(1)),
        }
        Some(gone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> BotName {
        text.parse().unwrap()
    }

    fn bot(text: &str, via: PeerId, uplink: &str) -> Bot {
        Bot { name: name(text), via, uplink: name(uplink), version: 1, share: '-' }
    }

    fn member(bot: &str, sock: u32) -> Member {
        Member {
            bot: name(bot),
            sock,
            nick: Word::new("alice").unwrap(),
            chan: 0,
            icon: '-',
            host: String::new(),
            away: None,
            active: 0,
        }
    }

    /// us - Hub (1) - Leaf - Far, us - Other (2).
    fn book() -> Book {
        let mut book = Book::new(name("Chief"));
        book.link(name("Hub"), 1, 1).unwrap();
        book.link(name("Other"), 2, 1).unwrap();
        book.put_behind(bot("Leaf", 1, "hub")).unwrap();
        book.put_behind(bot("Far", 1, "Leaf")).unwrap();
        book
    }

    #[test]
    fn a_second_way_to_a_bot_is_a_loop_and_an_uplink_elsewhere_is_bogus() {
        let mut book = book();
        assert_eq!(book.put_behind(bot("FAR", 1, "Hub")), Err(BotFault::Loop));
        assert_eq!(book.put_behind(bot("Far", 2, "Other")), Err(BotFault::Loop));
        assert_eq!(book.put_behind(bot("chief", 1, "Hub")), Err(BotFault::Loop));
        assert_eq!(book.put_behind(bot("chief", 1, "Nobody")), Err(BotFault::Loop));
        assert_eq!(book.put_behind(bot("New", 2, "Hub")), Err(BotFault::Bogus));
        assert_eq!(book.put_behind(bot("New", 1, "Nobody")), Err(BotFault::Bogus));
        assert_eq!(book.put_behind(bot("New", 1, "Chief")), Err(BotFault::Bogus));
        assert_eq!(book.way(&name("far")), [&name("Far"), &name("Leaf"), &name("Hub")]);
    }

    #[test]
    fn with_a_bot_all_behind_it_goes_those_behind_first() {
        let mut book = book();
        book.join(member("Far", 7)).unwrap();
        book.join(member("Other", 7)).unwrap();
        let (bots, members) = book.cut(&name("hub"));
        let names: Vec<String> = bots.iter().map(|bot| bot.name.to_string()).collect();
        assert_eq!(names, ["Far", "Leaf", "Hub"]);
        assert_eq!(members.len(), 1);
        assert_eq!(book.bots().count(), 1);
        assert_eq!(book.members().count(), 1);
    }

    #[test]
    fn who_fills_the_book_pays_for_it() {
        let mut book = book();
        let half = MEMBERS_MAX as u32 / 2;
        for sock in 0..half {
            book.join(member("Far", sock)).unwrap();
        }
        assert_eq!(book.join(member("Hub", 0)), Err(Full { pays: Some(1) }), "half of all is behind link 1");
        assert_eq!(book.join(member("Far", 0)).map(|before| before.is_some()), Ok(true), "who is there stays");
        for sock in 0..half - 1 {
            book.join(member("Other", sock)).unwrap();
        }
        book.join(member("Chief", 0)).unwrap();
        book.link(name("Third"), 3, 1).unwrap();
        book.join(member("Third", 0)).unwrap();
        assert_eq!(book.join(member("Third", 1)), Err(Full { pays: Some(1) }), "who tells of most pays for all");
        book.cut(&name("Hub"));
        book.join(member("Third", 1)).unwrap();
        assert_eq!(book.part(&name("Third"), 1).map(|gone| gone.sock), Some(1));
        let counted: usize = book.shares.values().map(|share| share.members).sum();
        assert_eq!(counted + book.own, book.members().count());
        assert_eq!(book.shares.values().map(|share| share.bots).sum::<usize>(), book.bots().count());
        for number in 0..BOTS_MAX / 2 - 1 {
            book.put_behind(bot(&format!("B{number}"), 2, "Other")).unwrap();
        }
        assert_eq!(book.put_behind(bot("More", 2, "Other")), Err(BotFault::TooMany(2)));
        book.put_behind(bot("Fourth", 3, "Third")).unwrap();
    }

    proptest! {
        /// Whatever peers tell, the book is a tree in which every bot hangs by the link that leads to it.
        #[test]
        fn the_book_stays_a_tree(told in proptest::collection::vec((0u8..8, 1u64..3, 0u8..8, any::<bool>()), 0..60)) {
            let mut book = Book::new(name("B0"));
            book.link(name("B1"), 1, 1).unwrap();
            book.link(name("B2"), 2, 1).unwrap();
            for (bot_no, via, uplink, cut) in told {
                if cut && bot_no > 2 {
                    book.cut(&name(&format!("B{bot_no}")));
                } else {
                    let _ = book.put_behind(bot(&format!("B{bot_no}"), via, &format!("B{uplink}")));
                }
                prop_assert_eq!(book.parents_first().len(), book.bots().count());
                for bot in book.bots() {
                    prop_assert!(bot.uplink == name("B0") || book.via(&bot.uplink) == Some(bot.via));
                }
            }
        }
    }
}
