//! People of an Eggdrop whose user file may be taken: who is new is written down here, and what came since to those who came with it. Nobody
//! is ever removed, and nothing taken away; what was removed here stays so.

mod moved;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use masterchief_contract::Clock;
use serde_json::Value;

use self::moved::Renames;
use crate::bot::people::{PeopleError, read_users, row_of, touched};
use crate::bot::policy::Policy;
use crate::mesh::{AskFault, BotName, BotSettings, Gift, Mesh, NETWORK, RecordFault, Take};
use crate::partyline::Party;
use crate::pipelines::words::cut;
use crate::store::{AuditRow, Sharing, Store, StoreError, check_size};
use crate::users::{Book, Claims, EggBot, EggPerson, Given, PEOPLE_MAX, Seen, User};

/// Under which name it is kept what was seen of whom, among what scripts keep. No script can have it.
const KEPT: &str = "@taken";
/// How much of what is new of somebody stands in the audit trail, in characters.
const NEW: usize = 4000;
/// What one bot may give: people, hostmasks of them all, and what else they are known by. Whatever it removes meanwhile stays here.
const ROOM: Room = Room { people: PEOPLE_MAX, masks: 20_000, marks: 40_000 };

/// What takes people over. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Takes {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    book: Book,
    clock: Clock,
    party: Party,
    policy: Arc<OnceLock<Policy>>,
    room: Room,
    mesh: OnceLock<Mesh>,
    /// One gift after the other.
    turn: tokio::sync::Mutex<()>,
    /// Of which bots it was said that what they remove stays here.
    said: Mutex<BTreeSet<BotName>>,
    /// Of which bot and handle it was said that they are left alone.
    alone: Mutex<BTreeSet<(BotName, String)>>,
    renames: Mutex<Renames>,
}

/// It cannot be taken now.
#[derive(Debug, thiserror::Error)]
enum TakeFault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    People(#[from] PeopleError),
    #[error("the people here change all the time; offer it again")]
    Busy,
}

/// How much more may come.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    people: usize,
    masks: usize,
    /// Accounts, certificates and channels.
    marks: usize,
}

/// What becomes of a gift.
#[derive(Debug, Default)]
struct Plan {
    /// What finds room yet.
    room: Room,
    /// Who is written, with what is new of them in words.
    puts: Vec<(User, String)>,
    /// What is seen from now on of those of whom something else was seen before, and under which name.
    seen: Vec<(String, Value)>,
    /// Who is left as they are, and why.
    alone: Vec<(String, String)>,
    /// What was left out of those who were taken.
    left: usize,
    /// Who has less there than before.
    less: Vec<String>,
    /// Who has another handle from now on: the one now, in lower case, and the one before.
    moved: BTreeMap<String, String>,
    /// Who is written down under another handle than there, or not at all: the one there, in lower case, and why.
    stay: BTreeMap<String, String>,
    /// Who is called otherwise there, or whose handle is somebody else's there: nothing is taken for them from now on. And why.
    apart: Vec<(User, String)>,
}

/// Whose people, and what is let in.
struct From<'a> {
    bot: &'a BotName,
    take: &'a Take,
    /// The bots that are known, in lower case.
    bots: BTreeSet<String>,
}

impl Room {
    /// What somebody takes.
    fn of(user: &User) -> Room {
        let marks = user.accounts.len() + user.certs.len() + user.channels.len();
        Room { people: 1, masks: user.hosts.len(), marks }
    }

    /// With this of each made of both.
    fn each(self, other: Room, of: impl Fn(usize, usize) -> usize) -> Room {
        let Room { people, masks, marks } = other;
        Room { people: of(self.people, people), masks: of(self.masks, masks), marks: of(self.marks, marks) }
    }

