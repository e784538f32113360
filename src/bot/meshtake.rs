//! People of an Eggdrop whose user file may be taken: who is new is written down here, and what came since to those who came with it. Nobody
//! is ever removed, and nothing taken away; what was removed here stays so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use masterchief_contract::Clock;

use super::people::{PeopleError, read_users, row_of, touched};
use super::policy::Policy;
use crate::mesh::{BotName, BotSettings, Gift, Mesh, NETWORK, Take};
use crate::partyline::Party;
use crate::store::{AuditRow, Sharing, Store, StoreError};
use crate::users::{Book, Claims, EggBot, EggPerson, PEOPLE_MAX, Seen, User};

/// Under which name it is kept what was seen of whom, among what scripts keep. No script can have it.
const KEPT: &str = "@taken";
/// How many names are told in one line.
const NAMED: usize = 10;

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
    mesh: OnceLock<Mesh>,
    /// One gift after the other.
    turn: tokio::sync::Mutex<()>,
    /// Of which bots it was said that what they remove stays here.
    said: Mutex<BTreeSet<BotName>>,
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

/// What becomes of a gift.
#[derive(Default)]
struct Plan {
    /// Who is written, with what is new of them in words.
    puts: Vec<(User, String)>,
    /// What is seen from now on, by handle in lower case.
    seen: Vec<(String, Seen)>,
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

impl Takes {
    pub(super) fn new(store: Store, book: Book, clock: Clock, party: Party, policy: Arc<OnceLock<Policy>>) -> Takes {
        let (mesh, turn, said) = (OnceLock::new(), tokio::sync::Mutex::default(), Mutex::default());
        Takes { inner: Arc::new(Inner { store, book, clock, party, policy, mesh, turn, said }) }
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

    /// Writes people down, all at once, unless somebody else changes them meanwhile: then it is looked again.
    async fn people(&self, from: &From<'_>, gift: &Gift) -> Result<Plan, TakeFault> {
        let Inner { store, book, .. } = &*self.inner;
        for _ in 0..20 {
            let revision = store.users_revision().await?;
            let now = book.apart();
            now.fill(read_users(store).await?);
            let plan = self.plan(from, gift, &now).await?;
            let puts = plan.puts.iter().map(|(user, _)| row_of(user)).collect::<Vec<_>>();
            if !puts.is_empty() && store.share(revision, &Sharing { puts, ..Sharing::default() }).await?.is_none() {
                continue;
            }
            book.put_all(&plan.puts.iter().map(|(user, _)| user.clone()).collect::<Vec<_>>());
            self.keep(from.bot, gift, &plan).await?;
            return Ok(plan);
        }
        Err(TakeFault::Busy)
    }

    async fn plan(&self, from: &From<'_>, gift: &Gift, book: &Book) -> Result<Plan, StoreError> {
        let (mut plan, mut claims) = (Plan::default(), Claims::of(book.apart()));
        for person in &gift.people {
            let before = self.seen(from.bot, &person.handle).await?;
            if let Err(why) = self.person(from, person, before, book, &mut claims, &mut plan) {
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
        let news = now.since(&before.unwrap_or_default());
        let old = book.get(&person.handle);
        let seen = (key.clone(), now);
        let (base, (after, more)) = match old.as_deref() {
            None if from.bots.contains(&key) => return Err("is a bot here".to_owned()),
            None if seen_before => {
                plan.seen.push(seen);
                return Err("was removed here".to_owned());
            }
            None => {
                let blank = User { handle: record.handle.clone(), ..User::default() };
                let given_by = Some(from.bot.to_string());
                (blank, (User { given_by, ..record }, Vec::new()))
            }
            Some(user) if !user.given_by.as_ref().is_some_and(|by| by.eq_ignore_ascii_case(from.bot.as_str())) => {
                plan.seen.push(seen);
                return Err("is here already".to_owned());
            }
            Some(user) if letters.are_below(book.stands(&user.handle), user) => {
                plan.seen.push(seen);
                return Err(format!("holds more here than {letters}, or a role"));
            }
            Some(user) => (user.clone(), news.added_to(user)),
        };
        let (after, taken) = claims.granted(&base, after);
        if old.as_deref() != Some(&after) {
            let policy = self.inner.policy.get().map(|policy| policy.holds_for_user(&after));
            policy.unwrap_or(Ok(())).map_err(|broken| broken.to_string())?;
            let words = Seen::of(&after).since(&Seen::of(&base)).words();
            let words = if words.is_empty() { "nothing but the name".to_owned() } else { words };
            let after = touched(after, old.as_deref(), self.inner.clock.now().timestamp_millis());
            plan.puts.push((after, words));
        }
        plan.left += if old.is_none() { left.len() } else { 0 } + more.len() + taken.len();
        plan.seen.push(seen);
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
            match mesh.put_bot(&name, BotSettings::of_eggdrop(bot)).await {
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

    /// Writes down what was seen, and what was done.
    async fn keep(&self, bot: &BotName, gift: &Gift, plan: &Plan) -> Result<(), StoreError> {
        let Inner { store, clock, .. } = &*self.inner;
        for (user, words) in &plan.puts {
            self.audit(bot, &user.handle, &format!("from its user file: {words}")).await;
        }
        for (handle, seen) in &plan.seen {
            if self.seen(bot, handle).await?.as_ref() != Some(seen) {
                let seen = serde_json::to_value(seen).unwrap_or_default();
                store.kv_set(KEPT, &name_of(bot, handle), &seen, None).await?;
            }
        }
        for handle in &gift.gone {
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
        let mut lines = Vec::new();
        let puts: Vec<String> = plan.puts.iter().map(|(user, words)| format!("{} ({words})", user.handle)).collect();
        let alone: Vec<String> = plan.alone.iter().map(|(handle, why)| format!("{handle} {why}")).collect();
        if let Some(masks) = gift.file {
            lines.push(format!(
                "its user file is taken: {} new or with more, {} left alone, {} new bots; left out: {} flags, passwords and the like, {masks} \
                 bans and other masks",
                puts.len(),
                alone.len(),
                bots.len(),
                plan.left,
            ));
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
        for line in lines {
            tracing::info!(%bot, line, "People of an Eggdrop");
            self.inner.party.log('b', tracing::Level::INFO, &format!("{bot}: {line}"));
        }
    }
}

/// Some of them.
fn named(all: &[String]) -> String {
    let more = all.len().saturating_sub(NAMED);
    let some = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{some}; and {more} more") } else { some }
}

/// Where it stands what was seen of somebody.
fn name_of(bot: &BotName, handle: &str) -> String {
    format!("{}/{}", bot.as_str().to_ascii_lowercase(), handle.to_ascii_lowercase())
}
