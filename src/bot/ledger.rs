//! The account of what the bot says: each line has a number and a state, on the disk behind the street's back; a page is there
//! before it is said. Who waits for a receipt hears of it here, and what is secret is hidden here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use masterchief_contract::{Class, Clock, Future, How, Proof, Receipt, Refused, Secret, Shutdown};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::overt::Overt;
use super::seen::Seen;
use crate::executors::Known;
use crate::irc::{Around, Fate, plain};
use crate::store::{SaidChange, SaidGroup, SaidRow, Store, StoreError};

/// How long is waited for more to write, where nobody waits for it.
const GATHER: Duration = Duration::from_millis(20);
/// New lines that may wait to be written; who says more waits.
const DEPTH: usize = 8192;
/// Lines that are kept; older ones that are dealt with are forgotten.
const KEPT: i64 = 100_000;
/// After so many lines it is looked what may be forgotten.
const FORGET_AFTER: i64 = 1000;
/// How long to wait where nothing can be written.
const AGAIN: Duration = Duration::from_secs(1);
/// Lines, and changes of lines, that are kept until they can be written. It is less than what may wait, so that the bot goes on to speak.
const UNWRITTEN_MAX: usize = DEPTH / 2;

/// The states of a line.
pub(super) const QUEUED: &str = "queued";
pub(super) const SENT: &str = "sent";

/// What is learned of a line: its receipt, or why there is none.
type Learned = Result<Receipt, Refused>;
/// Where that comes.
pub(super) type Learning = oneshot::Receiver<Learned>;

/// The account. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub(crate) struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Clock,
    next: AtomicU64,
    pending: Mutex<Pending>,
    /// There is something to write.
    work: Notify,
    /// Somebody waits for it.
    hurry: Notify,
    /// Something was written.
    room: Notify,
    secrets: ArcSwap<Known>,
    /// Lines that could not be written when that was last tried.
    unwritten: AtomicUsize,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Learned>>>,
    /// Makes events of what is said; empty until there is a street.
    overt: OnceLock<Overt>,
    /// Lines that make none.
    hushed: Mutex<BTreeSet<u64>>,
    /// What the process before this one left.
    left: Mutex<Vec<SaidRow>>,
    /// On which networks lines may have left after the process before this one last wrote.
    unsure: BTreeMap<String, bool>,
    /// When something was last said in each channel.
    seen: Seen,
}

#[derive(Default)]
struct Pending {
    group: SaidGroup,
    /// Who waits until it is on the disk.
    urgent: Vec<oneshot::Sender<()>>,
    forgotten_at: i64,
    closed: bool,
}

impl Ledger {
    /// Opens the account and starts its writer, which ends, with everything written, when it is time.
    pub(crate) async fn open(
        store: Store,
        clock: Clock,
        secrets: &[Secret],
        shutdown: Shutdown,
    ) -> Result<(Ledger, JoinHandle<()>), StoreError> {
        let newest = store.said_newest().await?;
        let inner = Inner {
            next: AtomicU64::new(u64::try_from(newest).unwrap_or(0) + 1),
            pending: Mutex::new(Pending { forgotten_at: newest, ..Pending::default() }),
            work: Notify::new(),
            hurry: Notify::new(),
            room: Notify::new(),
            secrets: ArcSwap::from_pointee(Known::new(secrets)),
            unwritten: AtomicUsize::new(0),
            waiting: Mutex::default(),
            overt: OnceLock::new(),
            hushed: Mutex::default(),
            left: Mutex::new(store.said_open().await?),
            unsure: store.said_networks().await?,
            seen: Seen::open(&store, &clock).await?,
            store,
            clock,
        };
        let ledger = Ledger { inner: Arc::new(inner) };
        let (lines, seen) = (ledger.clone(), Arc::clone(&ledger.inner));
        let writer = tokio::spawn(async move {
            tokio::join!(write(lines, shutdown.clone()), seen.seen.keep(shutdown));
        });
        Ok((ledger, writer))
    }

    /// Makes events of what is said from now on.
    pub(crate) fn tell(&self, overt: Overt) {
        // The first and only time.
        let _ = self.inner.overt.set(overt);
    }

    /// Which bind drops a line before it is queued, if one does. The line is put together only if somebody looks at it.
    pub(super) async fn dropped(&self, network: &str, class: Class, line: impl FnOnce() -> String) -> Option<String> {
        let overt = self.inner.overt.get().filter(|overt| overt.is_wanted())?;
        overt.drops(network, class, &self.hide(&line())).await
    }

    /// These lines make no event when they leave.
    pub(super) fn hush(&self, first: u64, lines: usize) {
        let mut hushed = self.inner.hushed.lock().unwrap_or_else(PoisonError::into_inner);
        hushed.extend((first..).take(lines));
    }

