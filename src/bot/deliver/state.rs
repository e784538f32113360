//! Where a consumer is: what it has read, what waits, what is under way.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{DeliveryOptions, Event, OnCrash, Order, Shutdown};
use tokio::time::Instant;

use super::super::calls::Calls;
use super::parked::Parked;
use super::pool::{Ended, Pool, Try, Way};
use crate::journal::{Cursor, Replay};

/// Events that are claimed at once at most.
const CLAIM_MAX: usize = 8192;
/// A round that takes less is followed by a bigger one, one that takes twice as long by a smaller one.
const ROUND: Duration = Duration::from_millis(50);
/// How much bigger at most.
const GROWTH: f64 = 8.0;
/// So long others wait for what is left of a round. What then still runs gets a row, and the next round begins.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// So long they wait for lanes in which one event after the other is done with.
const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// Events of one lane that are tried in one round at most, once what held them up is gone.
const RUN: usize = 256;
/// Reads while nothing can be claimed, to find something that need not wait.
const AHEAD: u32 = 16;

/// The longest wait for what is due: the clock may be set.
const LOOK: Duration = Duration::from_secs(30);
/// Nothing gets on for so long before it is told that nothing new is begun.
const STILL: Duration = Duration::from_secs(2);

/// A round that was begun.
struct Round {
    began: Instant,
    /// How many of its events were handled.
    handled: usize,
    /// Whether they are new.
    new: bool,
}

pub(super) struct State {
    /// What is durable.
    pub(super) cursor: Cursor,
    pub(super) parked: Parked,
    /// Read, wanted, not begun.
    pub(super) fresh: VecDeque<Event>,
    /// Everything of the stream below is in `fresh` or dealt with.
    pub(super) read_to: u64,
    /// How often more was read though something was there.
    pub(super) ahead: u32,
    pub(super) pool: Pool,
    /// What came of tracks and is not noted yet.
    pub(super) ended: Vec<Ended>,
    /// Whether it was told that nothing new is begun.
    pub(super) told_full: bool,
    /// While so much waits that nothing new is begun: how much at least, and since when.
    still: Option<(usize, Instant)>,
    /// The newest round, until its size is learned from.
    round: Option<Round>,
    /// How many are claimed next.
    size: usize,
    random: RandomState,
    draws: u64,
}

impl State {
    pub(super) fn new(
        cursor: Cursor,
        parked: Parked,
        size: usize,
        (calls, shutdown): (&Arc<Calls>, &Shutdown),
    ) -> State {
        State {
            cursor,
            parked,
            fresh: VecDeque::new(),
            read_to: cursor.done,
            ahead: 0,
            pool: Pool::new(calls, shutdown),
            ended: Vec::new(),
            told_full: false,
            still: None,
            round: None,
            size,
            random: RandomState::new(),
            draws: 0,
        }
    }

    /// Whether so much waits, and for a while already none of it was done with. What was under way when the process died is much, and
    /// goes on at once.
    pub(super) fn stands_still(&mut self) -> bool {
        let waiting = self.parked.len();
        if !self.parked.is_full() {
            self.still = None;
            return false;
        }
        let (least, since) = self.still.get_or_insert_with(|| (waiting, Instant::now()));
        if waiting < *least {
            (*least, *since) = (waiting, Instant::now());
        }
        since.elapsed() >= STILL
    }

