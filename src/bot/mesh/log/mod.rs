//! The incident log in the mesh: each bot has a log of its own, a chain of hashes, and tells its lines, signed, to those that it shares
//! people with. They keep them under its name and tell them on. What was told once cannot be changed or cut off unseen any more, by
//! nobody: whoever knows a line knows, by its hash, all lines before it.

mod chain;
mod rounds;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use masterchief_contract::{Clock, Shutdown};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::share::Shared;
use crate::mesh::{BotName, Call, Mesh};
use crate::partyline::Party;
use crate::pipelines::{Pipelines, Tampered};
use crate::store::{Anchor, Store, ToldRow};

use chain::{Follows, Heads, Line, follows, is_signed, words};

pub(crate) use verify::{forget_told, verify_told};

/// Under which name it stands among what scripts keep that a log is not as it was. No script can have it.
const FAULTS: &str = "@log";
/// Bytes of lines in one call, before it is put into frames.
const BYTES: usize = 30_000;
/// Lines that are read at once.
const PAGE: u32 = 200;
/// Lines of a bot that are told to somebody who knows none of them: the newest.
const FIRST: i64 = 2000;
/// Bytes that are kept of each bot; older lines go.
const KEEP: usize = 2 << 20;
/// Bots whose lines are kept.
const BOTS: usize = 64;
/// A bot that says that its log is shorter than what is known of it may have been overtaken by news of itself on the way; one that
/// says so again, so much later, was not.
const AGAIN: Duration = Duration::from_secs(5);

/// What one bot asks another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Asking {
    /// So far I know each log, and yours to this line: what do you know more?
    Heads {
        heads: BTreeMap<String, (i64, String)>,
        #[serde(default)]
        yours: Option<Line>,
    },
    /// Here are lines.
    Lines { lines: Vec<Line>, keys: BTreeMap<String, String> },
}

/// What is answered.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    /// So far I know each log.
    #[serde(default)]
    heads: BTreeMap<String, (i64, String)>,
    /// The newest line that is known of the log of who asks.
    #[serde(default)]
    yours: Option<Line>,
    #[serde(default)]
    lines: Vec<Line>,
    #[serde(default)]
    keys: BTreeMap<String, String>,
    /// There is more than fits.
    #[serde(default)]
    more: bool,
    /// How many of your lines were news.
    #[serde(default)]
    taken: usize,
}

/// Lines that are to be told, and whether there are more.
#[derive(Default)]
struct Telling {
    lines: Vec<Line>,
    bytes: usize,
    more: bool,
}

/// What the logs stand on.
pub(super) struct Ground {
    pub(super) mesh: Mesh,
    pub(super) shared: Shared,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) pipelines: Pipelines,
    pub(super) party: Party,
}

/// The incident logs of the mesh. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Logs {
    inner: Arc<Inner>,
}

struct Inner {
    ground: Ground,
    /// One takes lines at a time: what is written goes by what is known.
    taking: Mutex<()>,
    /// Bots that said that their log is shorter than this, and when.
    doubts: Mutex<BTreeMap<String, (i64, Instant)>>,
    /// Bots that said of our own log what nobody can prove; each is told of once.
    liars: Mutex<BTreeSet<String>>,
    /// How often lines came.
    generation: AtomicU64,
    news: Notify,
}

impl Logs {
    /// Begins to tell; gives the task, which ends with `shutdown`.
    pub(super) fn open(ground: Ground, shutdown: Shutdown) -> (Logs, JoinHandle<()>) {
        let (taking, doubts, liars) = (Mutex::default(), Mutex::default(), Mutex::default());
        let inner = Inner { ground, taking, doubts, liars, generation: AtomicU64::new(0), news: Notify::new() };
        let logs = Logs { inner: Arc::new(inner) };
        let task = tokio::spawn(logs.clone().tell(shutdown));
        (logs, task)
    }

    /// Answers a bot that asks.
    pub(super) async fn answer(&self, call: &Call) -> Result<String, String> {
        if !self.inner.ground.shared.shares_with(&call.from) {
            return Err(format!("nothing is shared with {} here", call.from));
        }
        if !call.proven {
            return Err(format!("a bot that is not trusted stands between {} and here", call.from));
        }
        let asking: Asking = serde_json::from_str(&call.data).map_err(|fault| fault.to_string())?;
        let answer = match asking {
            Asking::Heads { heads, yours } => {
                let heads = of_wire(heads);
                self.compare(&call.from, &heads, yours).await.map_err(inside)?;
                let telling = self.telling(&call.from, &heads).await.map_err(inside)?;
                let (heads, keys) = (to_wire(self.heads().await.map_err(inside)?), self.keys(&telling.lines).await);
                let yours = self.newest_of(&call.from).await.map_err(inside)?;
                Answer { heads, yours, keys, lines: telling.lines, more: telling.more, taken: 0 }
            }
            Asking::Lines { lines, keys } => {
                let taken = self.take(&call.from, lines, &keys).await.map_err(inside)?;
                Answer { taken, ..Answer::default() }
            }
        };
        serde_json::to_string(&answer).map_err(|fault| fault.to_string())
    }

