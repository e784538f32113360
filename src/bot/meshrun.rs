//! Words of a person on another bot, done here: their home bot vouches for who that is, our own book says what they may.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use masterchief_contract::{Action, Actor, Clock, Event, EventData, Kind, Refused};
use tokio::sync::Semaphore;

use super::calls::Calls;
use crate::dispatch::{BindTable, Decision, decide};
use crate::mesh::{BotName, NETWORK};
use crate::users::Book;

/// Words that are done at once.
const AT_ONCE: usize = 64;
/// Lines that one may be answered with; what is more is left out.
const LINES_MAX: usize = 200;

/// Where answers to people on other bots are gathered, by the place that stands for each. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk {
    open: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl Desk {
    /// Takes what is said to somebody whose words are being done.
    pub(crate) fn perform(&self, action: &Action) -> Result<(), Refused> {
        let Action::Say { target, text, .. } = action else {
            return Err(Refused::new("the mesh has no channels to act on; only words go there"));
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = open.get_mut(target) else {
            return Err(Refused::new("whoever asked from another bot has had the answer; say it in a channel"));
        };
        if lines.len() < LINES_MAX {
            lines.push(text.clone());
        }
        Ok(())
    }

    fn begin(&self, place: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(place.to_owned(), Vec::new());
    }

    fn end(&self, place: &str) -> Vec<String> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(place).unwrap_or_default()
    }
}

/// Does words of people on other bots. Cheap to clone.
#[derive(Clone)]
pub(super) struct Running {
    calls: Arc<Calls>,
    table: BindTable,
    book: Book,
    desk: Desk,
    clock: Clock,
    places: Arc<Semaphore>,
}

impl Running {
    pub(super) fn new(calls: Arc<Calls>, table: BindTable, book: Book, desk: Desk, clock: Clock) -> Running {
        Running { calls, table, book, desk, clock, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Does `HANDLE WORDS` that a bot has sent; gives what is said to it, or why not.
    pub(super) async fn run(&self, from: &BotName, trusted: bool, data: &str) -> Result<String, String> {
        let Some((handle, words)) = data.split_once(' ') else {
            return Err("there are no words to be done".to_owned());
        };
        if !trusted {
            return Err(format!("the word of {from} on who its people are does not count here; give it `trust`"));
        }
        // The console is no person of ours, whoever says so.
        if self.book.get(handle).is_none() {
            return Err(format!("{handle} is not known here"));
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Err("too much is being done here; try again later".to_owned());
        };
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let place = format!("#{from}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let event = self.event(from, handle, words, &place);
        let standing = self.book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let decision = decide(&self.table.index(), &event, &standing, self.calls.rules.load().policy);
        let Decision { steps, denied } = decision;
        for denied in &denied {
            self.calls.note(&event, &denied.bind, &standing.who, "denied", &format!("needs {}", denied.bind.flags));
        }
        if steps.is_empty() {
            return Err(match denied.first() {
                Some(denied) => format!("{handle} may not here: it needs {}", denied.bind.flags),
                None => format!("nothing here listens to {:?}", words.split(' ').next().unwrap_or("")),
            });
        }
        self.desk.begin(&place);
        for step in steps {
            Arc::clone(&self.calls).run(event.clone(), step, standing.who.clone()).await;
        }
        Ok(self.desk.end(&place).join("\n"))
    }

    fn event(&self, from: &BotName, handle: &str, words: &str, place: &str) -> Event {
        let mut data = EventData::new(&[Kind::Pub], self.clock.now());
        data.network = Arc::from(NETWORK);
        data.chan = Some(Arc::from(place));
        data.text = words.to_owned();
        data.actor = Some(Actor {
            nick: handle.to_owned(),
            user: handle.to_owned(),
            host: from.to_string(),
            login: Some(handle.to_owned()),
            ..Actor::default()
        });
        Event::new(data)
    }
}