    /// What is left behind somebody, of whom this was there before; or why they find none.
    fn after(self, user: &User, before: Option<&User>) -> Result<Room, String> {
        let more = Room::of(user).each(before.map(Room::of).unwrap_or_default(), usize::saturating_sub);
        if more.people > self.people || more.masks > self.masks || more.marks > self.marks {
            return Err("finds no room: too many came with it already".to_owned());
        }
        Ok(self.each(more, usize::saturating_sub))
    }
}

impl Takes {
    pub(super) fn new(store: Store, book: Book, clock: Clock, party: Party, policy: Arc<OnceLock<Policy>>) -> Takes {
        let (mesh, turn) = (OnceLock::new(), tokio::sync::Mutex::default());
        let (said, alone, renames) = (Mutex::default(), Mutex::default(), Mutex::default());
        let inner = Inner { store, book, clock, party, policy, room: ROOM, mesh, turn, said, alone, renames };
        Takes { inner: Arc::new(inner) }
    }

    /// The mesh, once it is there.
    pub(super) fn join(&self, mesh: &Mesh) {
        // It is opened once.
        let _ = self.inner.mesh.set(mesh.clone());
    }

    /// Takes what a bot has given, as far as its record says.
    pub(super) async fn take(&self, bot: &BotName, gift: Gift) -> Result<(), String> {
        let _turn = self.inner.turn.lock().await;
        let Some(mesh) = self.inner.mesh.get() else { return Err("the bot is starting".to_owned()) };
        let view = mesh.view();
        let record = view.records.iter().find(|record| record.name == *bot);
        let Some(take) = record.and_then(|record| record.settings.takes()) else {
            return Err("no user file of it is to be taken any more".to_owned());
        };
        let known = view.records.iter().map(|record| &record.name).chain([mesh.name()]);
        let bots = known.map(|name| name.as_str().to_ascii_lowercase()).collect();
        let from = From { bot, take: &take, bots };
        let done = self.people(&from, &gift).await;
        let plan = done.map_err(|fault| {
            tracing::error!(%bot, %fault, "People of an Eggdrop cannot be taken over");
            "my records fail".to_owned()
        })?;
        let bots = self.bots(&from, mesh, &gift.bots).await;
        self.tell(bot, &gift, &plan, &bots);
        Ok(())
    }

    /// Writes people down, all at once and with what was seen of them, so that nothing is ever news twice; unless somebody else changes
    /// them meanwhile: then it is looked again.
    async fn people(&self, from: &From<'_>, gift: &Gift) -> Result<Plan, TakeFault> {
        let Inner { store, book, .. } = &*self.inner;
        if gift.people.is_empty() {
            // Nobody is looked up for whom nothing is told.
            let plan = Plan::default();
            return self.keep(from.bot, gift).await.map(|()| plan).map_err(TakeFault::from);
        }
        for _ in 0..20 {
            // Operators change nobody meanwhile; another process may.
            let _turn = book.turn().await;
            let revision = store.users_revision().await?;
            let now = book.apart();
            now.fill(read_users(store).await?);
            let plan = self.judged(from, gift, &now).await?;
            let written: Vec<User> = plan.puts.iter().chain(&plan.apart).map(|(user, _)| user.clone()).collect();
            let puts = written.iter().map(row_of).collect();
            let kept = plan.seen.iter().map(|(name, seen)| (KEPT.to_owned(), name.clone(), seen.clone())).collect();
            let told = |(user, words): &(User, String)| {
                self.row(from.bot, &user.handle, &format!("from its user file: {}", cut(words, NEW)))
            };
            let parts =
                |(user, why): &(User, String)| self.row(from.bot, &user.handle, &format!("nothing more of it: {why}"));
            let audit = plan.puts.iter().map(told).chain(plan.apart.iter().map(parts)).collect();
            let moved = plan.moves();
            let gone: Vec<String> = moved.iter().map(|(old, _)| old.clone()).collect();
            let sharing = Sharing { moved: moved.clone(), puts, kept, audit, ..Sharing::default() };
            let nothing = sharing.puts.is_empty() && sharing.kept.is_empty();
            if !nothing && store.share(revision, &sharing).await?.is_none() {
                continue;
            }
            // What else another process has written of those who part was judged by nobody yet.
            let parted = plan.apart.iter().filter_map(|(user, _)| {
                let here = book.get(&user.handle)?;
                Some(User { given_by: user.given_by.clone(), ..User::clone(&here) })
            });
            let here: Vec<User> = plan.puts.iter().map(|(user, _)| user.clone()).chain(parted).collect();
            // At once: what operators change from here on counts.
            book.exchange(&gone, &here);
            self.follow(from.bot, &moved);
            return self.keep(from.bot, gift).await.map(|()| plan).map_err(TakeFault::from);
        }
        Err(TakeFault::Busy)
    }

