//! What other MasterChiefs call this one for: binds of scripts, words of people, leases, shared users, events. Each call is
//! answered in a task of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use masterchief_contract::{Action, Clock, Delivery, Event, EventData, Future, How, Outlet, Refused, Shutdown, Value};
use tokio::sync::{Semaphore, mpsc};

use super::event;
use super::lead::Leases;
use super::log::Logs;
use super::need;
use super::relay;
use super::run::Running;
use super::share::Shared;
use crate::bot::calls::Calls;
use crate::bot::outbox::Outbox;
use crate::bot::runners::Runners;
use crate::dispatch::{Bind, BindTable, Policy, decide};
use crate::gateway::Door;
use crate::irc::Around as _;
use crate::mesh::{Asker, BOT, BotName, Call, EVENT, LEASE, LOG, Mesh, NEED, NETWORK, PeerId, RUN, SAID, SHARE, WORK};
use crate::partyline::{Party, leave_note};
use crate::store::Store;
use crate::users::Standing;

/// Calls of others that run binds at once, in all and of one bot.
const AT_ONCE: usize = 128;
const BINDS_OF_ONE: usize = 32;
/// Other calls of one bot that run at once, of each sort: what bots need among themselves. Who follows a step waits long.
const OF_ONE: usize = 64;
const WORK_OF_ONE: usize = 1024;
/// What all bots behind one link have at once, against what one has: names cost those who make them up nothing.
const OF_LINK: usize = 2;
/// Calls that wait to be begun; whoever calls beyond that is told to come again.
pub(super) const WAITING: usize = 1024;

/// Whoever answers.
pub(super) struct Answering {
    pub(super) mesh: Mesh,
    pub(super) calls: Arc<Calls>,
    pub(super) table: BindTable,
    pub(super) clock: Clock,
    /// Where other bots are helped.
    pub(super) outbox: Outbox,
    pub(super) running: Running,
    pub(super) leases: Leases,
    pub(super) shared: Shared,
    pub(super) logs: Logs,
    /// Where events of others come in.
    pub(super) door: Door,
    /// What is done here for other bots.
    pub(super) runners: Runners,
    /// Where notes are left for people here who are not where they asked any more.
    pub(super) notes: (Party, Store),
}

impl Answering {
    /// Answers until shutdown.
    pub(super) async fn run(self, mut calls: mpsc::Receiver<Call>, mut shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let (all, turns) = (Arc::new(self), Turns::default());
        loop {
            let call = tokio::select! {
                () = shutdown.recv() => return,
                call = calls.recv() => call,
            };
            let Some(call) = call else { return };
            let (from, id) = (call.from.clone(), call.id);
            // What one bot asks for must not keep others from being answered.
            let Some(turn) = turns.begin(&call) else {
                let result = Err("too many calls of yours are running here; try again later".to_owned());
                all.mesh.answer(&from, id, result).await;
                continue;
            };
            let (all, places) = (Arc::clone(&all), Arc::clone(&places));
            tokio::spawn(async move {
                let _turn = turn;
                let result = match call.cmd.as_str() {
                    // What the bots themselves need is not held up by what scripts call.
                    LEASE => all.leases.answer(&call).await,
                    LOG => all.logs.answer(&call).await,
                    SHARE => all.shared.answer(&call).await,
                    WORK => all.runners.answer(&call, &all.mesh).await,
                    EVENT => relay::receive(&all.door, &call).await,
                    SAID => all.said(&call).await,
                    NEED => need::give(&all.mesh, &all.outbox, &call).await,
                    RUN => all.running.run(&call.from, call.trust, &call.data).await,
                    // Binds alone take places: whatever else waits here, for a slow disk or for people, holds none of theirs.
                    _ => match places.try_acquire_owned() {
                        Ok(_place) => all.bind(call).await,
                        Err(_) => Err("too many calls are running here; try again later".to_owned()),
                    },
                };
                all.mesh.answer(&from, id, result).await;
            });
        }
    }

    /// Tells somebody here more of what they asked of another bot: where they asked, or in a note.
    async fn said(&self, call: &Call) -> Result<String, String> {
        let (token, text) = call.data.split_once(' ').ok_or("there are no words")?;
        let Some(asker) = self.mesh.asker(&call.from, token).await else {
            return Err("nobody waits for that here any more".to_owned());
        };
        let Asker { handle, network, target } = asker;
        let text = format!("({}) {text}", call.from);
        let say = Action::Say { network, target, text: text.clone(), how: How::Say, reply: true };
        if self.calls.outlet.perform(say).await.is_ok() {
            return Ok(String::new());
        }
        let (party, store) = &self.notes;
        let left = leave_note(party, store, &handle, call.from.as_str(), &text).await;
        left.map(|_| String::new()).map_err(|fault| {
            tracing::error!(%fault, "What another bot says to somebody here could not be kept");
            "it could not be kept; try again later".to_owned()
        })
    }

    /// Runs the bind that a call names.
    async fn bind(&self, call: Call) -> Result<String, String> {
        let Call { from, cmd, data, .. } = call;
        let fields = vec![("from", Value::from(from.as_str())), ("cmd", Value::from(cmd.as_str()))];
        let event = event(&[BOT], format!("{cmd} {data}"), fields, self.clock.now());
        let decision = decide(&self.table.index(), &event, &Standing::default(), Policy::default());
        match decision.steps.into_iter().next() {
            None => Err(format!("there is no bot bind {cmd} at {}", self.mesh.name())),
            Some(step) => answer(&self.calls, event, data, &step.bind).await,
        }
    }
}