    fn me(&self) -> String {
        self.inner.ground.mesh.name().as_str().to_ascii_lowercase()
    }

    /// The newest line of each log that is known here, our own among them.
    async fn heads(&self) -> Result<Heads, String> {
        let Ground { store, pipelines, .. } = &self.inner.ground;
        let mut heads = store.told_heads().await.map_err(text)?;
        let own = pipelines.records().incidents(None, i64::MIN, 1).await.map_err(text)?;
        heads.extend(own.into_iter().map(|row| (self.me(), Anchor { id: row.id, hash: row.hash })));
        Ok(heads)
    }

    /// The newest line that is known here of a bot's own log: with its signature, that bot can see that it is one of its own.
    async fn newest_of(&self, bot: &BotName) -> Result<Option<Line>, String> {
        let (store, origin) = (&self.inner.ground.store, bot.as_str().to_ascii_lowercase());
        let Some(head) = store.told_heads().await.map_err(text)?.remove(&origin) else { return Ok(None) };
        Ok(store.told_from(&origin, head.id, 1).await.map_err(text)?.pop().map(Line::of))
    }

    /// What is known here and not there, of all logs but that bot's own.
    async fn telling(&self, to: &BotName, theirs: &Heads) -> Result<Telling, String> {
        let mut telling = Telling::default();
        for (origin, head) in self.heads().await? {
            if origin.eq_ignore_ascii_case(to.as_str()) {
                continue;
            }
            let after = theirs.get(&origin);
            if after.is_some_and(|after| after.id >= head.id) {
                continue;
            }
            // With the line that is known there, to see whether it is the same here.
            let from = after.map_or((head.id - FIRST + 1).max(1), |after| after.id);
            let rows = self.rows(&origin, from).await?;
            telling.more |= rows.len() == PAGE as usize;
            let same = after.is_none_or(|after| rows.first().is_some_and(|first| first.anchor() == *after));
            // Of our own log they are shown that it is another; others judge their own.
            let most = if same { usize::MAX } else { usize::from(origin == self.me()) };
            for told in rows.into_iter().skip(usize::from(after.is_some())).take(most) {
                let line = Line::of(told);
                telling.bytes += line.bytes();
                if telling.bytes > BYTES {
                    telling.more = true;
                    return Ok(telling);
                }
                telling.lines.push(line);
            }
        }
        Ok(telling)
    }

    /// Lines of a log from a number on.
    async fn rows(&self, origin: &str, from: i64) -> Result<Vec<ToldRow>, String> {
        let Ground { store, pipelines, shared, .. } = &self.inner.ground;
        if origin != self.me() {
            return store.told_from(origin, from, PAGE).await.map_err(text);
        }
        let rows = pipelines.records().incidents_from(from, PAGE).await.map_err(text)?;
        let told = |row: crate::store::runs::IncidentRow| {
            let signature = shared.sign(&words(origin, &row.hash));
            ToldRow { origin: origin.to_owned(), row, signature }
        };
        Ok(rows.into_iter().map(told).collect())
    }

    /// The keys of those whose lines these are.
    async fn keys(&self, lines: &[Line]) -> BTreeMap<String, String> {
        let origins: BTreeSet<&String> = lines.iter().map(|line| &line.origin).collect();
        let mut keys = self.inner.ground.shared.pins().await.to_text();
        keys.retain(|origin, _| origins.contains(origin));
        keys
    }

    /// Takes lines that a bot tells; gives how many were news.
    async fn take(&self, from: &BotName, lines: Vec<Line>, keys: &BTreeMap<String, String>) -> Result<usize, String> {
        if lines.is_empty() {
            return Ok(0);
        }
        let Ground { store, shared, .. } = &self.inner.ground;
        let _one = self.inner.taking.lock().await;
        shared.take_keys(from, keys).await.map_err(text)?;
        let (pins, me) = (shared.pins().await, self.me());
        let mut heads = store.told_heads().await.map_err(text)?;
        let mut good = Vec::new();
        for told in lines.into_iter().filter_map(Line::read) {
            let room = heads.len() < BOTS || heads.contains_key(&told.origin);
            if told.origin == me || !room || !is_signed(&pins, &told) {
                continue;
            }
            match follows(heads.get(&told.origin), &told.row) {
                Follows::Next => {
                    heads.insert(told.origin.clone(), told.anchor());
                    good.push(told);
                }
                // It is told again, from where we are.
                Follows::Known | Follows::Later => {}
                Follows::Not(tampered) => self.wrong(&told.origin, &tampered.to_string()).await,
            }
        }
        if !good.is_empty() {
            store.put_told(&good, KEEP).await.map_err(text)?;
            tracing::debug!(%from, lines = good.len(), "Lines of incident logs came");
            self.inner.generation.fetch_add(1, Ordering::Relaxed);
            self.inner.news.notify_one();
        }
        Ok(good.len())
    }

