//! People of an Eggdrop whose user file may be taken: who is new is written down here, and what came since to those who came with it. Nobody
//! is ever removed, and nothing taken away; what was removed here stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use masterchief_contract::Clock;
use serde_json::Value;

use super::people::{PeopleError, read_users, row_of, touched};
use super::policy::Policy;
use crate::mesh::{AskFault, BotName, BotSettings, Gift, Mesh, NETWORK, RecordFault, Take};
use crate::partyline::Party;
use crate::pipelines::words::cut;
use crate::store::{AuditRow, Sharing, Store, StoreError, check_size};
use crate::users::{Book, Claims, EggBot, EggPerson, HANDLE_MAX, PEOPLE_MAX, Seen, User};

/// Under which name it is kept what was seen of whom, among what scripts keep. No script can have it.
const KEPT: &str = "@taken";
/// How many names are told in one line, and how much of them all, in characters.
const NAMED: usize = 10;
const TOLD: usize = 900;
/// How much of what is new of somebody stands in the audit trail, in characters.
const NEW: usize = 4000;
/// Of how many handles it is kept that they were left alone. Of more it is said with a file only.
const ALONE: usize = 10_000;
/// Behind a file in which nobody is known by more than a hostmask: who reads that people have arrived would wait for them to be heard.
const BY_MASK: &str = "by a hostmask alone nobody has more than users.hostmask_flags; `.+host HANDLE NETWORK/ACCOUNT` makes somebody known";
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
        let (said, alone) = (Mutex::default(), Mutex::default());
        Takes { inner: Arc::new(Inner { store, book, clock, party, policy, room: ROOM, mesh, turn, said, alone }) }
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
            return self.keep(from.bot, gift, &plan).await.map(|()| plan).map_err(TakeFault::from);
        }
        for _ in 0..20 {
            let revision = store.users_revision().await?;
            let now = book.apart();
            now.fill(read_users(store).await?);
            let plan = self.judged(from, gift, &now).await?;
            let puts = plan.puts.iter().map(|(user, _)| row_of(user)).collect::<Vec<_>>();
            let kept = plan.seen.iter().map(|(name, seen)| (KEPT.to_owned(), name.clone(), seen.clone())).collect();
            let sharing = Sharing { puts, kept, ..Sharing::default() };
            let nothing = sharing.puts.is_empty() && sharing.kept.is_empty();
            if !nothing && store.share(revision, &sharing).await?.is_none() {
                continue;
            }
            // Who is seen here stands in the audit trail already.
            let kept = self.keep(from.bot, gift, &plan).await;
            book.put_all(&plan.puts.iter().map(|(user, _)| user.clone()).collect::<Vec<_>>());
            return kept.map(|()| plan).map_err(TakeFault::from);
        }
        Err(TakeFault::Busy)
    }

    /// What the policy lets be done: it judges all of it at once, and looks for who breaks it only where somebody does.
    async fn judged(&self, from: &From<'_>, gift: &Gift, book: &Book) -> Result<Plan, StoreError> {
        let mut broken = BTreeMap::new();
        loop {
            let plan = self.plan(from, gift, book, &broken).await?;
            let Some(policy) = self.inner.policy.get() else { return Ok(plan) };
            let users: Vec<User> = plan.puts.iter().map(|(user, _)| user.clone()).collect();
            let holds = |users: &[User]| policy.holds_beside(users).map_err(|broken| broken.to_string());
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
        let given = all.iter().filter(|user| is_given_by(user, from.bot));
        let taken = given.fold(Room::default(), |sum, user| sum.each(Room::of(user), usize::saturating_add));
        let room = self.inner.room.each(taken, usize::saturating_sub);
        let (mut plan, mut claims) = (Plan { room, ..Plan::default() }, Claims::of(book.apart()));
        for person in &gift.people {
            // Who was gone for a moment is given anew.
            let anew = gift.gone.iter().any(|gone| gone.eq_ignore_ascii_case(&person.handle));
            let before = if anew { None } else { self.seen(from.bot, &person.handle).await? };
            let refused = broken.get(&person.handle.to_ascii_lowercase());
            let done = match refused {
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
        let seen_before = before.is_some();
        let seen = Some(&now) != before.as_ref();
        let seen = seen.then(|| kept(from.bot, &person.handle, &now)).transpose()?;
        let news = now.since(&before.unwrap_or_default());
        let old = book.get(&person.handle);
        let (base, (after, more)) = match old.as_deref() {
            None if from.bots.contains(&key) => return Err("is a bot here".to_owned()),
            None if book.is_named(&key) => return Err("is named by pipelines here; make the record here".to_owned()),
            None if seen_before => {
                plan.seen.extend(seen);
                return Err("was removed here".to_owned());
            }
            None => {
                let blank = User { handle: record.handle.clone(), ..User::default() };
                let given_by = Some(from.bot.to_string());
                (blank, (User { given_by, ..record }, Vec::new()))
            }
            Some(user) if !is_given_by(user, from.bot) => {
                plan.seen.extend(seen);
                return Err("is here already".to_owned());
            }
            Some(user) if letters.are_below(book, user) => {
                plan.seen.extend(seen);
                return Err(format!("holds more here than {letters}, or a role, or is named by pipelines"));
            }
            Some(user) => (user.clone(), news.added_to(user)),
        };
        let (after, taken) = claims.granted(&base, after);
        if old.as_deref() != Some(&after) {
            plan.room = plan.room.after(&after, old.as_deref())?;
            let words = Seen::of(&after).since(&Seen::of(&base)).words();
            let words = if words.is_empty() { "nothing but the name".to_owned() } else { words };
            let after = touched(after, old.as_deref(), self.inner.clock.now().timestamp_millis());
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

    /// Writes down what was done, and forgets who is gone.
    async fn keep(&self, bot: &BotName, gift: &Gift, plan: &Plan) -> Result<(), StoreError> {
        let Inner { store, clock, .. } = &*self.inner;
        for (user, words) in &plan.puts {
            self.audit(bot, &user.handle, &format!("from its user file: {}", cut(words, NEW))).await;
        }
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
        let row = AuditRow {
            at: self.inner.clock.now(),
            network: NETWORK.to_owned(),
            actor: bot.to_string(),
            handle: None,
            kind: "users".to_owned(),
            mask: handle.to_owned(),
            action: "changed".to_owned(),
            detail: detail.to_owned(),
        };
        tracing::info!(%bot, handle, detail, "Somebody is taken over from an Eggdrop");
        if let Err(fault) = self.inner.store.audit(&row).await {
            tracing::error!(%fault, ?row, "An audit entry could not be stored");
        }
    }

    /// Tells operators what was taken and what was not.
    fn tell(&self, bot: &BotName, gift: &Gift, plan: &Plan, bots: &[String]) {
        for line in self.lines(bot, gift, plan, bots) {
            tracing::info!(%bot, line, "People of an Eggdrop");
            self.inner.party.log('b', tracing::Level::INFO, &format!("{bot}: {line}"));
        }
    }

    /// Who is left alone and was not told of. A file is told whole, once a link; lines that change them come as fast as they are sent.
    fn left_alone(&self, bot: &BotName, gift: &Gift, plan: &Plan) -> Vec<String> {
        let mut told = self.inner.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = |handle: &str| {
            let room = told.len() < ALONE;
            room && told.insert((bot.clone(), cut(&handle.to_ascii_lowercase(), HANDLE_MAX)))
        };
        let news = plan.alone.iter().filter(|(handle, _)| news(handle) || gift.file.is_some());
        news.map(|(handle, why)| format!("{handle} {why}")).collect()
    }

    fn lines(&self, bot: &BotName, gift: &Gift, plan: &Plan, bots: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        let puts: Vec<String> = plan.puts.iter().map(|(user, words)| format!("{} ({words})", user.handle)).collect();
        let alone = self.left_alone(bot, gift, plan);
        if let Some(masks) = gift.file {
            lines.push(format!(
                "its user file is taken: {} new or with more, {} left alone, {} new bots; left out: {} flags, passwords and the like, {masks} \
                 bans and other masks",
                puts.len(),
                alone.len(),
                bots.len(),
                plan.left,
            ));
            let by_mask = |user: &User| user.accounts.is_empty() && user.certs.is_empty();
            if !puts.is_empty() && plan.puts.iter().all(|(user, _)| by_mask(user)) {
                lines.push(BY_MASK.to_owned());
            }
        }
        for (what, all) in [("taken", &puts), ("left alone", &alone), ("new bots", &bots.to_vec())] {
            if !all.is_empty() {
                lines.push(format!("{what}: {}", named(all)));
            }
        }
        let less: Vec<String> = plan.less.iter().chain(&gift.gone).cloned().collect();
        let first = || self.inner.said.lock().unwrap_or_else(PoisonError::into_inner).insert(bot.clone());
        if !less.is_empty() && first() {
            lines.push(format!("what is removed there stays here, which is said once: {}", named(&less)));
        }
        lines
    }
}

/// Some of them, each in short: it is what others wrote, and is read by people, on IRC line by line.
fn named(all: &[String]) -> String {
    let more = all.len().saturating_sub(NAMED);
    let each = TOLD / all.len().clamp(1, NAMED);
    let some = all.iter().take(NAMED).map(|one| cut(one, each)).collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{some}; and {more} more") } else { some }
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
fn is_given_by(user: &User, bot: &BotName) -> bool {
    user.given_by.as_ref().is_some_and(|by| by.eq_ignore_ascii_case(bot.as_str()))
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
mod tests {
    use std::collections::BTreeSet;

    use masterchief_contract::{Action, Future, Outlet, Refused};

    use super::*;
    use crate::dispatch::BindTable;
    use crate::mesh::facts::Letters;

    struct Nowhere;
    impl Outlet for Nowhere {
        fn perform(&self, _: Action) -> Future<Result<(), Refused>> {
            Box::pin(std::future::ready(Err(Refused::new("nowhere"))))
        }
    }

    fn takes(room: Room) -> Takes {
        let (store, book, clock) = (Store::memory(), Book::new(), Clock::system());
        let party = Party::new("chief", book.clone(), BindTable::new(), Arc::new(Nowhere), clock.clone());
        let mut takes = Takes::new(store, book, clock, party, Arc::default());
        Arc::get_mut(&mut takes.inner).unwrap().room = room;
        takes
    }

    fn person(handle: &str, host: &str) -> EggPerson {
        let (handle, flags, hosts) = (handle.to_owned(), "f".to_owned(), vec![host.to_owned()]);
        EggPerson { handle, flags, hosts, certs: vec!["ab".repeat(32)], ..EggPerson::default() }
    }

    fn gift(people: Vec<EggPerson>) -> Gift {
        Gift { people, ..Gift::default() }
    }

    impl Takes {
        async fn gives(&self, gift: &Gift) -> Plan {
            let (bot, take) = ("HubBot".parse::<BotName>().unwrap(), Take { network: None, letters: letters() });
            self.people(&From { bot: &bot, take: &take, bots: BTreeSet::new() }, gift).await.unwrap()
        }

        async fn removes(&self, handle: &str) {
            assert!(self.inner.store.remove_user(handle).await.unwrap());
            self.inner.book.remove(handle);
        }
    }

    fn letters() -> Letters {
        Letters::parse("f").unwrap()
    }

    #[tokio::test]
    async fn whom_pipelines_name_nobody_brings_and_nobody_changes() {
        let takes = takes(ROOM);
        let book = &takes.inner.book;
        takes.gives(&gift(vec![person("Carol", "*!c@one.example")])).await;
        book.name(&BTreeSet::from(["ana".to_owned(), "carol".to_owned()]));
        let plan =
            takes.gives(&gift(vec![person("Ana", "*!a@evil.example"), person("carol", "*!c@evil.example")])).await;
        assert!(plan.puts.is_empty() && plan.alone.len() == 2, "{:?}", plan.alone);
        assert!(plan.alone.iter().all(|(_, why)| why.contains("named by pipelines")), "{:?}", plan.alone);
        assert!(book.get("ana").is_none() && book.get("carol").unwrap().hosts == ["*!c@one.example"]);
    }

    #[tokio::test]
    async fn however_fast_they_come_and_go_there_only_so_many_are_here() {
        let takes = takes(Room { people: 3, masks: 4, marks: 99 });
        for one in 0..10 {
            let handle = format!("a{one}");
            takes.gives(&gift(vec![person(&handle, &format!("*!{handle}@host.example"))])).await;
            takes.gives(&Gift { gone: vec![handle], ..Gift::default() }).await;
        }
        assert_eq!(read_users(&takes.inner.store).await.unwrap().len(), 3);
        let mut carol = person("a0", "*!x@host.example");
        carol.hosts.push("*!y@host.example".to_owned());
        let plan = takes.gives(&gift(vec![carol])).await;
        assert!(plan.alone.len() == 1 && plan.alone[0].1.contains("no room"), "{:?}", plan.alone);
    }

    #[tokio::test]
    async fn what_people_are_known_by_beside_hostmasks_finds_only_so_much_room_too() {
        let takes = takes(Room { people: 3, masks: 4, marks: 5 });
        let mut carol = person("carol", "*!c@host.example");
        let channels = |count: usize| (0..count).map(|one| (format!("#lab{one}"), "f".to_owned())).collect();
        carol.channels = channels(4);
        assert_eq!(takes.gives(&gift(vec![carol.clone()])).await.puts.len(), 1);
        carol.channels = channels(5);
        let dave = EggPerson { certs: vec!["cd".repeat(32)], ..person("dave", "*!d@host.example") };
        for one in [carol, dave] {
            let plan = takes.gives(&gift(vec![one])).await;
            assert!(plan.puts.is_empty() && plan.alone[0].1.contains("no room"), "{:?}", plan.alone);
        }
    }

    #[tokio::test]
    async fn who_was_written_down_was_seen_in_the_same_breath() {
        let takes = takes(ROOM);
        let dave = gift(vec![person("dave", "*!d@one.example")]);
        // Nothing is done after it that counts: the bot may die there.
        takes.gives(&dave).await;
        takes.removes("dave").await;
        let plan = takes.gives(&dave).await;
        assert_eq!((plan.puts.len(), plan.alone[0].1.as_str()), (0, "was removed here"));
        // Gone there and given anew in one breath, he is given anew.
        let plan = takes.gives(&Gift { gone: vec!["dave".to_owned()], ..dave.clone() }).await;
        assert_eq!(plan.puts.len(), 1);
        takes.removes("dave").await;
        assert_eq!(takes.gives(&dave).await.puts.len(), 0, "and that was seen");
    }

    #[test]
    fn what_others_wrote_is_told_in_short() {
        for many in [1, 2, 9, 10, 20] {
            let all: Vec<String> = (0..many).map(|_| "é".repeat(1 << 20)).collect();
            assert!(named(&all).chars().count() < 950, "{many}");
        }
        assert_eq!(named(&["carol".to_owned()]), "carol");
    }

    #[tokio::test]
    async fn who_is_known_by_masks_alone_is_told_to_be_nobody_yet_and_each_line_is_short() {
        let takes = takes(ROOM);
        let mut carol = person("carol", "*!c@one.example");
        carol.certs.clear();
        let file = |people: Vec<EggPerson>| Gift { file: Some(0), ..gift(people) };
        let told = |gift: &Gift, plan: &Plan| takes.lines(&"HubBot".parse().unwrap(), gift, plan, &[]);
        let masks = file(vec![carol]);
        let plan = takes.gives(&masks).await;
        assert!(told(&masks, &plan).iter().any(|line| line.contains("users.hostmask_flags")), "{plan:?}");
        let certs = file(
            (0..20)
                .map(|one| person(&"é".repeat(5000 + one), "*!x@x.example"))
                .chain([person("dave", "*!d@d.example")])
                .collect(),
        );
        let plan = takes.gives(&certs).await;
        let lines = told(&certs, &plan);
        assert!(!lines.iter().any(|line| line.contains("users.hostmask_flags")), "{lines:?}");
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() < 1000), "{lines:?}");
    }

    #[tokio::test]
    async fn who_is_left_alone_is_told_once_and_with_each_file() {
        let takes = takes(ROOM);
        takes.inner.book.put(User::new("alice").unwrap()).unwrap();
        takes.inner.store.put_user(&row_of(&User::new("alice").unwrap())).await.unwrap();
        let bot = "HubBot".parse().unwrap();
        let mut told = Vec::new();
        for file in [None, None, Some(0), None] {
            for host in ["*!a@one.example", "*!a@two.example"] {
                let gift = Gift { file, ..gift(vec![person("alice", host)]) };
                let plan = takes.gives(&gift).await;
                told.push(takes.lines(&bot, &gift, &plan, &[]).iter().any(|line| line.contains("left alone: alice")));
            }
        }
        assert_eq!(told, [true, false, false, false, true, true, false, false]);
    }

    #[tokio::test]
    async fn whom_nothing_is_given_any_more_gets_nothing() {
        let takes = takes(ROOM);
        let with = |host: &str| gift(vec![person("carol", host)]);
        takes.gives(&with("*!c@one.example")).await;
        let carol = takes.inner.book.get("carol").unwrap();
        assert_eq!(carol.given_by.as_deref(), Some("HubBot"));
        let ours = User { given_by: None, ..User::clone(&carol) };
        takes.inner.store.put_user(&row_of(&ours)).await.unwrap();
        takes.inner.book.put(ours).unwrap();
        let plan = takes.gives(&with("*!c@two.example")).await;
        assert_eq!((plan.puts.len(), plan.alone[0].1.as_str()), (0, "is here already"));
    }

    #[test]
    fn all_are_judged_at_once_and_by_halves_where_somebody_breaks_something() {
        let users: Vec<User> = (0..1000).map(|one| User::new(&format!("a{one}")).unwrap()).collect();
        let judged = |breaks: &dyn Fn(&[User]) -> bool| {
            let count = std::cell::Cell::new(0);
            let holds = |users: &[User]| {
                count.set(count.get() + 1);
                if breaks(users) { Err("no".to_owned()) } else { Ok(()) }
            };
            let refused = refused(&holds, &users);
            (refused.into_iter().map(|(handle, _)| handle).collect::<Vec<_>>(), count.get())
        };
        assert_eq!(judged(&|_| false), (Vec::new(), 1));
        let has = |users: &[User], handle: &str| users.iter().any(|user| user.handle == handle);
        let (refused, count) = judged(&|users: &[User]| has(users, "a700"));
        assert!(refused == ["a700"] && count < 30, "{refused:?} {count}");
        // Two who break it together only: one of the halves stays out.
        let (refused, _) = judged(&|users: &[User]| has(users, "a0") && has(users, "a999"));
        assert_eq!((refused.len(), refused.contains(&"a999".to_owned())), (500, true));
    }
}
