//! The events of one bind that did not go the straight way: what is due, and which lanes they block.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief_contract::{DeliveryOptions, Event, OnCrash, Order, size_of};

use super::super::calls::Failure;
use super::pool::{Busy, Try};

use crate::journal::{DeliveryRow, NewDead, Replay, RowState};

/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The longest wait that a handler may ask for.
const WAIT_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Events that may wait before no new ones are begun: they are in memory.
pub(super) const PARKED_MAX: usize = 8192;
/// Bytes of such events, about.
const BYTES_MAX: usize = 32 << 20;
/// What an event takes beside its words, in bytes, about.
const EVENT: usize = 512;

/// By the event's number.
#[derive(Default)]
pub(super) struct Parked {
    rows: BTreeMap<u64, DeliveryRow>,
    /// Their numbers by lane.
    lanes: HashMap<Arc<str>, BTreeSet<u64>>,
    bytes: usize,
}

/// What a failure leads to.
pub(super) enum After {
    /// It is tried again.
    Again(DeliveryRow),
    /// It is given up.
    Dead(NewDead),
}

/// What a process finds when it begins.
#[derive(Default)]
pub(super) struct Found {
    pub(super) parked: Parked,
    /// What died in its last try.
    pub(super) dead: Vec<NewDead>,
    /// What is held from now on.
    pub(super) held: Vec<DeliveryRow>,
}

impl Found {
    /// Rows as they stand in the journal. What ran when the process died is held where the bind wants that; what died in its last
    /// try is given up.
    pub(super) fn of(rows: Vec<DeliveryRow>, options: &DeliveryOptions) -> Found {
        let mut found = Found::default();
        for mut row in rows {
            if row.crashed && row.state == RowState::Waiting {
                row.error = "the process died during the call".to_owned();
                match options.on_crash {
                    OnCrash::Hold => {
                        row.state = RowState::Held;
                        found.held.push(row.clone());
                    }
                    OnCrash::Retry if row.attempts >= options.max_attempts => {
                        let reason = format!("the process died during the call, {} times at most", row.attempts);
                        let (event, attempts, replay) = (row.event, row.attempts, row.replay);
                        found.dead.push(NewDead { event, attempts, reason, replay });
                        continue;
                    }
                    OnCrash::Retry => {}
                }
            }
            found.parked.put(row);
        }
        found
    }
}

/// What an event takes in memory, about.
fn size(event: &Event) -> usize {
    let fields = event.fields.iter().map(|(_, value)| size_of(value)).sum::<usize>();
    EVENT + event.text.len() + event.body.len() + fields
}