    /// What the policy lets be done: it judges all of it at once, and looks for who breaks it only where somebody does.
    async fn judged(&self, from: &From<'_>, gift: &Gift, book: &Book) -> Result<Plan, StoreError> {
        let mut broken = BTreeMap::new();
        loop {
            let plan = self.plan(from, gift, book, &broken).await?;
            // Who finds no room keeps the handle, which is free for nobody else then.
            let stuck = plan.stuck();
            if !stuck.is_empty() {
                broken.extend(stuck);
                continue;
            }
            let Some(policy) = self.inner.policy.get() else { return Ok(plan) };
            let users: Vec<User> = plan.puts.iter().map(|(user, _)| user.clone()).collect();
            let holds = |users: &[User]| {
                let gone: Vec<String> = users.iter().filter_map(|user| plan.was(&user.handle)).cloned().collect();
                policy.holds_beside(users, &gone).map_err(|broken| broken.to_string())
            };
            let more = refused(&holds, &users);
            if more.is_empty() {
                return Ok(plan);
            }
            // Who is refused is written no more, so this ends.
            broken.extend(more);
        }
    }

    async fn plan(
        &self,
        from: &From<'_>,
        gift: &Gift,
        book: &Book,
        broken: &BTreeMap<String, String>,
    ) -> Result<Plan, StoreError> {
        let all = book.all();
        let given = all.iter().filter(|user| came_with(user, from.bot));
        let taken = given.fold(Room::default(), |sum, user| sum.each(Room::of(user), usize::saturating_add));
        let room = self.inner.room.each(taken, usize::saturating_sub);
        let mut plan = Plan { room, ..Plan::default() };
        let book = &self.moved(from, gift, book, broken, &mut plan).await?;
        let mut claims = Claims::of(book.apart());
        for person in &gift.people {
            // Who was gone for a moment is given anew.
            let anew = gift.gone.iter().any(|gone| gone.eq_ignore_ascii_case(&person.handle));
            let before = match plan.was(&person.handle) {
                Some(old) => self.seen(from.bot, old).await?,
                None if anew => None,
                None => self.seen(from.bot, &person.handle).await?,
            };
            let key = person.handle.to_ascii_lowercase();
            if plan.stay.contains_key(&key) {
                // Whatever becomes of them: who came under another handle, or was removed, is nobody new the next time.
                plan.seen.extend(seen_now(from, person));
            }
            let done = match broken.get(&key) {
                Some(why) => Err(why.clone()),
                None => self.person(from, person, before, book, &mut claims, &mut plan),
            };
            if let Err(why) = done {
                plan.alone.push((person.handle.clone(), why));
            }
        }
        Ok(plan)
    }

