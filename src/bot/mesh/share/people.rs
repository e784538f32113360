//! Between the records here and the facts: what changed here becomes facts, facts of others change the records.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as BASE64_NO_PAD};

use super::{Inner, KEPT, PINS, Shared};
use crate::bot::people::{PeopleError, read_users, row_of};
use crate::bot::policy::Broken;
use crate::mesh::BotName;
use crate::mesh::facts::{About, Change, Fact, Ledger, Letters, Pins, Told, changes, merged};
use crate::store::{FactRow, Sharing, StoreError};
use crate::users::{Book, User};

/// What is known.
#[derive(Default)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) pins: Pins,
    /// The people of the records by handle in lower case, as they were at `revision`.
    pub(super) users: BTreeMap<String, User>,
    pub(super) revision: Option<i64>,
    /// How often something changed.
    pub(super) generation: u64,
}

impl State {
    /// Whether somebody holds more than these letters, so that whoever may give only these must not touch their record. Whom pipelines
    /// name does, with a record or without one yet.
    pub(super) fn is_above(&self, book: &Book, handle: &str, letters: Letters) -> bool {
        book.is_named(handle) || self.users.get(handle).is_some_and(|user| letters.are_below(book, user))
    }

    /// Everybody who does.
    pub(super) fn above(&self, book: &Book, letters: Letters) -> Vec<String> {
        let named = book.named();
        let all = self.users.keys().chain(named.iter()).filter(|handle| self.is_above(book, handle, letters));
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The keys of those by whose word facts are.
    pub(super) fn keys_of(&self, facts: &[Fact]) -> BTreeMap<String, String> {
        let origins: BTreeSet<&String> = facts.iter().map(|fact| &fact.origin).collect();
        let mut keys = self.pins.to_text();
        keys.retain(|origin, _| origins.contains(origin));
        keys
    }

    /// A record without what is another's here: an account or a certificate is one person's only.
    fn without_taken(&self, mut user: User) -> User {
        let others = || self.users.values().filter(|other| !other.handle.eq_ignore_ascii_case(&user.handle));
        let same =
            |one: &(String, String), other: &(String, String)| one.0 == other.0 && one.1.eq_ignore_ascii_case(&other.1);
        let free = |account: &(String, String)| {
            !others().any(|other| other.accounts.iter().any(|theirs| same(theirs, account)))
        };
        let accounts = user.accounts.iter().filter(|account| free(account)).cloned().collect();
        let certs =
            user.certs.iter().filter(|cert| !others().any(|other| other.certs.contains(cert))).cloned().collect();
        (user.accounts, user.certs) = (accounts, certs);
        user
    }
}

impl Shared {
    /// Makes facts of what changed in the records since it was looked last.
    pub(super) async fn absorb(&self, state: &mut State) -> Result<(), StoreError> {
        let store = &self.inner.store;
        loop {
            let revision = store.users_revision().await?;
            if state.revision == Some(revision) {
                return Ok(());
            }
            let users = match read_users(store).await {
                Ok(users) => users,
                Err(PeopleError::Store(fault)) => return Err(fault),
                Err(damaged) => return Err(StoreError::Damaged(damaged.to_string())),
            };
            let users: BTreeMap<String, User> =
                users.into_iter().map(|user| (user.handle.to_ascii_lowercase(), user)).collect();
            let mut handles: BTreeSet<String> = state.ledger.handles("").into_iter().collect();
            handles.extend(users.keys().cloned());
            let changes = handles.iter().flat_map(|handle| changes(&state.ledger, handle, users.get(handle))).collect();
            let facts = state.ledger.sign(&self.inner.key, changes, self.now());
            let sharing = Sharing { facts: facts.iter().map(to_row).collect(), ..Sharing::default() };
            if store.share(revision, &sharing).await?.is_none() {
                continue;
            }
            (state.users, state.revision) = (users, Some(revision));
            return self.know(state, facts).await;
        }
    }

    /// Takes facts that a bot tells, as far as these letters go; gives how many were news.
    pub(super) async fn take(
        &self,
        from: &BotName,
        facts: Vec<Fact>,
        keys: &BTreeMap<String, String>,
        letters: Letters,
    ) -> Result<usize, StoreError> {
        let mut state = self.inner.state.lock().await;
        let state = &mut *state;
        self.pin(state, from, keys).await?;
        let _turn = self.inner.book.turn().await;
        loop {
            self.absorb(state).await?;
            let now = self.now();
            let good = |fact: &&Fact| {
                letters.allow(fact)
                    && fact.is_sane(now)
                    && state.ledger.is_news(fact)
                    && state.pins.vouch(fact)
                    && !state.is_above(&self.inner.book, &fact.handle, letters)
            };
            let good: Vec<Fact> = facts.iter().filter(good).cloned().collect();
            let handles: BTreeSet<String> = good.iter().map(|fact| fact.handle.clone()).collect();
            let mut part = state.ledger.part(handles.iter());
            // What finds no room is told again with the next round.
            let mut good: Vec<Fact> = good.into_iter().filter(|fact| part.take(fact.clone()).is_ok()).collect();
            let mut sharing = Sharing::default();
            let mut after: Vec<(String, Option<User>)> = Vec::new();
            for handle in handles {
                let before = state.users.get(&handle);
                let user = merged(&part, &handle, before).map(|user| state.without_taken(user));
                if let Err(broken) = self.holds(&handle, user.as_ref()) {
                    tracing::error!(%from, handle, %broken, "What another bot tells of somebody is not taken; it is told again");
                    good.retain(|fact| fact.handle != handle);
                    continue;
                }
                match (&user, before) {
                    (Some(user), before) if before != Some(user) => sharing.puts.push(row_of(user)),
                    (None, Some(before)) => sharing.gone.push(before.handle.clone()),
                    _ => continue,
                }
                after.push((handle, user));
            }
            let Some(revision) = state.revision.filter(|_| !good.is_empty()) else { return Ok(0) };
            sharing.facts = good.iter().map(to_row).collect();
            let Some(revision) = self.inner.store.share(revision, &sharing).await? else { continue };
            let count = good.len();
            tracing::info!(%from, facts = count, people = after.len(), "People are shared");
            state.revision = Some(revision);
            self.know(state, good).await?;
            for (handle, user) in after {
                self.settle(state, handle, user);
            }
            return Ok(count);
        }
    }