impl Parked {
    pub(super) fn put(&mut self, row: DeliveryRow) {
        let number = row.event.id;
        self.remove(number);
        self.bytes += size(&row.event);
        self.lanes.entry(Arc::clone(&row.event.lane)).or_default().insert(number);
        self.rows.insert(number, row);
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(row) = self.rows.remove(&number) else { return };
        self.bytes -= size(&row.event);
        if let Some(lane) = self.lanes.get_mut(&row.event.lane) {
            lane.remove(&number);
            if lane.is_empty() {
                self.lanes.remove(&row.event.lane);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether so much waits that nothing new is begun.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= PARKED_MAX || self.bytes >= BYTES_MAX
    }

    /// Whether there is room again for a good while: whoever tells of it does not tell it with every event.
    pub(super) fn is_roomy(&self) -> bool {
        self.rows.len() < PARKED_MAX / 2 && self.bytes < BYTES_MAX / 2
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &DeliveryRow> {
        self.rows.values()
    }

    /// Whether something of this lane waits.
    pub(super) fn blocks(&self, lane: &str) -> bool {
        self.lanes.contains_key(lane)
    }

    /// The first of each lane, for those that nobody handles.
    fn heads<'a>(&'a self, busy: &'a Busy) -> impl Iterator<Item = &'a DeliveryRow> {
        let lanes = self.lanes.iter().filter(move |(lane, _)| !busy.lanes.contains(*lane));
        lanes.filter_map(move |(_, numbers)| self.rows.get(numbers.first()?))
    }

    /// What may be tried now: tracks of events that are tried one after the other, each of at most `most`, and at most `tracks` of
    /// them; those that were due first come first.
    pub(super) fn due(
        &self,
        order: Order,
        now: DateTime<Utc>,
        busy: &Busy,
        (tracks, most): (usize, usize),
    ) -> Vec<Vec<DeliveryRow>> {
        let ready = |row: &&DeliveryRow| row.state == RowState::Waiting && row.due <= now;
        if order == Order::None {
            let idle = self.rows.values().filter(|row| !busy.numbers.contains(&row.event.id));
            return idle.filter(ready).take(tracks).map(|row| vec![row.clone()]).collect();
        }
        let mut heads: Vec<&DeliveryRow> = self.heads(busy).filter(ready).collect();
        heads.sort_unstable_by_key(|row| (row.due, row.event.id));
        // One that failed is tried alone; those that only waited behind it go together.
        let track = |head: &DeliveryRow| match head.attempts {
            0 => {
                let numbers = self.lanes.get(&head.event.lane).into_iter().flatten();
                let rows = numbers.filter_map(|number| self.rows.get(number));
                rows.take_while(|row| row.attempts == 0 && ready(row)).take(most).cloned().collect()
            }
            _ => vec![head.clone()],
        };
        heads.into_iter().take(tracks).map(track).collect()
    }

    /// When something is due next, for those that wait for the time.
    pub(super) fn next_due(&self, order: Order, busy: &Busy) -> Option<DateTime<Utc>> {
        let waiting = |row: &&DeliveryRow| row.state == RowState::Waiting;
        if order == Order::None {
            let idle = self.rows.values().filter(|row| !busy.numbers.contains(&row.event.id));
            return idle.filter(waiting).map(|row| row.due).min();
        }
        self.heads(busy).filter(waiting).map(|row| row.due).min()
    }
}

/// A row for an event that waits behind another.
pub(super) fn behind(event: Event, now: DateTime<Utc>) -> DeliveryRow {
    DeliveryRow {
        event,
        state: RowState::Waiting,
        attempts: 0,
        due: now,
        crashed: false,
        error: String::new(),
        replay: Replay::No,
    }
}

/// What becomes of an event whose try failed. `random` is any number; all of its bits count.
pub(super) fn after_failure(
    one: Try,
    failure: Failure,
    options: &DeliveryOptions,
    now: DateTime<Utc>,
    random: u64,
) -> After {
    let Try { event, attempt: attempts, replay, .. } = one;
    if failure.dead || attempts >= options.max_attempts {
        return After::Dead(NewDead { event, attempts, reason: failure.reason, replay });
    }
    let wait = failure.after.unwrap_or_else(|| {
        let ceiling = options.backoff.saturating_mul(1 << (attempts.saturating_sub(1)).min(20)).min(BACKOFF_MAX);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        ceiling.mul_f64(share)
    });
    let due = now + chrono::Duration::from_std(wait.min(WAIT_MAX)).unwrap_or_default();
    After::Again(DeliveryRow { attempts, error: failure.reason, replay, ..behind(event, due) })
}

#[cfg(test)]
mod tests {
    use masterchief_contract::EventData;

    use super::*;

    /// How long it waits after a try, in milliseconds; nothing where it is given up.
    fn wait(attempt: u32, random: u64, after: Option<Duration>) -> Option<i64> {
        let now = DateTime::UNIX_EPOCH;
        let event = Event::new(EventData::new(&[], now));
        let options = DeliveryOptions { max_attempts: 100, ..DeliveryOptions::default() };
        let failure = Failure { reason: "not yet".to_owned(), after, dead: false, own_words: true };
        let one = Try { event, attempt, redelivered: false, replay: Replay::No };
        match after_failure(one, failure, &options, now, random) {
            After::Again(row) => Some((row.due - now).num_milliseconds()),
            After::Dead(_) => None,
        }
    }

    #[test]
    fn waits_are_any_part_of_a_time_that_doubles_up_to_five_minutes() {
        let times = [(1, 1_000), (2, 2_000), (3, 4_000), (8, 128_000), (9, 256_000), (10, 300_000), (99, 300_000)];
        for (attempt, most) in times {
            assert_eq!(wait(attempt, 0, None), Some(0), "{attempt}");
            let half = wait(attempt, u64::MAX / 2, None).unwrap();
            assert!((half * 2 - most).abs() < 10, "{attempt}: {half} of {most}");
            let all = wait(attempt, u64::MAX, None).unwrap();
            assert!((most - 1..=most).contains(&all), "{attempt}: {all} of {most}");
        }
        assert_eq!(wait(1, u64::MAX, Some(Duration::from_secs(7))), Some(7_000), "the handler says when");
        assert_eq!(wait(100, 0, None), None, "it is given up");
    }
}