    /// What becomes of one person; or why they are left alone.
    fn person(
        &self,
        from: &From<'_>,
        person: &EggPerson,
        before: Option<Seen>,
        book: &Book,
        claims: &mut Claims,
        plan: &mut Plan,
    ) -> Result<(), String> {
        let Take { network, letters } = from.take;
        let (record, left) = person.record(network.as_deref(), letters.set()).map_err(|fault| fault.to_string())?;
        let now = Seen::of(&record);
        if before.as_ref().is_some_and(|before| !before.since(&now).is_empty()) {
            plan.less.push(person.handle.clone());
        }
        let key = person.handle.to_ascii_lowercase();
        let (seen_before, was) = (before.is_some(), plan.was(&person.handle).cloned());
        let seen = was.is_some() || Some(&now) != before.as_ref();
        let seen = seen.then(|| kept(from.bot, &person.handle, &now)).transpose()?;
        let news = now.since(&before.unwrap_or_default());
        let old = book.get(&person.handle);
        let (base, (after, more)) = match old.as_deref() {
            None if book.is_named(&key) => return Err("is named by pipelines here; make the record here".to_owned()),
            None if from.bots.contains(&key) => return Err("is a bot here".to_owned()),
            Some(user) if !is_given_by(user, from.bot) => {
                plan.seen.extend(seen);
                return Err("is here already".to_owned());
            }
            _ if plan.stay.contains_key(&key) => return Err(plan.stay.get(&key).cloned().unwrap_or_default()),
            None if seen_before => {
                plan.seen.extend(seen);
                return Err("was removed here, or has another handle here".to_owned());
            }
            None => {
                let blank = User { handle: record.handle.clone(), ..User::default() };
                let given_by = Some(Given::by(from.bot.as_str()));
                (blank, (User { given_by, ..record }, Vec::new()))
            }
            Some(user) if letters.are_below(book, user) => {
                plan.seen.extend(seen);
                return Err(format!("holds more here than {letters}, or a role, or is named by pipelines"));
            }
            Some(user) => (user.clone(), news.added_to(user)),
        };
        let (after, taken) = claims.granted(&base, after);
        if was.is_some() || old.as_deref() != Some(&after) {
            plan.room = plan.room.after(&after, old.as_deref())?;
            let words = Seen::of(&after).since(&Seen::of(&base)).words();
            let words = match (&was, words.is_empty()) {
                (None, true) => "nothing but the name".to_owned(),
                (None, false) => words,
                (Some(was), true) => format!("who was {was}"),
                (Some(was), false) => format!("who was {was}, {words}"),
            };
            // Another handle is another name to be known by.
            let before = old.as_deref().filter(|_| was.is_none());
            let after = touched(after, before, self.inner.clock.now().timestamp_millis());
            plan.puts.push((after, words));
        }
        plan.left += if old.is_none() { left.len() } else { 0 } + more.len() + taken.len();
        plan.seen.extend(seen);
        Ok(())
    }

    /// Bots as the import has them: known from now on, with where they listen, and called by nobody yet.
    async fn bots(&self, from: &From<'_>, mesh: &Mesh, bots: &[EggBot]) -> Vec<String> {
        let (mut added, room) = (Vec::new(), PEOPLE_MAX.saturating_sub(from.bots.len()));
        for bot in bots.iter().take(room) {
            let Ok(name) = bot.handle.parse::<BotName>() else { continue };
            let known = from.bots.contains(&bot.handle.to_ascii_lowercase()) || added.contains(&bot.handle);
            if known || self.inner.book.get(&bot.handle).is_some() {
                continue;
            }
            // An operator may have written it down meanwhile.
            match mesh.add_bot(&name, BotSettings::of_eggdrop(bot)).await {
                Err(AskFault::Record(RecordFault::Known(_))) => {}
                Ok(()) => {
                    self.audit(from.bot, name.as_str(), "a bot, from its user file").await;
                    added.push(name.to_string());
                }
                Err(fault) => tracing::warn!(%name, %fault, "A bot of an Eggdrop's user file is not taken over"),
            }
        }
        added
    }

    async fn seen(&self, bot: &BotName, handle: &str) -> Result<Option<Seen>, StoreError> {
        let kept = self.inner.store.kv_get(KEPT, &name_of(bot, handle), self.inner.clock.now()).await?;
        // What another version wrote was not seen, as far as anybody can tell.
        Ok(kept.and_then(|kept| serde_json::from_value(kept).ok()))
    }