    /// Whether the policy holds with somebody as they would be.
    fn holds(&self, handle: &str, user: Option<&User>) -> Result<(), Broken> {
        let Some(policy) = self.inner.policy.get() else { return Ok(()) };
        user.map_or_else(|| policy.holds_without(handle, None), |user| policy.holds_for_user(user))
    }

    /// Somebody is another from now on, or gone.
    fn settle(&self, state: &mut State, handle: String, user: Option<User>) {
        let Some(user) = user else {
            self.inner.book.remove(&handle);
            state.users.remove(&handle);
            return;
        };
        if let Err(fault) = self.inner.book.put(user.clone()) {
            tracing::warn!(handle, %fault, "A shared record waits until the records are read again");
        }
        state.users.insert(handle, user);
    }

    async fn know(&self, state: &mut State, facts: Vec<Fact>) -> Result<(), StoreError> {
        if facts.is_empty() {
            return Ok(());
        }
        for fact in facts {
            if let Err(full) = state.ledger.take(fact) {
                tracing::warn!(%full, "A fact of somebody here is told to nobody");
            }
        }
        state.generation += 1;
        self.inner.news.notify_one();
        let dropped = state.ledger.take_dropped();
        let rows = dropped.into_iter().map(|(handle, about, name)| (handle, about.as_str().to_owned(), name));
        self.inner.store.drop_facts(&rows.collect::<Vec<_>>()).await
    }

    /// Takes keys of bots. What stands in the store counts: a key that was forgotten there is forgotten here.
    pub(super) async fn pin(
        &self,
        state: &mut State,
        from: &BotName,
        keys: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let Inner { store, key: own, .. } = &*self.inner;
        let before = state.pins.clone();
        let kept = super::kept_pins(store, self.inner.clock.now()).await?;
        state.pins = kept.clone();
        state.pins.take(own.origin(), &own.public(), Told::Itself);
        for (origin, key) in keys {
            let told = if from.as_str().eq_ignore_ascii_case(origin) { Told::Itself } else { Told::Another };
            let key = BASE64_NO_PAD.decode(key).unwrap_or_default();
            let heard = state.pins.of(origin).is_some_and(|known| known != key);
            if !state.pins.take(origin, &key, told) {
                tracing::warn!(%from, origin, "It names another key of a bot than the one that is known; what that bot tells is not taken from it. If it was set up anew, .botpass {origin} forgets the key that is known, and so does masterchief audit forget {origin}");
            } else if heard {
                tracing::warn!(%from, "It tells another key than others had told of it; its own word counts");
            }
        }
        if state.pins != kept {
            let kept = serde_json::to_value(state.pins.to_kept()).unwrap_or_default();
            store.kv_set(KEPT, PINS, &kept, None).await?;
        }
        let anew = |origin: &&String| state.pins.of(origin).is_some_and(|key| before.of(origin) != Some(key));
        let anew: BTreeSet<String> = keys.keys().filter(anew).cloned().collect();
        if anew.is_empty() { Ok(()) } else { self.vouch_for(state, &anew).await }
    }

    /// What bots told before they had another key nobody else could take any more: from now on it is by our word.
    async fn vouch_for(&self, state: &mut State, origins: &BTreeSet<String>) -> Result<(), StoreError> {
        loop {
            self.absorb(state).await?;
            let stale = |fact: &&Fact| origins.contains(&fact.origin) && !state.pins.vouch(fact);
            let ours = |fact: &Fact| {
                let change = Change { thing: fact.thing(), value: fact.value.clone() };
                self.inner.key.sign(change, fact.version + 1)
            };
            let facts: Vec<Fact> = state.ledger.all().filter(stale).map(ours).collect();
            let Some(revision) = state.revision.filter(|_| !facts.is_empty()) else { return Ok(()) };
            let sharing = Sharing { facts: facts.iter().map(to_row).collect(), ..Sharing::default() };
            if self.inner.store.share(revision, &sharing).await?.is_some() {
                tracing::info!(facts = facts.len(), "What a bot told under another key is told by our word");
                return self.know(state, facts).await;
            }
        }
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.inner.clock.now().timestamp_millis()).unwrap_or(0)
    }
}

fn to_row(fact: &Fact) -> FactRow {
    FactRow {
        handle: fact.handle.clone(),
        about: fact.about.as_str().to_owned(),
        name: fact.name.clone(),
        value: fact.value.clone(),
        version: i64::try_from(fact.version).unwrap_or(i64::MAX),
        origin: fact.origin.clone(),
        signature: BASE64.encode(&fact.signature),
    }
}

/// A fact as it was stored.
pub(super) fn of_row(row: FactRow) -> Option<Fact> {
    Some(Fact {
        handle: row.handle,
        about: About::parse(&row.about)?,
        name: row.name,
        value: row.value,
        version: u64::try_from(row.version).ok()?,
        origin: row.origin,
        signature: BASE64.decode(row.signature).ok()?,
    })
}
