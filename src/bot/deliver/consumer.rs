//! One bind and its cursor. What it is about to handle is noted before, what it has handled after.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Action, Clock, DeliveryOptions, Event, How, OnCrash, Order, Shutdown, Wanted, split_place};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::calls::Calls;
use super::super::words;
use super::parked::{After, Parked, after_failure, behind};
use super::round::{self, Ended, Try};
use crate::dispatch::Bind;
use crate::journal::{Advance, Cursor, DeliveryRow, Journal, JournalError, NewDead, Replay};

/// Events that may wait for a retry before no new ones are begun.
const PARKED_MAX: usize = 1024;
/// Events that are claimed at once at most.
const CLAIM_MAX: usize = 8192;
/// A round that takes less is followed by a bigger one, one that takes longer by a smaller one.
const ROUND: Duration = Duration::from_millis(50);
/// How long to wait after a fault of the journal.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest wait for what is due: the clock may be set.
const LOOK: Duration = Duration::from_secs(30);
/// What does not concern the bind is noted at the latest after so many events.
const SKIPPED_MAX: u64 = 65_536;

/// A bind that reads a stream.
pub(super) struct Consumer {
    /// The same over reloads and restarts: kind, mask and owner.
    pub(super) key: Arc<str>,
    pub(super) wanted: Wanted,
    pub(super) bind: watch::Receiver<Arc<Bind>>,
    pub(super) journal: Journal,
    pub(super) calls: Arc<Calls>,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

/// Where a consumer is.
struct State {
    /// What is durable.
    cursor: Cursor,
    parked: Parked,
    /// Read, wanted, not begun.
    fresh: VecDeque<Event>,
    /// Everything of the stream below is in `fresh` or dealt with.
    read_to: u64,
    /// How many are claimed next.
    size: usize,
    random: RandomState,
    draws: u64,
}

impl State {
    fn draw(&mut self) -> u64 {
        self.draws += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.draws);
        hasher.finish()
    }

    /// Where the straight way has got to: everything below is dealt with, parked or claimed.
    fn front(&self) -> u64 {
        self.fresh.front().map_or(self.read_to, |event| event.id)
    }
}

/// Whether a try that was noted counts even if it never began: then only what begins at once is noted.
fn is_careful(options: &DeliveryOptions) -> bool {
    options.on_crash == OnCrash::Hold || options.max_attempts <= 1
}

/// How many of these begin at once: as many as may run, and of each lane one.
fn at_once<'a>(events: impl Iterator<Item = &'a Event>, options: &DeliveryOptions) -> usize {
    let mut lanes = HashSet::new();
    let together = events.take(options.conc.max(1) as usize);
    together.take_while(|event| options.order == Order::None || lanes.insert(&*event.lane)).count()
}

fn first_try(event: &Event) -> Try {
    Try { event: event.clone(), attempt: 1, redelivered: false, replay: Replay::No }
}

