//! Questions to people: whoever was asked answers where they were asked, as the person they were then. Time is tokio's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use masterchief_contract::{Actor, CaseMap, Event, EventData, Kind};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::users::Presence;

/// Questions that may be open at once; more are refused.
const OPEN_MAX: usize = 1024;
/// How long somebody who was lost in a netsplit may take to come back.
const SPLIT: Duration = Duration::from_secs(600);

/// All open questions. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Asks {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: BTreeMap<u64, Open>,
    /// How long calls have waited for people, without what is still open.
    spent: HashMap<Arc<str>, Duration>,
}

/// One question.
#[derive(Debug)]
struct Open {
    owner: usize,
    trace: Arc<str>,
    begun: Instant,
    who: Asked,
    network: Arc<str>,
    chan: Option<Arc<str>>,
    casemap: CaseMap,
    own: String,
    choices: Vec<String>,
    /// The network's own id of the words that brought it about.
    msgid: Option<String>,
    /// What was left of the time when they were lost.
    left: Duration,
    state: watch::Sender<State>,
}

/// Who is asked.
#[derive(Clone, Debug)]
enum Asked {
    /// Whoever this is vouched for as, under any nick.
    Vouched(Presence),
    /// For whom nothing vouches: this very `nick!user@host`, and nothing else.
    Stranger(String),
}

/// How a question stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// There is time until then.
    Until(Instant),
    /// Who is asked was lost in a netsplit: the clock stands, until then at the most.
    Standing(Instant),
    Answered(String),
    Over(Why),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The time is over.
    Timeout,
    /// Who was asked is not there any more.
    Gone,
    /// Another question waits for them there, or too many are open.
    Busy,
    /// The script is being replaced.
    Reloaded,
    /// Their command was taken back.
    Redacted,
}

impl Why {
    /// As scripts see it.
    pub fn name(self) -> &'static str {
        match self {
            Why::Timeout => "timeout",
            Why::Gone => "gone",
            Why::Busy => "busy",
            Why::Reloaded => "reloaded",
            Why::Redacted => "redacted",
        }
    }
}

/// What is asked.
pub(super) struct Question<'a> {
    /// Which version of which script asks.
    pub(super) owner: usize,
    /// The bot's nick there, which may stand before the answer.
    pub(super) own: String,
    /// The only answers there are; any words without.
    pub(super) choices: Vec<String>,
    pub(super) timeout: Duration,
    /// Where and by whom it came to it.
    pub(super) event: &'a Event,
}

/// A question that waits; it is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    asks: Asks,
    id: u64,
    state: watch::Receiver<State>,
}

impl Asks {
    /// Opens a question to whoever is behind an event.
    pub(super) fn open(&self, question: Question<'_>) -> Result<Waiting, Why> {
        let Question { owner, own, choices, timeout, event } = question;
        let actor = event.actor.as_ref().ok_or(Why::Gone)?;
        let who = match Presence::of(actor, &event.network) {
            Some(presence) => Asked::Vouched(presence),
            None => Asked::Stranger(actor.source()),
        };
        let mut inner = self.lock();
        let same = |open: &Open| open.is_to(actor, event) && open.is_at(event);
        if inner.open.len() >= OPEN_MAX || inner.open.values().any(same) {
            return Err(Why::Busy);
        }
        inner.last += 1;
        let (id, now) = (inner.last, Instant::now());
        let (state, told) = watch::channel(State::Until(now + timeout));
        let trace = event.call().map_or_else(|| Arc::from(""), |call| Arc::clone(&call.trace));
        let open = Open {
            owner,
            trace,
            begun: now,
            who,
            network: Arc::clone(&event.network),
            chan: event.chan.clone(),
            casemap: event.casemap,
            own,
            choices,
            msgid: event.tag("msgid").map(str::to_owned),
            left: timeout,
            state,
        };
        inner.open.insert(id, open);
        Ok(Waiting { asks: self.clone(), id, state: told })
    }

    /// What becomes of an event: words that answer a question are no command any more, but are still heard.
    pub fn hear(&self, event: Event) -> Event {
        let mut inner = self.lock();
        if inner.open.is_empty() {
            return event;
        }
        let mut answered = false;
        for open in inner.open.values_mut() {
            open.watch(&event);
            answered |= open.answer(&event);
        }
        drop(inner);
        match event.kinds.first().copied() {
            Some(Kind::Pubm) if answered => only(&event, &[Kind::Pubm]),
            Some(Kind::Msgm) if answered => only(&event, &[Kind::Msgm]),
            _ => event,
        }
    }

    /// Ends all questions of a version of a script.
    pub(super) fn end(&self, owner: usize) {
        for open in self.lock().open.values().filter(|open| open.owner == owner) {
            open.state.send_replace(State::Over(Why::Reloaded));
        }
    }

    /// How long this call has waited for people so far: that is none of its own time.
    pub fn spent(&self, trace: &str) -> Duration {
        let inner = self.lock();
        let open = inner.open.values().filter(|open| &*open.trace == trace).map(|open| open.begun.elapsed());
        inner.spent.get(trace).copied().unwrap_or_default() + open.max().unwrap_or_default()
    }

