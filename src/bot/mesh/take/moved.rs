//! Who has another handle at the bot with which they came has it here too, with all that is known of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{From, Plan, Takes, is_given_by};
use crate::mesh::{BotName, Gift};
use crate::store::StoreError;
use crate::users::{Book, Given, User};

/// How many handles one bot may give anew in an hour: each is written to disk, told, and kept in mind by the bots with which people are
/// shared. Who is given one after that is left alone.
const RENAMES: usize = 100;
const HOUR_MS: i64 = 3_600_000;

/// How many handles each bot has given anew of late: since when it is counted, in milliseconds, and how many.
pub(super) type Renames = HashMap<BotName, (i64, usize)>;

impl Plan {
    /// The handle before of who has this one from now on.
    pub(super) fn was(&self, handle: &str) -> Option<&String> {
        self.moved.get(&handle.to_ascii_lowercase())
    }

    /// Each handle before, with the one now.
    pub(super) fn moves(&self) -> Vec<(String, String)> {
        let now = self.puts.iter().map(|(user, _)| &user.handle);
        now.filter_map(|now| Some((self.was(now)?.clone(), now.clone()))).collect()
    }

    /// Nothing more is taken from that bot for somebody, whom it calls otherwise; the words why.
    fn part(&mut self, user: &User, why: String) {
        if self.apart.iter().any(|(one, _)| one.handle == user.handle) {
            return;
        }
        let given_by = user.given_by.clone().map(|by| Given { apart: true, ..by });
        self.apart.push((User { given_by, ..user.clone() }, why));
    }

    /// Who was to be renamed and is not written down, in lower case, and why.
    pub(super) fn stuck(&self) -> Vec<(String, String)> {
        let written: BTreeSet<String> = self.puts.iter().map(|(user, _)| user.handle.to_ascii_lowercase()).collect();
        let stuck = self.moved.keys().filter(|now| !written.contains(*now));
        let why = |now: &String| self.alone.iter().find(|(handle, _)| handle.eq_ignore_ascii_case(now));
        stuck.map(|now| (now.clone(), why(now).map_or_else(String::new, |(_, why)| why.clone()))).collect()
    }
}

/// Somebody with another handle there.
struct Move {
    /// As they are here.
    user: Arc<User>,
    /// The handle there.
    new: String,
    /// Why they keep theirs here, if they do.
    why: String,
}

impl Takes {
    /// The book with those renamed who may be, noted in the plan. A handle that is somebody's here, or that nobody may bring, is given to
    /// nobody; then whoever has another handle there goes their own way here, and so does whose handle is somebody else's there.
    pub(super) async fn moved(
        &self,
        from: &From<'_>,
        gift: &Gift,
        book: &Book,
        broken: &BTreeMap<String, String>,
        plan: &mut Plan,
    ) -> Result<Book, StoreError> {
        if gift.renamed.is_empty() {
            return Ok(book.clone());
        }
        let (mut moves, mut stays) = (Vec::new(), Vec::new());
        let mut wanted = BTreeSet::new();
        // Who is called as before again is nobody else.
        for (old, new) in gift.renamed.iter().filter(|(old, new)| !old.eq_ignore_ascii_case(new)) {
            let key = new.to_ascii_lowercase();
            let Some(user) = book.get(old).filter(|user| is_given_by(user, from.bot)) else {
                // Who was removed or is somebody else's here is that under another handle too.
                if self.seen(from.bot, old).await?.is_some() {
                    plan.stay.insert(key, format!("was {old} there, who is not taken over"));
                }
                continue;
            };
            let may_be = !from.bots.contains(&key) && !book.is_named(&key) && User::new(new).is_ok();
            let gone = gift.gone.iter().any(|gone| gone.eq_ignore_ascii_case(new));
            let removed_here = !gone && self.seen(from.bot, new).await?.is_some();
            let may_be = may_be && !removed_here && !broken.contains_key(&key) && wanted.insert(key);
            let letters = &from.take.letters;
            let above = letters.are_below(book, &user);
            let why = if above { format!(", who holds more than {letters}") } else { String::new() };
            if may_be && !above { &mut moves } else { &mut stays }.push(Move { user, new: new.clone(), why });
        }
        let room = self.renames_left(from.bot);
        moves = settled(book, moves, &mut stays);
        while moves.len() > room {
            let why = format!(
                ", for it gave more than {RENAMES} handles anew in an hour; .chhandle does it here, and the record is ours then"
            );
            stays.extend(moves.split_off(room).into_iter().map(|one| Move { why: why.clone(), ..one }));
            moves = settled(book, moves, &mut stays);
        }
        let (gone, users): (Vec<String>, Vec<User>) = moves
            .into_iter()
            .map(|Move { user, new, .. }| (user.handle.clone(), User { handle: new, ..User::clone(&user) }))
            .unzip();
        for Move { user, new, why } in stays {
            plan.stay.insert(new.to_ascii_lowercase(), format!("is {} here", user.handle));
            plan.part(&user, format!("is {new} there now and stays {} here{why}", user.handle));
        }
        for key in plan.stay.keys().cloned().collect::<Vec<_>>() {
            let leaves = gone.iter().any(|old| old.eq_ignore_ascii_case(&key));
            let there = book.get(&key).filter(|user| is_given_by(user, from.bot) && !leaves);
            if let Some(user) = there {
                plan.part(&user, "is somebody else there now".to_owned());
            }
        }
        let book = book.apart();
        let apart: Vec<User> = plan.apart.iter().map(|(user, _)| user.clone()).collect();
        book.exchange(&gone, &[users.as_slice(), &apart].concat());
        plan.moved.extend(users.into_iter().map(|user| user.handle.to_ascii_lowercase()).zip(gone));
        Ok(book)
    }

    /// How many handles a bot may give anew now.
    fn renames_left(&self, bot: &BotName) -> usize {
        let (now, mut renames) = (self.inner.clock.now().timestamp_millis(), self.renames());
        renames.retain(|_, (since, _)| (0..HOUR_MS).contains(&(now - *since)));
        RENAMES.saturating_sub(renames.get(bot).map_or(0, |(_, count)| *count))
    }

    /// Notes who has another handle now. Their sessions go on under it.
    pub(super) fn follow(&self, bot: &BotName, moves: &[(String, String)]) {
        if moves.is_empty() {
            return;
        }
        let now = self.inner.clock.now().timestamp_millis();
        self.renames().entry(bot.clone()).or_insert((now, 0)).1 += moves.len();
        self.inner.party.renamed(moves);
    }

    fn renames(&self) -> std::sync::MutexGuard<'_, Renames> {
        self.inner.renames.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Those of whom each finds a free handle: one that is nobody's here, or that another of them leaves. The others stay.
fn settled(book: &Book, mut moves: Vec<Move>, stays: &mut Vec<Move>) -> Vec<Move> {
    loop {
        let left: BTreeSet<String> = moves.iter().map(|one| one.user.handle.to_ascii_lowercase()).collect();
        let is_free = |one: &Move| book.get(&one.new).is_none() || left.contains(&one.new.to_ascii_lowercase());
        let (free, taken): (Vec<Move>, Vec<Move>) = moves.into_iter().partition(is_free);
        if taken.is_empty() {
            return free;
        }
        stays.extend(taken);
        moves = free;
    }
}
