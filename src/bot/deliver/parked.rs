//! The events of one bind that did not go the straight way: what is due, and which lanes they block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief_contract::{DeliveryOptions, Event, OnCrash, Order};

use crate::journal::{DeliveryRow, NewDead, Replay, RowState};

/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The longest wait that a handler may ask for.
const WAIT_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Events of one lane that are tried in one round at most, once what held them up is gone.
const RUN: usize = 256;

/// By the event's number.
#[derive(Default)]
pub(super) struct Parked {
    rows: BTreeMap<u64, DeliveryRow>,
}

/// What a failure leads to.
pub(super) enum After {
    /// It is tried again.
    Again(DeliveryRow),
    /// It is given up.
    Dead(NewDead),
}

impl Parked {
    /// Rows as they stand in the journal when a process begins. What ran when the process died is held where the bind
    /// wants that; what died in its last try is given up.
    pub(super) fn of(rows: Vec<DeliveryRow>, options: &DeliveryOptions) -> (Parked, Vec<NewDead>) {
        let mut parked = Parked::default();
        let mut dead = Vec::new();
        for mut row in rows {
            if row.crashed && row.state == RowState::Waiting {
                row.error = "the process died during the call".to_owned();
                match options.on_crash {
                    OnCrash::Hold => row.state = RowState::Held,
                    OnCrash::Retry if row.attempts >= options.max_attempts => {
                        let reason = format!("the process died during the call, {} times at most", row.attempts);
                        dead.push(NewDead { event: row.event, attempts: row.attempts, reason, replay: row.replay });
                        continue;
                    }
                    OnCrash::Retry => {}
                }
            }
            parked.put(row);
        }
        (parked, dead)
    }

    pub(super) fn put(&mut self, row: DeliveryRow) {
        self.rows.insert(row.event.id, row);
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.rows.remove(&number);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &DeliveryRow> {
        self.rows.values()
    }

    /// The lanes in which something waits.
    pub(super) fn lanes(&self) -> BTreeSet<Arc<str>> {
        self.rows.values().map(|row| Arc::clone(&row.event.lane)).collect()
    }

    /// What may be tried now: tracks of events that are tried one after the other, at most `tracks` of them.
    pub(super) fn due(&self, order: Order, now: DateTime<Utc>, tracks: usize) -> Vec<Vec<DeliveryRow>> {
        let ready = |row: &&DeliveryRow| row.state == RowState::Waiting && row.due <= now;
        if order == Order::None {
            return self.rows.values().filter(ready).take(tracks).map(|row| vec![row.clone()]).collect();
        }
        let mut lanes: BTreeMap<&str, Vec<&DeliveryRow>> = BTreeMap::new();
        for row in self.rows.values() {
            lanes.entry(&row.event.lane).or_default().push(row);
        }
        let mut out = Vec::new();
        for rows in lanes.into_values() {
            let Some(head) = rows.first().filter(|row| ready(row)) else { continue };
            // One that failed is tried alone; those that only waited behind it go together.
            let together = |row: &&&DeliveryRow| row.attempts == 0 && ready(row);
            let track: Vec<DeliveryRow> = match head.attempts {
                0 => rows.iter().take_while(together).take(RUN).map(|row| (*row).clone()).collect(),
                _ => vec![(*head).clone()],
            };
            out.push(track);
            if out.len() >= tracks {
                break;
            }
        }
        out
    }

    /// When something is due next, for those that wait for the time.
    pub(super) fn next_due(&self, order: Order) -> Option<DateTime<Utc>> {
        let waiting = |row: &&DeliveryRow| row.state == RowState::Waiting;
        if order == Order::None {
            return self.rows.values().filter(waiting).map(|row| row.due).min();
        }
        let mut heads: BTreeMap<&str, &DeliveryRow> = BTreeMap::new();
        for row in self.rows.values() {
            heads.entry(&row.event.lane).or_insert(row);
        }
        heads.into_values().filter(|row| row.state == RowState::Waiting).map(|row| row.due).min()
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

/// What becomes of an event whose try number `attempts` failed. `random` is any number; all of its bits count.
pub(super) fn after_failure(
    event: Event,
    attempts: u32,
    replay: Replay,
    failure: super::super::calls::Failure,
    options: &DeliveryOptions,
    now: DateTime<Utc>,
    random: u64,
) -> After {
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