    /// What a bot says of its own log has to agree with what is known of it, and what it knows of ours with ours.
    async fn compare(&self, from: &BotName, theirs: &Heads, ours: Option<Line>) -> Result<(), String> {
        let Ground { store, pipelines, .. } = &self.inner.ground;
        let (me, origin) = (self.me(), from.as_str().to_ascii_lowercase());
        if let Some(known) = theirs.get(&me) {
            let own = pipelines.records().incident(known.id).await.map_err(text)?;
            if own.is_none_or(|own| own.hash != known.hash) {
                self.is_not_here(from, known, ours).await;
            }
        }
        let Some(known) = store.told_heads().await.map_err(text)?.remove(&origin) else { return Ok(()) };
        let said = theirs.get(&origin);
        if said.is_some_and(|said| said.id == known.id && said.hash != known.hash) {
            self.wrong(&origin, &Tampered::Line(known.id).to_string()).await;
        }
        let said = said.map_or(0, |said| said.id);
        let mut doubts = self.inner.doubts.lock().await;
        if said >= known.id {
            doubts.remove(&origin);
            return Ok(());
        }
        let (before, since) = *doubts.entry(origin.clone()).or_insert((known.id, Instant::now()));
        drop(doubts);
        if said < before && since.elapsed() >= AGAIN {
            self.wrong(&origin, &Tampered::Cut { kept: said, known: before }.to_string()).await;
        }
        Ok(())
    }

    /// A bot knows a line of our own log that is not here. Only if we have signed it was it ever here: anybody could say so.
    async fn is_not_here(&self, from: &BotName, known: &Anchor, ours: Option<Line>) {
        let Ground { shared, party, .. } = &self.inner.ground;
        let (me, pins) = (self.me(), shared.pins().await);
        let is_ours = |told: &ToldRow| told.origin == me && told.anchor() == *known && is_signed(&pins, told);
        if ours.and_then(Line::read).as_ref().is_some_and(is_ours) {
            let why = format!("L-{} is not here as {from} was told it: it was changed, or cut off", known.id);
            return self.wrong(&me, &why).await;
        }
        if self.inner.liars.lock().await.insert(from.as_str().to_ascii_lowercase()) {
            let why = format!("{from} speaks of an L-{} of this bot's incident log, and cannot prove it", known.id);
            tracing::warn!(bot = %from, line = known.id, "A bot speaks of a line of our own incident log that is not here, and cannot prove it");
            party.log('b', tracing::Level::WARN, &why);
        }
    }

    /// A log is not what it was. Once is enough: what is known stays, and nothing is taken in its place.
    async fn wrong(&self, origin: &str, why: &str) {
        let Ground { store, clock, party, .. } = &self.inner.ground;
        match store.kv_get(FAULTS, origin, clock.now()).await {
            Ok(None) => {}
            Ok(Some(_)) => return,
            Err(fault) => {
                return tracing::error!(origin, why, %fault, "An incident log was changed, and that cannot be kept");
            }
        }
        if let Err(fault) = store.kv_set(FAULTS, origin, &why.into(), None).await {
            tracing::error!(%fault, "It cannot be kept that an incident log was changed");
        }
        tracing::error!(origin, why, "An incident log was changed; masterchief audit verify tells of it");
        party.log('b', tracing::Level::ERROR, &format!("the incident log of {origin}: {why}"));
    }
}

fn of_wire(heads: BTreeMap<String, (i64, String)>) -> Heads {
    heads.into_iter().map(|(origin, (id, hash))| (origin, Anchor { id, hash })).collect()
}

fn to_wire(heads: Heads) -> BTreeMap<String, (i64, String)> {
    heads.into_iter().map(|(origin, head)| (origin, (head.id, head.hash))).collect()
}

fn text(fault: impl std::fmt::Display) -> String {
    fault.to_string()
}

/// What another bot is told of a fault of our records.
fn inside(fault: String) -> String {
    tracing::error!(fault, "Incident logs cannot be read or written");
    "its records fail; its log says why".to_owned()
}