    /// Forgets who is gone.
    async fn keep(&self, bot: &BotName, gift: &Gift) -> Result<(), StoreError> {
        let Inner { store, clock, .. } = &*self.inner;
        let there = |handle: &String| gift.people.iter().any(|person| person.handle.eq_ignore_ascii_case(handle));
        for handle in gift.gone.iter().filter(|handle| !there(handle)) {
            store.kv_delete(KEPT, &name_of(bot, handle)).await?;
        }
        if gift.file.is_some() {
            let most = u32::try_from(2 * PEOPLE_MAX).unwrap_or(u32::MAX);
            let there: BTreeSet<String> = gift.people.iter().map(|person| name_of(bot, &person.handle)).collect();
            for name in store.kv_names(KEPT, &name_of(bot, ""), most, clock.now()).await? {
                if !there.contains(&name) {
                    store.kv_delete(KEPT, &name).await?;
                }
            }
        }
        Ok(())
    }

    async fn audit(&self, bot: &BotName, handle: &str, detail: &str) {
        let row = self.row(bot, handle, detail);
        if let Err(fault) = self.inner.store.audit(&row).await {
            tracing::error!(%fault, ?row, "An audit entry could not be stored");
        }
    }

    /// A row of the audit trail, which is in the log too.
    fn row(&self, bot: &BotName, handle: &str, detail: &str) -> AuditRow {
        tracing::info!(%bot, handle, detail, "People of an Eggdrop");
        AuditRow {
            at: self.inner.clock.now(),
            network: NETWORK.to_owned(),
            actor: bot.to_string(),
            handle: None,
            kind: "users".to_owned(),
            mask: handle.to_owned(),
            action: "changed".to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// Who of these may not be written, in lower case, and why. Where all may, that is one judgement; who breaks something is looked for by
/// halves.
fn refused(holds: &impl Fn(&[User]) -> Result<(), String>, users: &[User]) -> Vec<(String, String)> {
    if users.is_empty() {
        return Vec::new();
    }
    let Err(why) = holds(users) else { return Vec::new() };
    let (first, second) = users.split_at(users.len() / 2);
    let mut all = refused(holds, first);
    if !first.is_empty() {
        all.extend(refused(holds, second));
    }
    if all.is_empty() {
        // One alone, or each half holds without the other.
        all.extend(second.iter().map(|user| (user.handle.to_ascii_lowercase(), why.clone())));
    }
    all
}

/// Whether the record came with this bot.
fn came_with(user: &User, bot: &BotName) -> bool {
    user.given_by.as_ref().is_some_and(|by| by.bot.eq_ignore_ascii_case(bot.as_str()))
}

/// Whether it is still whom the bot means by the handle, so that it may add to them.
fn is_given_by(user: &User, bot: &BotName) -> bool {
    came_with(user, bot) && user.given_by.as_ref().is_some_and(|by| !by.apart)
}

/// What is seen now of somebody who is not taken over, as it is kept, if it can be.
fn seen_now(from: &From<'_>, person: &EggPerson) -> Option<(String, Value)> {
    let (record, _) = person.record(from.take.network.as_deref(), from.take.letters.set()).ok()?;
    kept(from.bot, &person.handle, &Seen::of(&record)).ok()
}

/// What is seen of somebody, as it is kept; or why it cannot be. What could not be kept would be news again and again.
fn kept(bot: &BotName, handle: &str, seen: &Seen) -> Result<(String, Value), String> {
    let (name, value) = (name_of(bot, handle), serde_json::to_value(seen).unwrap_or_default());
    check_size(&name, &value).map_err(|_| "is known by more than can be kept".to_owned())?;
    Ok((name, value))
}

/// Where it stands what was seen of somebody.
fn name_of(bot: &BotName, handle: &str) -> String {
    format!("{}/{}", bot.as_str().to_ascii_lowercase(), handle.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