    /// Other secrets from now on.
    pub(crate) fn hide_from_now_on(&self, secrets: &[Secret]) {
        self.inner.secrets.store(Arc::new(Known::new(secrets)));
    }

    /// Now, in Unix milliseconds.
    pub(super) fn now(&self) -> i64 {
        self.inner.clock.now().timestamp_millis()
    }

    /// Takes lines in, each as `like` with its own words; the number of the first, those behind it have the numbers that follow.
    /// Ready at once, but for pages, which are on the disk then.
    pub(super) async fn begin(&self, like: &SaidRow, lines: &[&str]) -> u64 {
        loop {
            let room = self.inner.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.pending().group.rows.len() < DEPTH {
                break;
            }
            room.await;
        }
        let first = self.inner.next.fetch_add(lines.len() as u64, Ordering::Relaxed);
        let written = {
            let mut pending = self.pending();
            for (number, text) in (first..).zip(lines) {
                let row = SaidRow { id: number as i64, text: (*text).to_owned(), ..like.clone() };
                pending.group.rows.insert(row.id, row);
            }
            let page = like.class == Class::Page.name() && like.state == QUEUED && !pending.closed;
            page.then(|| pending.wait())
        };
        self.inner.work.notify_one();
        if let Some(written) = written {
            self.inner.hurry.notify_one();
            // Ended without it: the log says why, and it is said all the same.
            let _ = written.await;
        }
        first
    }

    /// Ready once everything that was taken in until now is written.
    pub(super) async fn written(&self) {
        let written = {
            let mut pending = self.pending();
            if pending.closed {
                return;
            }
            pending.wait()
        };
        self.inner.work.notify_one();
        self.inner.hurry.notify_one();
        // Ended without it: nothing more is written.
        let _ = written.await;
    }

    /// What is learned of these lines. To be asked for before they are queued.
    pub(super) fn learn(&self, first: u64, lines: usize) -> Vec<Learning> {
        let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |line| {
            let (to, from) = oneshot::channel();
            waiting.insert(line, to);
            from
        };
        (first..).take(lines).map(one).collect()
    }

    /// The lines were not taken.
    pub(super) fn refused(&self, first: u64, lines: usize, refused: &Refused) {
        let code = refused.code.as_deref().unwrap_or("").to_owned();
        let fate = Fate::Failed { code, reason: refused.message.clone() };
        (first..).take(lines).for_each(|line| self.fate(line, fate.clone()));
    }

    /// What the process before this one left for a network: lines that were certainly not said, and those that may have been.
    pub(super) fn left(&self, network: &str) -> (Vec<SaidRow>, Vec<SaidRow>) {
        let mut left = self.inner.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, others) = std::mem::take(&mut *left).into_iter().partition(|row| row.network == network);
        *left = others;
        let unsure = self.inner.unsure.get(network).copied().unwrap_or(false);
        Vec::into_iter(ours).partition(|row| row.state == QUEUED && !unsure)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines that could not be written when that was last tried.
    pub(super) fn unwritten(&self) -> usize {
        self.inner.unwritten.load(Ordering::Relaxed)
    }

    /// Keeps what could not be written, in front of what has come since; gives how much of the oldest is lost for want of room.
    fn keep(&self, group: SaidGroup) -> usize {
        let mut pending = self.pending();
        pending.group.behind(group);
        let lost = pending.group.cut(UNWRITTEN_MAX);
        self.inner.unwritten.store(pending.group.rows.len() + pending.group.changes.len(), Ordering::Relaxed);
        lost
    }

    /// Lines of networks that are not configured any more are not worth saying for ever: those whose time is over are given up.
    pub(super) fn give_up(&self, configured: &[String]) {
        let now = self.now();
        let over: Vec<SaidRow> = {
            let mut left = self.inner.left.lock().unwrap_or_else(PoisonError::into_inner);
            let stray = |row: &SaidRow| !configured.contains(&row.network);
            let networks: BTreeSet<&str> =
                left.iter().filter(|row| stray(row)).map(|row| row.network.as_str()).collect();
            for network in networks {
                let lines = left.iter().filter(|row| row.network == network).count();
                tracing::warn!(network, lines, "Lines wait for a network that is not configured; they expire");
            }
            let (over, waits) = std::mem::take(&mut *left).into_iter().partition(|row| stray(row) && row.until <= now);
            *left = waits;
            over
        };
        over.iter().for_each(|row| self.fate(row.id as u64, Fate::Expired));
    }

    /// What there is to write, and who waits for it.
    fn take(&self) -> (SaidGroup, Vec<oneshot::Sender<()>>) {
        let newest = self.inner.next.load(Ordering::Relaxed) as i64;
        let mut pending = self.pending();
        let mut group = std::mem::take(&mut pending.group);
        if !group.is_empty() && newest - pending.forgotten_at > FORGET_AFTER {
            pending.forgotten_at = newest;
            group.below = Some(newest - KEPT);
        }
        (group, std::mem::take(&mut pending.urgent))
    }
}

