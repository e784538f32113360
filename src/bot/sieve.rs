//! Kinds `filt` and `note`: what somebody types on the partyline, and notes, as binds let them through.

use std::sync::{Arc, Weak};
use std::time::Duration;

use masterchief_contract::{Event, EventData, Outcome};

use super::calls::Calls;
use crate::dispatch::{BindTable, decide};
use crate::partyline;
use crate::users::Standing;

/// How long a line waits for a handler that may change it; then it goes on as it is.
const WINDOW: Duration = Duration::from_secs(1);

/// What every line goes through. Weak, because calls know the partyline.
pub(super) fn sieve(table: BindTable, calls: Weak<Calls>) -> partyline::Sieve {
    Box::new(move |event, standing| Box::pin(sifted(table.clone(), calls.clone(), event, standing)))
}

async fn sifted(table: BindTable, calls: Weak<Calls>, mut event: Event, standing: Standing) -> Option<String> {
    let Some(calls) = calls.upgrade() else { return Some(event.text.clone()) };
    let steps = decide(&table.index(), &event, &standing, calls.rules.load().policy).steps;
    for step in steps {
        let running = tokio::spawn(Arc::clone(&calls).run(event.clone(), step, standing.who.clone()));
        match tokio::time::timeout(WINDOW, running).await {
            Ok(Ok(Outcome::Stop)) => return None,
            // Those behind it see what it made of the line.
            Ok(Ok(Outcome::Reply(lines))) => {
                let text = lines.join(" ");
                if text.is_empty() {
                    return None;
                }
                event = Event::new(EventData { text, ..EventData::clone(&event) });
            }
            _ => {}
        }
    }
    Some(event.text.clone())
}

/// What every note goes by first: whether a bind takes it.
pub(super) fn note_taker(table: BindTable, calls: Weak<Calls>) -> partyline::NoteTaker {
    Box::new(move |event| Box::pin(is_taken(table.clone(), calls.clone(), event)))
}

async fn is_taken(table: BindTable, calls: Weak<Calls>, event: Event) -> bool {
    let Some(calls) = calls.upgrade() else { return false };
    let standing = Standing::default();
    let steps = decide(&table.index(), &event, &standing, calls.rules.load().policy).steps;
    for step in steps {
        let running = tokio::spawn(Arc::clone(&calls).run(event.clone(), step, standing.who.clone()));
        if matches!(tokio::time::timeout(WINDOW, running).await, Ok(Ok(Outcome::Stop))) {
            return true;
        }
    }
    false
}
