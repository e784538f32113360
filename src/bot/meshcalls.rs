//! What other MasterChiefs call this one for: binds of scripts, words of people, leases, shared users, events. Each call is
//! answered in a task of its own.

use std::sync::{Arc, Mutex, PoisonError};

use masterchief_contract::{Action, Clock, Delivery, Event, EventData, Future, Outlet, Refused, Shutdown, Value};
use tokio::sync::{Semaphore, mpsc};

use super::calls::Calls;
use super::lead::Leases;
use super::mesh::event;
use super::meshlog::Logs;
use super::meshrelay;
use super::meshrun::Running;
use super::meshshare::Shared;
use super::runners::Runners;
use crate::dispatch::{Bind, BindTable, Policy, decide};
use crate::gateway::Door;
use crate::irc::Around as _;
use crate::mesh::{BOT, Call, EVENT, LEASE, LOG, Mesh, NETWORK, RUN, SHARE, WORK};
use crate::users::Standing;

/// Calls of others that run at once.
const AT_ONCE: usize = 64;
/// Calls that wait to be begun; whoever calls beyond that is told to come again.
pub(super) const WAITING: usize = 1024;

/// Whoever answers.
pub(super) struct Answering {
    pub(super) mesh: Mesh,
    pub(super) calls: Arc<Calls>,
    pub(super) table: BindTable,
    pub(super) clock: Clock,
    pub(super) running: Running,
    pub(super) leases: Leases,
    pub(super) shared: Shared,
    pub(super) logs: Logs,
    /// Where events of others come in.
    pub(super) door: Door,
    /// What is done here for other bots.
    pub(super) runners: Runners,
}

impl Answering {
    /// Answers until shutdown.
    pub(super) async fn run(self, mut calls: mpsc::Receiver<Call>, mut shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let all = Arc::new(self);
        loop {
            let call = tokio::select! {
                () = shutdown.recv() => return,
                call = calls.recv() => call,
            };
            let Some(call) = call else { return };
            let (all, place) = (Arc::clone(&all), Arc::clone(&places).try_acquire_owned());
            tokio::spawn(async move {
                let (from, id) = (call.from.clone(), call.id);
                let result = match call.cmd.as_str() {
                    // What the bots themselves need is not held up by what scripts call.
                    LEASE => all.leases.answer(&call).await,
                    LOG => all.logs.answer(&call).await,
                    SHARE => all.shared.answer(&call).await,
                    WORK => {
                        // Who follows a step waits long.
                        drop(place);
                        all.runners.answer(&call, &all.mesh).await
                    }
                    EVENT => meshrelay::receive(&all.door, &call).await,
                    RUN => all.running.run(&call.from, call.trusted, &call.data).await,
                    _ => match place {
                        Ok(_place) => all.bind(call).await,
                        Err(_) => Err("too many calls are running here; try again later".to_owned()),
                    },
                };
                all.mesh.answer(&from, id, result).await;
            });
        }
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
