//! Words of a person on another bot, done here: their home bot vouches for who that is, our own book says what they may.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use masterchief_contract::{Action, Actor, Clock, Event, EventData, Kind, Refused, Shutdown};
use tokio::sync::{Semaphore, mpsc};

use crate::bot::calls::Calls;
use crate::dispatch::{BindTable, Decision, decide};
use crate::mesh::{BotName, CallFault, Mesh, NETWORK, SAID, Trust};
use crate::partyline::word_for;
use crate::users::Book;

/// Words that are done at once.
const AT_ONCE: usize = 64;
/// Lines that one may be answered with; what is more is left out.
const LINES_MAX: usize = 200;

/// Lines for people on other bots that wait to be sent.
const LATER: usize = 1024;
/// How often such a line is sent until it is given up, and how long after another try.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_secs(10);
/// How long an answer to one is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where answers to people on other bots are gathered, by the place that stands for each. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk {
    open: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    /// Where lines go that are said after the answer.
    later: Arc<OnceLock<mpsc::Sender<Later>>>,
}

/// A line for somebody on another bot, said after they had their answer.
#[derive(Debug)]
struct Later {
    bot: BotName,
    token: String,
    text: String,
}

impl Desk {
    /// Takes what is said to somebody whose words are being done.
    pub(crate) fn perform(&self, action: &Action) -> Result<(), Refused> {
        let Action::Say { target, text, .. } = action else {
            return Err(Refused::new("the mesh has no channels to act on; only words go there"));
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = open.get_mut(target) else {
            let Some((bot, token)) = whose(target) else {
                return Err(Refused::new("whoever asked from another bot has had the answer; say it in a channel"));
            };
            let later = self.later.get().ok_or_else(|| Refused::new("no mesh is configured"))?;
            let line = Later { bot, token, text: text.clone() };
            return later.try_send(line).map_err(|_| Refused::new("too much waits for people on other bots"));
        };
        if lines.len() < LINES_MAX {
            lines.push(text.clone());
        }
        Ok(())
    }

    /// From now on what is said later is sent to the bots of those who asked; ends with `shutdown`.
    pub(super) async fn send_later(self, mesh: Mesh, mut shutdown: Shutdown) {
        let (later, mut lines) = mpsc::channel(LATER);
        // The first is the only one.
        let _ = self.later.set(later);
        loop {
            let line = tokio::select! {
                () = shutdown.recv() => return,
                line = lines.recv() => line,
            };
            let Some(Later { bot, token, text }) = line else { return };
            for tries in 1..=TRIES {
                let Err(fault) = mesh.own(&bot, SAID, &format!("{token} {text}"), PATIENCE).await else { break };
                if tries == TRIES || matches!(fault, CallFault::Refused(_)) {
                    tracing::warn!(%bot, %fault, text, "Somebody on another bot is not told this");
                    break;
                }
                tokio::select! {
                    () = shutdown.recv() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
        }
    }

    fn begin(&self, place: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(place.to_owned(), Vec::new());
    }

    fn end(&self, place: &str) -> Vec<String> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(place).unwrap_or_default()
    }
}

/// The place that stands for somebody who is to be told more: it says itself whose it is, so that it outlives this process.
fn place_of(bot: &BotName, token: &str) -> String {
    format!("#{bot}+{token}")
}

fn whose(place: &str) -> Option<(BotName, String)> {
    let (bot, token) = place.strip_prefix('#')?.rsplit_once('+')?;
    Some((bot.parse().ok()?, token.to_owned()))
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

    /// Does `HANDLE WORDS` that a bot has sent, or `+TOKEN HANDLE WORDS` where it hears more later; gives what is said to it, or why not.
    pub(super) async fn run(&self, from: &BotName, trust: Trust, data: &str) -> Result<String, String> {
        let (token, data) = match data.strip_prefix('+').and_then(|rest| rest.split_once(' ')) {
            Some((token, rest)) if token.chars().all(|c| c.is_ascii_alphanumeric()) => (Some(token), rest),
            _ => (None, data),
        };
        let Some((handle, words)) = data.split_once(' ') else {
            return Err("there are no words to be done".to_owned());
        };
        if !trust.is_any() {
            return Err(format!("the word of {from} on who its people are does not count here; give it `trust`"));
        }
        // The console is no person of ours, whoever says so.
        let Some(user) = self.book.get(handle) else { return Err(format!("{handle} is not known here")) };
        if !trust.covers(&self.book, &user) {
            return Err(format!(
                "{handle} holds more here than the letters for which the word of {from} counts; log in here, or let its `trust` name more"
            ));
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Err("too much is being done here; try again later".to_owned());
        };
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let place = match token {
            Some(token) => place_of(from, token),
            None => format!("#{from}-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        };
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
        let command = words.strip_prefix('.').filter(|rest| !rest.starts_with([' ', '.']));
        let word = command.and_then(word_for);
        // Commands of the partyline are taken in private elsewhere too.
        let kinds: &'static [Kind] = if command.is_some() && word.is_none() { &[Kind::Msg] } else { &[Kind::Pub] };
        let mut data = EventData::new(kinds, self.clock.now());
        data.network = Arc::from(NETWORK);
        data.chan = Some(Arc::from(place));
        data.text = word.unwrap_or_else(|| words.to_owned());
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
