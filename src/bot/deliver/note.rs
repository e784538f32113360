//! What came of calls is written down, and who has to know is told.

use std::sync::Arc;

use masterchief_contract::{Action, How, split_place};

use super::super::calls::Calls;
use super::super::words;
use super::consumer::{Consumer, PAUSE};
use super::parked::{After, PARKED_MAX, after_failure, behind};
use super::pool::Try;
use super::state::State;
use crate::dispatch::Bind;
use crate::journal::{DeliveryRow, Journal, JournalError, NewDead};

impl Consumer {
    /// Notes what came of tracks. What is still under way gets rows, so that the cursor passes it and others go on beside it.
    pub(super) async fn note(&self, state: &mut State, bind: &Arc<Bind>) -> Result<(), JournalError> {
        let now = self.clock.now();
        let mut advance = self.advance(state.cursor);
        for track in std::mem::take(&mut state.ended) {
            advance.drop.extend(track.done);
            if let Some((one, failure)) = track.failed {
                match after_failure(one, failure, &bind.options.delivery, now, state.draw()) {
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
        if state.pool.is_queued() {
            // Part of the round has not begun; it goes on.
            state.go_on_anew();
        } else {
            for left in state.pool.straight() {
                let mut left = left.iter();
                let running = |one: &Try| {
                    let row = behind(one.event.clone(), now);
                    DeliveryRow { attempts: one.attempt, crashed: true, ..row }
                };
                advance.put.extend(left.next().map(running));
                advance.put.extend(left.map(|one| behind(one.event.clone(), now)));
            }
            state.pool.keep();
            state.learn();
        }
        for number in &advance.drop {
            state.parked.remove(*number);
        }
        for dead in &advance.dead {
            state.parked.remove(dead.event.id);
        }
        advance.put.iter().for_each(|row| state.parked.put(row.clone()));
        self.tell_dead(&advance.dead);
        advance.cursor = state.place();
        state.cursor = advance.cursor;
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
    pub(super) fn tell_dead(&self, dead: &[NewDead]) {
        for dead in dead {
            tracing::error!(bind = %self.key, event = dead.event.id, attempts = dead.attempts, reason = %dead.reason, "A dead letter");
            self.tell(words::dead_letter(dead.event.id, &self.key, dead.attempts, &dead.reason));
        }
    }

    /// Tells of what waits for an operator.
    pub(super) fn tell_held(&self, held: &[DeliveryRow]) {
        for row in held {
            tracing::error!(bind = %self.key, event = row.event.id, attempts = row.attempts, "The process died during a call, which is held");
            self.tell(words::held(row.event.id, &self.key));
        }
    }

    /// Tells, once, that so much waits that nothing new is begun; and that it is begun again.
    pub(super) fn tell_full(&self, state: &mut State) {
        let waiting = state.parked.len();
        let still = state.stands_still();
        if !state.told_full && still {
            state.told_full = true;
            self.journal.stands_still(&self.key, Some(waiting as u64));
            tracing::error!(bind = %self.key, waiting, most = PARKED_MAX, "So much waits behind what fails, is held or takes long that the bind begins nothing new");
            self.tell(words::stands_still(&self.key, waiting));
        } else if state.told_full && state.parked.is_roomy() {
            state.told_full = false;
            self.journal.stands_still(&self.key, None);
            tracing::info!(bind = %self.key, waiting, "The bind goes on with what is new");
        }
    }

    fn tell(&self, text: String) {
        tell(&self.journal, &self.calls, text);
    }
}

/// Says something where dead letters are told.
pub(super) fn tell(journal: &Journal, calls: &Calls, text: String) {
    let Some(place) = &journal.settings().notify else { return };
    let (network, target) = split_place(place);
    let (network, target) = (network.to_owned(), target.to_owned());
    let say = Action::Say { network, target, text, how: How::Say, reply: false };
    let outlet = Arc::clone(&calls.outlet);
    tokio::spawn(async move {
        if let Err(refused) = outlet.perform(say).await {
            tracing::warn!(%refused, "What became of an event could not be told");
        }
    });
}