    /// When it is looked again at the latest.
    pub(super) fn look(&self) -> Duration {
        if self.still.is_some() && !self.told_full { STILL } else { LOOK }
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.draws += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.draws);
        hasher.finish()
    }

    /// Where the straight way has got to: everything below is dealt with, parked or under way.
    pub(super) fn front(&self) -> u64 {
        self.fresh.front().map_or(self.read_to, |event| event.id)
    }

    /// Where the cursor may stand. What is under way without a row would be passed by, so it stays before that.
    pub(super) fn place(&self) -> Cursor {
        if self.pool.is_straight() {
            return self.cursor;
        }
        let front = self.front();
        Cursor { done: front, claimed: front }
    }

    /// Begins a round.
    pub(super) fn begin(&mut self, way: Way, tracks: Vec<Vec<Try>>, kept: bool) {
        self.pool.begin(way, tracks, kept);
        self.round = Some(Round { began: Instant::now(), handled: 0, new: !kept });
    }

    /// Lets a round go on until it is over, or it has taken so long that it is looked for others.
    pub(super) async fn go_on(&mut self) {
        let Some(round) = &self.round else { return };
        let patience = tokio::time::sleep_until(round.began + PATIENCE);
        tokio::pin!(patience);
        while self.pool.left() > 0 {
            tokio::select! {
                biased;
                Some(ended) = self.pool.next() => self.took(ended),
                () = &mut patience => return,
            }
        }
    }

    /// Something came of a track.
    pub(super) fn took(&mut self, ended: Ended) {
        if let Some(round) = &mut self.round {
            round.handled += ended.handled;
        }
        if ended.is_noted() {
            self.ended.push(ended);
        }
        if self.pool.left() == 0 {
            self.learn();
        }
    }

    /// A round is over, or the next one begins beside it: how big that is to be.
    pub(super) fn learn(&mut self) {
        let Some(Round { began, handled, .. }) = self.round.take().filter(|round| round.new) else { return };
        self.size = size_after(self.size, handled, began.elapsed());
    }

    /// Whether a round has just begun: nobody looks for others yet.
    pub(super) fn is_young(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.began.elapsed() < PATIENCE) && self.pool.left() > 0
    }

    /// Whether what has no row yet has had its time.
    pub(super) fn is_slow(&self) -> bool {
        let stuck = !self.pool.is_queued() && self.pool.is_slow(PATIENCE / 2);
        stuck || self.round.as_ref().is_none_or(|round| round.began.elapsed() >= PATIENCE_MAX)
    }

    /// A round that is not over has its time again.
    pub(super) fn go_on_anew(&mut self) {
        self.round = Some(Round { began: Instant::now(), handled: 0, new: true });
    }

    /// Whether more is read: nothing is there that could begin.
    pub(super) fn wants_more(&self, order: Order) -> bool {
        self.fresh.is_empty() || (self.ahead < AHEAD && !self.others_wait(order))
    }

    /// Whether something that was read can be claimed. Beside what has no row yet that is worth it only for what could begin.
    pub(super) fn others_wait(&self, order: Order) -> bool {
        if order == Order::None || !self.pool.is_straight() {
            return !self.fresh.is_empty();
        }
        let busy = self.pool.busy();
        self.fresh.iter().any(|event| !busy.lanes.contains(&event.lane) && !self.parked.blocks(&event.lane))
    }

    /// How many are claimed now. `free` may begin at once.
    pub(super) fn take(&self, options: &DeliveryOptions, free: usize) -> usize {
        if !is_careful(options) {
            return self.size.max(free).min(self.fresh.len());
        }
        let (mut lanes, mut free) = (HashSet::new(), free);
        let at_once = self.fresh.iter().take(CLAIM_MAX).take_while(|event| {
            if options.order == Order::Lane && self.parked.blocks(&event.lane) {
                // It only waits.
                return true;
            }
            let begins = free > 0 && (options.order == Order::None || lanes.insert(&*event.lane));
            free = free.saturating_sub(1);
            begins
        });
        at_once.count()
    }

    /// How many of a lane are tried together.
    pub(super) fn run(&self, options: &DeliveryOptions) -> usize {
        if is_careful(options) { 1 } else { self.size.clamp(1, RUN) }
    }
}

/// How big a round may be after one of so many events that took so long. Each waits for the journal's commit of what it claims: many
/// small ones would fall behind what comes. One that had few events tells little of how long many would take.
fn size_after(size: usize, handled: usize, took: Duration) -> usize {
    let each = ROUND.as_secs_f64() / took.as_secs_f64().max(1e-9);
    let size = match took {
        _ if took < ROUND => size.max((handled as f64 * each.clamp(2.0, GROWTH)) as usize),
        _ if took > ROUND * 2 => (handled as f64 * each) as usize,
        _ => size,
    };
    size.clamp(1, CLAIM_MAX)
}

/// Whether a try that was noted counts even if it never began: then only what begins at once is noted.
fn is_careful(options: &DeliveryOptions) -> bool {
    options.on_crash == OnCrash::Hold || options.max_attempts <= 1
}

pub(super) fn first_try(event: &Event) -> Try {
    Try { event: event.clone(), attempt: 1, redelivered: false, replay: Replay::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_as_big_as_fits_its_time_and_grows_only_by_what_it_has_seen() {
        let after = |size, handled, millis| size_after(size, handled, Duration::from_millis(millis));
        assert_eq!(after(8, 8, 0), 64, "not all at once");
        assert_eq!(after(8, 8, 10), 40, "five times as many fill the time");
        assert_eq!(after(8, 8, 49), 16);
        assert_eq!(after(64, 1, 1), 64, "one event that came alone is no measure");
        assert_eq!(after(64, 64, 80), 64);
        assert_eq!(after(1000, 1000, 500), 100);
        assert_eq!((after(8192, 8192, 1), after(1, 0, 900)), (CLAIM_MAX, 1));
    }
}
