//! One bind and its cursor. What it is about to handle is noted before, what it has handled after.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Clock, Event, Order, Shutdown, Wanted};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::super::calls::Calls;
use super::parked::{Found, Parked, behind};
use super::pool::{Try, Way, tracks};
use super::state::{PATIENCE, State, first_try};
use crate::dispatch::Bind;
use crate::journal::{Advance, Cursor, DeliveryRow, Journal, JournalError};

/// How long to wait after a fault of the journal.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
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

impl Consumer {
    /// Runs until shutdown. `ready` is told once its place in the journal is known.
    pub(super) async fn run(mut self, ready: oneshot::Sender<()>, before: Option<JoinHandle<()>>) {
        if let Some(before) = before {
            // It finishes what it began; two of one bind would handle the same.
            let _ = before.await;
        }
        // The one before may have fallen over while it stood still.
        self.journal.stands_still(&self.key, None);
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
        // At shutdown there is nobody to tell; what is not noted is done once more.
        let _ = self.finish(&mut state).await;
        self.journal.stands_still(&self.key, None);
        let _ = self.journal.release(&self.key).await;
    }

    /// Waits for what is under way. What takes long has a row by then: if nobody waits for its end, it alone is done once more.
    async fn finish(&self, state: &mut State) -> Result<(), JournalError> {
        let bind = self.bind.borrow().clone();
        loop {
            let until = Instant::now() + PATIENCE;
            while let Ok(Some(ended)) = timeout_at(until, state.pool.next()).await {
                state.took(ended);
            }
            self.note(state, &bind).await?;
            match state.pool.next().await {
                None => return Ok(()),
                Some(ended) => state.took(ended),
            }
        }
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
        let Found { parked, dead, held } = Found::of(rows, &bind.options.delivery);
        let place = Cursor { done: cursor.claimed, claimed: cursor.claimed };
        let put = parked.all().cloned().collect();
        self.journal.advance(Advance { put, dead: dead.clone(), ..self.advance(place) }).await?;
        self.tell_dead(&dead);
        self.tell_held(&held);
        Ok(State::new(place, parked, bind.options.delivery.conc as usize, (&self.calls, &self.shutdown)))
    }

    pub(super) fn advance(&self, cursor: Cursor) -> Advance {
        Advance {
            bind: Arc::clone(&self.key),
            stream: Arc::clone(&self.wanted.stream),
            cursor,
            put: Vec::new(),
            drop: Vec::new(),
            dead: Vec::new(),
        }
    }

    /// A round goes on; else what came of it is noted; else one of what is due begins, else one of what is new; else a wait.
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
        if state.is_young() {
            state.go_on().await;
        }
        self.tell_full(state);
        let bind = self.bind.borrow_and_update().clone();
        let options = &bind.options.delivery;
        let free = state.pool.free(options.conc.max(1) as usize);
        let busy = state.pool.busy();
        let due = match free {
            0 => Vec::new(),
            _ => state.parked.due(options.order, self.clock.now(), &busy, (free, state.run(options))),
        };
        let room = free > 0 && !state.parked.is_full();
        if room && due.is_empty() && state.wants_more(options.order) {
            self.read(state, end).await?;
        }
        let fresh = room && state.others_wait(options.order);
        if !state.ended.is_empty() || !due.is_empty() || fresh {
            return match state.pool.is_straight() {
                true if !state.is_slow() => self.wait(state, (end, changed), (false, PATIENCE / 4)).await,
                _ if state.pool.is_straight() || !state.ended.is_empty() => self.note(state, &bind).await,
                _ if !due.is_empty() => self.retry(state, &bind, due).await,
                _ => self.claim(state, &bind, free).await,
            };
        }
        let room = room && state.wants_more(options.order);
        if room && *end.borrow() > state.read_to {
            return Ok(());
        }
        self.settle(state).await?;
        let next = if free > 0 { state.parked.next_due(options.order, &busy) } else { None };
        let look = state.look();
        let wait = next.map_or(look, |due| (due - self.clock.now()).to_std().unwrap_or_default().min(look));
        self.wait(state, (end, changed), (room, wait)).await
    }

    /// Waits for whatever comes first. `room` says whether more events are of use.
    async fn wait(
        &mut self,
        state: &mut State,
        (end, changed): (&mut watch::Receiver<u64>, &mut watch::Receiver<u64>),
        (room, wait): (bool, Duration),
    ) -> Result<(), JournalError> {
        tokio::select! {
            () = self.shutdown.recv() => {}
            Some(ended) = state.pool.next(), if !state.pool.is_empty() => state.took(ended),
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
        state.ahead = if state.fresh.is_empty() { 0 } else { state.ahead + 1 };
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
        let place = state.place();
        if state.cursor != place {
            state.cursor = place;
            self.journal.advance_soon(self.advance(place)).await?;
        }
        Ok(())
    }

    fn way(&self, bind: &Arc<Bind>) -> Way {
        let conc = bind.options.delivery.conc.max(1) as usize;
        Way { bind: Arc::clone(bind), limit: self.calls.limit(bind), conc }
    }

    /// Begins what is new: claims it first.
    async fn claim(&self, state: &mut State, bind: &Arc<Bind>, free: usize) -> Result<(), JournalError> {
        let options = &bind.options.delivery;
        let done = state.front();
        let take = state.take(options, free);
        let taken: Vec<Event> = state.fresh.drain(..take).collect();
        let claimed = state.front();
        state.ahead = 0;
        let now = self.clock.now();
        let mut advance = self.advance(Cursor { done, claimed });
        let mut tries = Vec::with_capacity(taken.len());
        for event in &taken {
            if options.order == Order::Lane && state.parked.blocks(&event.lane) {
                advance.put.push(behind(event.clone(), now));
            } else {
                tries.push(first_try(event));
            }
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
        if !tries.is_empty() {
            state.begin(self.way(bind), tracks(tries, options.order), false);
        }
        Ok(())
    }

    /// Tries again what is due.
    async fn retry(&self, state: &mut State, bind: &Arc<Bind>, due: Vec<Vec<DeliveryRow>>) -> Result<(), JournalError> {
        let place = state.place();
        let (mut put, mut drop) = (Vec::new(), Vec::new());
        let mut tracks = Vec::new();
        for track in due {
            let mut tries = Vec::with_capacity(track.len());
            for row in track {
                let attempt = row.attempts + 1;
                if !self.wanted.meets(&row.event) {
                    // A replay of something else of the stream.
                    drop.push(row.event.id);
                    continue;
                }
                tries.push(Try { event: row.event.clone(), attempt, redelivered: row.crashed, replay: row.replay });
                put.push(DeliveryRow { attempts: attempt, crashed: true, ..row });
            }
            if !tries.is_empty() {
                tracks.push(tries);
            }
        }
        self.journal.advance(Advance { put, drop: drop.clone(), ..self.advance(place) }).await?;
        drop.iter().for_each(|number| state.parked.remove(*number));
        state.cursor = place;
        if !tracks.is_empty() {
            state.begin(self.way(bind), tracks, true);
        }
        Ok(())
    }
}