/// What calls are about, as far as one sort must not hold up another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    /// Who acts: whoever is not answered here loses it.
    Lease,
    /// What bots need among themselves, and is soon done.
    Own,
    Event,
    /// Words of people, which take as long as they take.
    Words,
    Work,
    Bind,
}

impl Sort {
    fn of(cmd: &str) -> Sort {
        match cmd {
            LEASE => Sort::Lease,
            LOG | SHARE | SAID | NEED => Sort::Own,
            EVENT => Sort::Event,
            RUN => Sort::Words,
            WORK => Sort::Work,
            _ => Sort::Bind,
        }
    }

    /// So many of one bot run at once.
    fn most(self) -> usize {
        match self {
            Sort::Bind => BINDS_OF_ONE,
            Sort::Work => WORK_OF_ONE,
            _ => OF_ONE,
        }
    }
}

/// Whose turn it is: of all bots behind a link together, and of one of them.
type Whose = (PeerId, Option<BotName>, Sort);

/// What runs for whom: by link and by bot, and by what it is about.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<BTreeMap<Whose, usize>>>);

/// One call that runs.
struct Turn {
    turns: Turns,
    whose: [Whose; 2],
}

impl Turns {
    /// A call begins, if its bot, and all behind that link, have not too many running already.
    fn begin(&self, call: &Call) -> Option<Turn> {
        let sort = Sort::of(&call.cmd);
        let whose = [(call.via, None, sort), (call.via, Some(call.from.clone()), sort)];
        let most = [sort.most() * OF_LINK, sort.most()];
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if whose.iter().zip(most).any(|(whose, most)| running.get(whose).is_some_and(|count| *count >= most)) {
            return None;
        }
        for whose in &whose {
            *running.entry(whose.clone()).or_default() += 1;
        }
        Some(Turn { turns: self.clone(), whose })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        for whose in &self.whose {
            if let Some(count) = running.get_mut(whose) {
                *count -= 1;
                if *count == 0 {
                    running.remove(whose);
                }
            }
        }
    }
}

/// Runs one bind and gives its words.
async fn answer(calls: &Arc<Calls>, event: Event, data: String, bind: &Arc<Bind>) -> Result<String, String> {
    // Where its words go: to nobody but who called.
    let words = Arc::new(Words::default());
    let outlet: Arc<dyn Outlet> = Arc::new(Collecting { words: Arc::clone(&words), calls: Arc::clone(calls) });
    let mut own = EventData::clone(&event);
    (own.text, own.network, own.chan) = (data, Arc::from(NETWORK), Some(Arc::from(NETWORK)));
    let delivery = Delivery { attempt: 1, ..Delivery::default() };
    let done = calls.deliver_to(&Event::new(own), bind, delivery, calls.limit(bind), &outlet).await;
    // What went wrong inside is for our own operators.
    done.map_err(
        |failure| if failure.own_words { failure.reason } else { "it failed there; its log says why".to_owned() },
    )?;
    Ok(std::mem::take(&mut *words.lock().unwrap_or_else(PoisonError::into_inner)).join("\n"))
}

/// What a call is answered with, line by line.
type Words = Mutex<Vec<String>>;

/// Keeps what is said to who called; everything else goes where it always goes.
struct Collecting {
    words: Arc<Words>,
    calls: Arc<Calls>,
}

impl Outlet for Collecting {
    fn perform(&self, action: Action) -> Future<Result<(), Refused>> {
        match action.bare() {
            Action::Say { network, text, .. } if network == NETWORK => {
                let text = self.calls.ledger.hide(text).into_owned();
                self.words.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                Box::pin(std::future::ready(Ok(())))
            }
            _ => self.calls.outlet.perform(action),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Trust;

    #[test]
    fn one_bot_that_asks_for_too_much_holds_up_itself_alone() {
        let turns = Turns::default();
        let call = |from: &str, cmd: &str| called(from, 1, cmd);
        let mut held: Vec<Turn> = Vec::new();
        while let Some(turn) = turns.begin(&call("Evil", SHARE)) {
            held.push(turn);
        }
        assert_eq!(held.len(), OF_ONE);
        assert!(turns.begin(&call("evil", LOG)).is_none() && turns.begin(&call("Good", LOG)).is_some());
        assert!(turns.begin(&call("Evil", "echo")).is_some(), "binds are counted apart");
        held.pop();
        assert!(turns.begin(&call("Evil", SHARE)).is_some());
        held.clear();
        assert!(turns.0.lock().unwrap().is_empty());
    }

    #[test]
    fn whatever_else_a_bot_asks_for_its_vote_counts() {
        let turns = Turns::default();
        for sort in [RUN, EVENT, SHARE, "echo"] {
            let held: Vec<Turn> = std::iter::from_fn(|| turns.begin(&called("Two", 1, sort))).collect();
            assert!(!held.is_empty() && turns.begin(&called("Two", 1, LEASE)).is_some(), "{sort}");
        }
    }

    #[test]
    fn names_that_were_made_up_take_the_places_of_nobody_behind_another_link() {
        let turns = Turns::default();
        let mut held: Vec<Turn> = Vec::new();
        for name in 0..100 {
            held.extend(std::iter::from_fn(|| turns.begin(&called(&format!("Evil{name}"), 1, "slow"))));
        }
        assert!(held.len() <= AT_ONCE / 2, "{} places are taken", held.len());
        assert!(turns.begin(&called("Good", 2, "slow")).is_some());
    }

    fn called(from: &str, via: PeerId, cmd: &str) -> Call {
        Call {
            from: from.parse().unwrap(),
            via,
            trust: Trust::Everybody,
            proven: true,
            id: 1,
            cmd: cmd.to_owned(),
            data: String::new(),
        }
    }
}