impl Pending {
    fn wait(&mut self) -> oneshot::Receiver<()> {
        let (to, from) = oneshot::channel();
        self.urgent.push(to);
        from
    }
}

/// Writes whatever waits, together.
async fn write(ledger: Ledger, mut shutdown: Shutdown) {
    let mut closing = false;
    loop {
        let (nothing, hurry) = {
            let pending = ledger.pending();
            (pending.group.is_empty() && pending.urgent.is_empty(), !pending.urgent.is_empty())
        };
        if nothing {
            if closing {
                break;
            }
            tokio::select! {
                () = ledger.inner.work.notified() => {}
                () = shutdown.recv() => closing = true,
            }
            continue;
        }
        if !hurry && !closing {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = ledger.inner.hurry.notified() => {}
                () = shutdown.recv() => closing = true,
            }
        }
        let (group, urgent) = ledger.take();
        let written = ledger.inner.store.said(&group).await;
        if let Err(fault) = &written {
            let lost = ledger.keep(group);
            let lines = ledger.unwritten();
            tracing::error!(%fault, lines, lost, "What was said could not be written down; it is tried again");
        } else {
            ledger.inner.unwritten.store(0, Ordering::Relaxed);
        }
        for waits in urgent {
            // Whoever waited may have gone.
            let _ = waits.send(());
        }
        ledger.inner.room.notify_waiters();
        if written.is_err() {
            if closing {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = shutdown.recv() => closing = true,
            }
        }
    }
    let mut pending = ledger.pending();
    pending.closed = true;
    pending.urgent.clear();
}

impl Around for Ledger {
    fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let secrets = self.inner.secrets.load();
        // A colour in its middle keeps a secret from being found, and nobody from reading it.
        if let Cow::Owned(bare) = plain(text)
            && let Cow::Owned(hidden) = secrets.hide(&bare)
        {
            return Cow::Owned(hidden);
        }
        secrets.hide(text)
    }

    fn fate(&self, line: u64, fate: Fate) {
        let now = self.now();
        let mut change = SaidChange { state: SENT.to_owned(), changed: now, ..SaidChange::default() };
        let learned = match fate {
            Fate::Sent => None,
            Fate::Kept => {
                QUEUED.clone_into(&mut change.state);
                None
            }
            Fate::Echoed { msgid } => {
                change.state = "echoed".to_owned();
                change.msgid.clone_from(&msgid);
                Some(Ok((Proof::Echoed, msgid)))
            }
            Fate::Guessed => {
                change.reason = "the server did not refuse it".to_owned();
                Some(Ok((Proof::Guessed, None)))
            }
            Fate::Unknown => {
                change.reason = "the connection was lost before the server could answer".to_owned();
                Some(Err(Refused::new("the connection was lost: nobody knows whether it was said").coded("UNKNOWN")))
            }
            Fate::Failed { code, reason } => {
                change.state = "failed".to_owned();
                change.reason = if code.is_empty() { reason.clone() } else { format!("{reason} ({code})") };
                let refused = Refused::new(format!("it was not said: {}", change.reason));
                Some(Err(if code.is_empty() { refused } else { refused.coded(&code) }))
            }
            Fate::Expired => {
                change.state = "expired".to_owned();
                change.reason = "it waited longer than it was worth saying".to_owned();
                Some(Err(Refused::new(change.reason.clone()).coded("EXPIRED")))
            }
        };
        self.pending().group.changed(line as i64, change);
        self.inner.work.notify_one();
        if let Some(learned) = learned {
            // It is not told of when it leaves, because it does not.
            self.inner.hushed.lock().unwrap_or_else(PoisonError::into_inner).remove(&line);
            let waits = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&line);
            let at = self.inner.clock.now();
            if let Some(waits) = waits {
                // Whoever waited may have gone.
                let _ = waits.send(learned.map(|(proof, msgid)| Receipt { line, proof, msgid, at }));
            }
        }
    }

    fn left(&self, network: &str, line: u64, class: Class, text: &str) {
        let Some(overt) = self.inner.overt.get().filter(|overt| overt.is_wanted()) else { return };
        let hushed = self.inner.hushed.lock().unwrap_or_else(PoisonError::into_inner).remove(&line);
        if !hushed {
            overt.left(network, class, text);
        }
    }

    fn left_at_once(&self, network: &str, text: &str) {
        if let Some(overt) = self.inner.overt.get().filter(|overt| overt.is_wanted()) {
            overt.left_at_once(network, &self.hide(text));
        }
    }

    fn note(&self, network: &str, line: &str) -> u64 {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (head, text) = line.split_once(" :").unwrap_or((line, ""));
        let (command, target) = head.split_once(' ').unwrap_or((head, ""));
        let how = if command == "NOTICE" { How::Notice } else { How::Say };
        let row = SaidRow {
            id: id as i64,
            network: network.to_owned(),
            target: target.to_owned(),
            text: text.to_owned(),
            how: how_name(how).to_owned(),
            class: Class::Reply.name().to_owned(),
            state: SENT.to_owned(),
            at: self.now(),
            until: self.now(),
            changed: self.now(),
            ..SaidRow::default()
        };
        self.pending().group.rows.insert(row.id, row);
        self.inner.work.notify_one();
        id
    }

    fn dialling(&self, network: &str) -> Future<()> {
        let written = {
            let mut pending = self.pending();
            if pending.closed {
                return Box::pin(std::future::ready(()));
            }
            pending.group.networks.insert(network.to_owned(), true);
            pending.wait()
        };
        self.inner.work.notify_one();
        self.inner.hurry.notify_one();
        Box::pin(async move {
            // Ended without it: then nothing is written any more.
            let _ = written.await;
        })
    }

    fn gone(&self, network: &str) {
        self.pending().group.networks.insert(network.to_owned(), false);
        self.inner.work.notify_one();
    }

    fn seen(&self, network: &str) -> BTreeMap<String, DateTime<Utc>> {
        self.inner.seen.of(network)
    }

    fn saw(&self, network: &str, chan: &str, at: DateTime<Utc>) {
        self.inner.seen.saw(network, chan, at);
    }
}