impl Consumer {
    /// Runs until shutdown. `ready` is told once its place in the journal is known.
    pub(super) async fn run(mut self, ready: oneshot::Sender<()>, before: Option<JoinHandle<()>>) {
        if let Some(before) = before {
            // It finishes what it began; two of one bind would handle the same.
            let _ = before.await;
        }
        let Some(mut state) = self.begin().await else { return };
        let mut end = self.journal.follow(&self.wanted.stream);
        // Nobody waits for the place if the bot is going down already.
        let _ = ready.send(());
        let mut changed = self.journal.changed();
        changed.borrow_and_update();
        loop {
            if self.shutdown.is_shutdown() {
                break;
            }
            match self.step(&mut state, &mut end, &mut changed).await {
                Ok(()) => {}
                Err(JournalError::Closed) => return,
                Err(fault) => {
                    tracing::error!(bind = %self.key, %fault, "The journal fails; the bind waits");
                    tokio::select! {
                        () = self.shutdown.recv() => break,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
        let front = state.front();
        // At shutdown there is nobody to tell; what is not noted is done once more.
        let _ = self.journal.advance(self.advance(Cursor { done: front, claimed: front })).await;
        let _ = self.journal.release(&self.key).await;
    }

    /// Finds its place, and what the process that was here before left undone.
    async fn begin(&mut self) -> Option<State> {
        loop {
            match self.place().await {
                Ok(state) => return Some(state),
                Err(JournalError::Closed) => return None,
                Err(fault) => {
                    tracing::error!(bind = %self.key, %fault, "The place of a bind cannot be read from the journal");
                    tokio::select! {
                        () = self.shutdown.recv() => return None,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
    }

    async fn place(&mut self) -> Result<State, JournalError> {
        let bind = self.bind.borrow().clone();
        let (cursor, rows) = self.journal.cursor(bind.kind(), &self.wanted.stream, &self.key).await?;
        let known: HashSet<u64> = rows.iter().map(|row| row.event.id).collect();
        let mut rows = rows;
        let mut at = cursor.done;
        while at < cursor.claimed {
            let chunks = self.journal.read(&self.wanted.stream, at).await?;
            let Some(last) = chunks.last() else { break };
            at = last.end();
            let events = chunks.iter().flat_map(|chunk| &chunk.events);
            let begun = events.filter(|event| (cursor.done..cursor.claimed).contains(&event.id));
            for event in begun.filter(|event| self.wanted.meets(event) && !known.contains(&event.id)) {
                rows.push(DeliveryRow { attempts: 1, crashed: true, ..behind(event.clone(), self.clock.now()) });
            }
        }
        let (parked, dead) = Parked::of(rows, &bind.options.delivery);
        let place = Cursor { done: cursor.claimed, claimed: cursor.claimed };
        let put = parked.all().cloned().collect();
        self.tell_dead(&dead);
        self.journal.advance(Advance { put, dead, ..self.advance(place) }).await?;
        let size = bind.options.delivery.conc as usize;
        let random = RandomState::new();
        Ok(State { cursor: place, parked, fresh: VecDeque::new(), read_to: place.done, size, random, draws: 0 })
    }

    fn advance(&self, cursor: Cursor) -> Advance {
        Advance {
            bind: Arc::clone(&self.key),
            stream: Arc::clone(&self.wanted.stream),
            cursor,
            put: Vec::new(),
            drop: Vec::new(),
            dead: Vec::new(),
        }
    }

    /// One round of what is due, else one of what is new, else a wait.
    async fn step(
        &mut self,
        state: &mut State,
        end: &mut watch::Receiver<u64>,
        changed: &mut watch::Receiver<u64>,
    ) -> Result<(), JournalError> {
        if changed.has_changed().unwrap_or(false) {
            self.look_again(state).await?;
            changed.borrow_and_update();
        }
        let bind = self.bind.borrow_and_update().clone();
        let options = &bind.options.delivery;
        let conc = options.conc.max(1) as usize;
        let due = state.parked.due(options.order, self.clock.now(), conc);
        if !due.is_empty() {
            return self.retry(state, &bind, due).await;
        }
        if state.parked.len() < PARKED_MAX {
            if state.fresh.is_empty() {
                self.read(state, end).await?;
            }
            if !state.fresh.is_empty() {
                return self.claim(state, &bind).await;
            }
            if *end.borrow() > state.read_to {
                return Ok(());
            }
        }
        self.settle(state).await?;
        let wait = match state.parked.next_due(options.order) {
            None => LOOK,
            Some(due) => (due - self.clock.now()).to_std().unwrap_or_default().min(LOOK),
        };
        let room = state.parked.len() < PARKED_MAX;
        tokio::select! {
            () = self.shutdown.recv() => {}
            // The journal is gone when nobody can change it any more.
            more = end.changed(), if room => more.map_err(|_| JournalError::Closed)?,
            more = changed.changed() => { more.map_err(|_| JournalError::Closed)?; changed.mark_changed() }
            _ = self.bind.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
        Ok(())
    }

    /// Somebody outside (an operator) may have changed what waits.
    async fn look_again(&self, state: &mut State) -> Result<(), JournalError> {
        let rows = self.journal.deliveries(&self.key).await?;
        let mut parked = Parked::default();
        rows.into_iter().for_each(|row| parked.put(row));
        state.parked = parked;
        Ok(())
    }

    /// Brings what the stream has.
    async fn read(&self, state: &mut State, end: &mut watch::Receiver<u64>) -> Result<(), JournalError> {
        let to = *end.borrow_and_update();
        if to <= state.read_to {
            return Ok(());
        }
        let chunks = self.journal.read(&self.wanted.stream, state.read_to).await?;
        let from = state.read_to;
        for chunk in &chunks {
            let skip = usize::try_from(from.saturating_sub(chunk.first)).unwrap_or(usize::MAX);
            let new = chunk.events.iter().skip(skip);
            state.fresh.extend(new.filter(|event| self.wanted.meets(event)).cloned());
        }
        // Nothing left on the way to the end: the numbers between belong to other streams.
        state.read_to = chunks.last().map_or(to, |chunk| chunk.end());
        if state.fresh.is_empty() && state.read_to - state.cursor.done > SKIPPED_MAX {
            self.settle(state).await?;
        }
        Ok(())
    }

    /// Notes, soon, that everything so far is dealt with.
    async fn settle(&self, state: &mut State) -> Result<(), JournalError> {
        let front = state.front();
        let place = Cursor { done: front, claimed: front };
        if state.cursor != place {
            state.cursor = place;
            self.journal.advance_soon(self.advance(place)).await?;
        }
        Ok(())
    }

    /// Handles what is new: claims, runs, and notes what did not succeed.
    async fn claim(&self, state: &mut State, bind: &Arc<Bind>) -> Result<(), JournalError> {
        let options = &bind.options.delivery;
        let done = state.front();
        let take = if is_careful(options) {
            at_once(state.fresh.iter(), options)
        } else {
            state.size.clamp(1, CLAIM_MAX).min(state.fresh.len())
        };
        let taken: Vec<Event> = state.fresh.drain(..take).collect();
        let claimed = state.front();
        let now = self.clock.now();
        let mut advance = self.advance(Cursor { done, claimed });
        let mut tries = Vec::with_capacity(taken.len());
        if options.order == Order::Lane && state.parked.len() > 0 {
            let blocked = state.parked.lanes();
            for event in &taken {
                if blocked.contains(&event.lane) {
                    advance.put.push(behind(event.clone(), now));
                } else {
                    tries.push(first_try(event));
                }
            }
        } else {
            tries.extend(taken.iter().map(first_try));
        }
        let put = advance.put.clone();
        if let Err(fault) = self.journal.advance(advance).await {
            // Nothing was begun: the same again later.
            taken.into_iter().rev().for_each(|event| state.fresh.push_front(event));
            return Err(fault);
        }
        drop(taken);
        state.cursor = Cursor { done, claimed };
        put.into_iter().for_each(|row| state.parked.put(row));
        if tries.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let tracks = round::tracks(tries, options.order);
        let limit = self.calls.limit(bind);
        let ended = round::run(&self.calls, bind, &self.shutdown, tracks, options.conc as usize, limit, false).await;
        let took = began.elapsed();
        state.size = match took {
            _ if took < ROUND => (state.size * 2).min(CLAIM_MAX),
            _ if took > ROUND * 4 => (state.size / 2).max(1),
            _ => state.size,
        };
        if ended.iter().all(|ended| ended.failed.is_none() && ended.rest.is_empty()) {
            return Ok(());
        }
        self.note(state, bind, ended, Cursor { done: claimed, claimed }).await
    }

    /// Tries again what is due.
    async fn retry(&self, state: &mut State, bind: &Arc<Bind>, due: Vec<Vec<DeliveryRow>>) -> Result<(), JournalError> {
        let options = &bind.options.delivery;
        let place = Cursor { done: state.front(), claimed: state.front() };
        let (mut put, mut drop) = (Vec::new(), Vec::new());
        let mut tracks = Vec::new();
        for track in due {
            let mut tries = Vec::with_capacity(track.len());
            let most = if is_careful(options) { 1 } else { track.len() };
            for row in track.into_iter().take(most) {
                let attempt = row.attempts + 1;
                if !self.wanted.meets(&row.event) {
                    // A replay of something else of the stream.
                    drop.push(row.event.id);
                    continue;
                }
                tries.push(Try { event: row.event.clone(), attempt, redelivered: row.crashed, replay: row.replay });
                put.push(DeliveryRow { attempts: attempt, crashed: true, ..row });
            }
            tracks.push(tries);
        }
        drop.iter().for_each(|number| state.parked.remove(*number));
        self.journal.advance(Advance { put, drop, ..self.advance(place) }).await?;
        state.cursor = place;
        let ended =
            round::run(&self.calls, bind, &self.shutdown, tracks, options.conc as usize, self.calls.limit(bind), true)
                .await;
        self.note(state, bind, ended, place).await
    }

    /// Notes what came of a round.
    async fn note(
        &self,
        state: &mut State,
        bind: &Arc<Bind>,
        ended: Vec<Ended>,
        place: Cursor,
    ) -> Result<(), JournalError> {
        let now = self.clock.now();
        let mut advance = self.advance(place);
        for track in ended {
            advance.drop.extend(track.done);
            if let Some((one, failure)) = track.failed {
                match after_failure(
                    one.event,
                    one.attempt,
                    one.replay,
                    failure,
                    &bind.options.delivery,
                    now,
                    state.draw(),
                ) {
                    After::Again(row) => advance.put.push(row),
                    After::Dead(dead) => advance.dead.push(dead),
                }
            }
            advance.put.extend(track.rest.into_iter().map(|one| DeliveryRow {
                attempts: one.attempt.saturating_sub(1),
                crashed: one.redelivered,
                replay: one.replay,
                ..behind(one.event, now)
            }));
        }
        for number in &advance.drop {
            state.parked.remove(*number);
        }
        for dead in &advance.dead {
            state.parked.remove(dead.event.id);
        }
        advance.put.iter().for_each(|row| state.parked.put(row.clone()));
        self.tell_dead(&advance.dead);
        state.cursor = place;
        // Until this is durable nothing more is begun; if it fails, it is tried until it does not.
        loop {
            match self.journal.advance(advance.clone()).await {
                Err(JournalError::Failed(fault)) => {
                    tracing::error!(bind = %self.key, %fault, "What came of a round cannot be noted");
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Tells of what is given up.
    fn tell_dead(&self, dead: &[NewDead]) {
        for dead in dead {
            tracing::error!(bind = %self.key, event = dead.event.id, attempts = dead.attempts, reason = %dead.reason, "A dead letter");
            let Some(place) = &self.journal.settings().notify else { continue };
            let (network, target) = split_place(place);
            let text = words::dead_letter(dead.event.id, &self.key, dead.attempts, &dead.reason);
            let (network, target) = (network.to_owned(), target.to_owned());
            let say = Action::Say { network, target, text, how: How::Say, reply: false };
            let outlet = Arc::clone(&self.calls.outlet);
            tokio::spawn(async move {
                if let Err(refused) = outlet.perform(say).await {
                    tracing::warn!(%refused, "A dead letter could not be told");
                }
            });
        }
    }
}