    /// The call is over.
    pub fn forget(&self, trace: &str) {
        self.lock().spent.remove(trace);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The answer, or why there is none.
    pub(super) async fn answer(mut self) -> Result<String, Why> {
        loop {
            let state = self.state.borrow_and_update().clone();
            let (until, why) = match state {
                State::Answered(answer) => return Ok(answer),
                State::Over(why) => return Err(why),
                State::Until(at) => (at, Why::Timeout),
                State::Standing(at) => (at, Why::Gone),
            };
            tokio::select! {
                biased;
                changed = self.state.changed() => if changed.is_err() { return Err(why) },
                () = tokio::time::sleep_until(until) => return Err(why),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.asks.lock();
        if let Some(open) = inner.open.remove(&self.id) {
            // Calls that were given up while they asked forget nothing by themselves.
            if inner.spent.len() >= OPEN_MAX {
                inner.spent.clear();
            }
            *inner.spent.entry(open.trace).or_default() += open.begun.elapsed();
        }
    }
}

impl Open {
    /// Whether this is who is asked, vouched for as then.
    fn is_to(&self, actor: &Actor, event: &EventData) -> bool {
        match &self.who {
            Asked::Vouched(presence) => presence.is_same(actor, &event.network),
            Asked::Stranger(source) => {
                self.network == event.network && event.casemap.eq(source, &actor.source()) && actor.account.is_none()
            }
        }
    }

    /// Whether it is this client: by its nick, whatever vouches for it.
    fn is_client(&self, actor: &Actor, event: &EventData) -> bool {
        match &self.who {
            Asked::Vouched(presence) => presence.has_nick(&actor.nick, &event.network, event.casemap),
            Asked::Stranger(_) => self.is_to(actor, event),
        }
    }

    fn is_at(&self, event: &EventData) -> bool {
        match (&self.chan, &event.chan) {
            (Some(asked), Some(here)) => self.casemap.eq(asked, here),
            (None, None) => true,
            _ => false,
        }
    }

    /// They leave, are lost, come back or are called otherwise.
    fn watch(&mut self, event: &EventData) {
        let Some(actor) = event.actor.as_ref().filter(|_| self.network == event.network) else { return };
        let (now, state) = (Instant::now(), self.state.borrow().clone());
        let redacted = event.kinds.first() == Some(&Kind::Redact);
        if redacted && self.msgid.as_deref().is_some_and(|own| own == event.field_str("msgid")) {
            self.state.send_replace(State::Over(Why::Redacted));
            return;
        }
        match (event.kinds.first().copied(), state) {
            (Some(Kind::Splt), State::Until(at)) if self.is_client(actor, event) => {
                self.left = at.saturating_duration_since(now);
                self.state.send_replace(State::Standing(now + SPLIT));
            }
            (Some(Kind::Sign), State::Until(_)) if self.is_client(actor, event) => {
                self.state.send_replace(State::Over(Why::Gone));
            }
            (Some(Kind::Nick), State::Until(_)) if self.is_client(actor, event) => {
                if let Asked::Vouched(presence) = &mut self.who {
                    event.field_str("newnick").clone_into(&mut presence.nick);
                }
            }
            // Old lines tell nothing of now.
            (Some(Kind::Sign | Kind::Splt | Kind::Hist | Kind::Redact), _) => {}
            (kind, State::Standing(_)) => {
                let account = (kind == Some(Kind::Account)).then(|| event.field_str("newaccount").to_owned());
                let actor = Actor { account: account.or_else(|| actor.account.clone()), ..actor.clone() };
                if self.is_to(&actor, event) {
                    if let Asked::Vouched(presence) = &mut self.who {
                        presence.nick.clone_from(&actor.nick);
                    }
                    self.state.send_replace(State::Until(now + self.left));
                }
            }
            _ => {}
        }
    }

    /// Whether these words are the answer. It is told then.
    fn answer(&mut self, event: &EventData) -> bool {
        let words = matches!(event.kinds.first().copied(), Some(Kind::Pubm | Kind::Msgm));
        let waits = matches!(*self.state.borrow(), State::Until(_));
        let theirs = event.actor.as_ref().is_some_and(|actor| self.is_to(actor, event));
        if !(words && waits && theirs && self.is_at(event)) {
            return false;
        }
        let said = self.without_name(&event.text);
        let answer = if self.choices.is_empty() {
            // Commands are still commands.
            Some(said).filter(|said| !said.is_empty() && !said.starts_with(['!', '.'])).map(str::to_owned)
        } else {
            self.choices.iter().find(|choice| choice.eq_ignore_ascii_case(said)).cloned()
        };
        let answered = answer.is_some();
        if let Some(answer) = answer {
            self.state.send_replace(State::Answered(answer));
        }
        answered
    }

    /// `chief: yes` is `yes`.
    fn without_name<'t>(&self, text: &'t str) -> &'t str {
        let text = text.trim();
        let named = text.get(..self.own.len()).is_some_and(|name| self.casemap.eq(name, &self.own));
        let rest = text.get(self.own.len()..).filter(|_| named && !self.own.is_empty());
        rest.and_then(|rest| rest.strip_prefix([':', ','])).map_or(text, str::trim)
    }
}

/// The same event as fewer kinds.
fn only(event: &Event, kinds: &'static [Kind]) -> Event {
    Event::new(EventData { kinds, ..EventData::clone(event) })
}