/// As records write it.
pub(super) fn how_name(how: How) -> &'static str {
    match how {
        How::Say => "say",
        How::Notice => "notice",
        How::Act => "act",
    }
}

/// As it was before it was written.
pub(super) fn how_named(name: &str) -> How {
    match name {
        "notice" => How::Notice,
        "act" => How::Act,
        _ => How::Say,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sqlx::{Connection, SqliteConnection};

    use super::*;
    use crate::store::SaidWhich;

    async fn rename(path: &Path, from: &str, to: &str) {
        let mut other = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut other).await.unwrap();
        other.close().await.unwrap();
    }

    async fn until(ledger: &Ledger, nothing: bool) {
        while (ledger.unwritten() == 0) != nothing {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_kept_until_it_can_and_nobody_waits_for_it_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let store = Store::open(&path).await.unwrap();
        let (stop, end) = Shutdown::new();
        let (ledger, writer) = Ledger::open(store.clone(), Clock::system(), &[], end).await.unwrap();
        rename(&path, "said", "away").await;
        let (class, state) = (Class::Page.name().to_owned(), QUEUED.to_owned());
        let like = SaidRow { network: "net".to_owned(), target: "#ops".to_owned(), class, state, ..SaidRow::default() };
        let first = ledger.begin(&like, &["one", "two"]).await;
        until(&ledger, false).await;
        ledger.fate(first, Fate::Sent);
        ledger.fate(first, Fate::Echoed { msgid: Some("m".to_owned()) });
        rename(&path, "away", "said").await;
        until(&ledger, true).await;
        stop.stop();
        writer.await.unwrap();
        let mut states = Vec::new();
        for line in [first, first + 1] {
            let row = store.said_line(&SaidWhich::Number(line as i64)).await.unwrap().unwrap();
            states.push((row.text, row.state, row.msgid));
        }
        let two = ("two".to_owned(), QUEUED.to_owned(), None);
        assert_eq!(states, [("one".to_owned(), "echoed".to_owned(), Some("m".to_owned())), two]);
        store.close().await;
    }

    #[tokio::test]
    async fn lines_of_a_network_that_is_gone_expire() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db")).await.unwrap();
        let clock = Clock::system();
        let now = clock.now().timestamp_millis();
        let row = |id: i64, network: &str, until: i64| {
            let (network, state) = (network.to_owned(), QUEUED.to_owned());
            (id, SaidRow { id, network, state, until, ..SaidRow::default() })
        };
        let rows = [row(1, "gone", now - 1), row(2, "gone", now + 3_600_000), row(3, "net", now - 1)].into();
        store.said(&SaidGroup { rows, ..SaidGroup::default() }).await.unwrap();
        let (stop, end) = Shutdown::new();
        let (ledger, writer) = Ledger::open(store.clone(), clock, &[], end).await.unwrap();
        ledger.give_up(&["net".to_owned()]);
        assert_eq!(ledger.left("net").0.len(), 1, "who is there deals with its own");
        assert_eq!(ledger.left("gone").0.len(), 1, "it may come back in time");
        stop.stop();
        writer.await.unwrap();
        let state = store.said_line(&SaidWhich::Number(1)).await.unwrap().unwrap().state;
        assert_eq!(state, "expired");
        store.close().await;
    }
}
