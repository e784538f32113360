//! The mesh in the house: what other bots do becomes events, notes find their people, and who may is looked up in the book.

use std::sync::{Arc, Mutex, PoisonError};

use masterchief_contract::{
    Action, Actor, CaseMap, Clock, Delivery, Event, EventData, FlagScope, Future, Inlet, Kind, Outlet, Refused,
    Shutdown, Value,
};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::calls::Calls;
use super::meshrun::{Desk, Running};
use crate::dispatch::{Bind, BindTable, Policy, decide};
use crate::mesh::{
    self, BOT, BotName, DISC, House, Judge, LINK, Mesh, MeshFault, NETWORK, NOTE, News, Note, Noted, Opening, RUN,
};
use crate::partyline::{Left, Party, leave_note};
use crate::store::Store;
use crate::users::{Book, FlagMask, Standing};

/// What somebody needs who links and unlinks bots from afar: Eggdrop's botmaster.
const BOTMASTER: &str = "t|-";
/// Calls of others that run at once.
const CALLS_AT_ONCE: usize = 64;

/// What the mesh is opened with by the bot.
pub(super) struct Around {
    pub(super) settings: mesh::Settings,
    pub(super) store: Store,
    pub(super) data: Option<std::path::PathBuf>,
    pub(super) clock: Clock,
    pub(super) book: Book,
    pub(super) table: BindTable,
    pub(super) inlet: Inlet,
    pub(super) calls: Arc<Calls>,
    pub(super) desk: Desk,
    pub(super) party: Party,
}

/// Opens the mesh, if one is configured; gives its tasks too.
pub(super) async fn open(around: Around, shutdown: Shutdown) -> Result<Option<(Mesh, Vec<JoinHandle<()>>)>, MeshFault> {
    let Around { settings, store, data, clock, book, table, inlet, calls, desk, party } = around;
    let called = table.clone();
    let running = Running::new(Arc::clone(&calls), table.clone(), book.clone(), desk, clock.clone());
    let house = Arc::new(Rooms {
        book,
        table,
        inlet: inlet.clone(),
        clock: clock.clone(),
        botmaster: FlagMask::parse(BOTMASTER).ok(),
        party,
        store: store.clone(),
    });
    let opening = Opening { settings, store, data, clock: clock.clone(), house };
    let Some((mesh, mut tasks)) = Mesh::open(opening, shutdown.clone()).await? else { return Ok(None) };
    tasks.push(tokio::spawn(follow(mesh.clone(), running, inlet, clock, calls, called, shutdown)));
    Ok(Some((mesh, tasks)))
}

/// What the mesh asks.
struct Rooms {
    book: Book,
    table: BindTable,
    inlet: Inlet,
    clock: Clock,
    botmaster: Option<FlagMask>,
    /// Where notes are shown, and what linked bots do to operators.
    party: Party,
    /// Where notes wait.
    store: Store,
}

impl Judge for Rooms {
    fn is_botmaster(&self, handle: &str) -> bool {
        // The bots on the way have vouched for who that is; what they may is for our own book to say. Nobody is the console.
        let Some(mask) = self.botmaster.as_ref().filter(|_| self.book.get(handle).is_some()) else { return false };
        let actor = Actor { nick: handle.to_owned(), login: Some(handle.to_owned()), ..Actor::default() };
        let standing = self.book.recognise(Some(&actor), "", CaseMap::Rfc1459);
        standing.allows(mask, FlagScope::AnyChannel, "", None, CaseMap::Rfc1459)
    }
}

impl House for Rooms {
    fn note(&self, note: Note) -> Future<Noted> {
        let known = self.book.get(note.to.as_str());
        let read = self.table.has_any(&[NOTE]);
        let (inlet, at) = (self.inlet.clone(), self.clock.now());
        let (party, store) = (self.party.clone(), self.store.clone());
        Box::pin(async move {
            let Some(user) = known else { return Noted::Nobody };
            let from = note.from.to_string();
            if read {
                let fields = vec![("from", Value::from(from.as_str())), ("to", Value::from(note.to.as_str()))];
                if let Err(closed) = inlet.put(event(&[NOTE], note.text.clone(), fields, at)).await {
                    return Noted::Refused(closed.to_string());
                }
            }
            match leave_note(&party, &store, &user.handle, &from, &note.text).await {
                Ok(Left::Shown) => Noted::Shown,
                Ok(Left::Kept) => Noted::Stored,
                Ok(Left::KeptAway) => Noted::StoredAway,
                Ok(Left::TooLong) => Noted::Refused("it is too long".to_owned()),
                Ok(Left::TooMany) => Noted::Refused("too many notes wait already".to_owned()),
                Err(fault) => {
                    tracing::error!(%fault, "A note of a linked bot could not be kept");
                    Noted::Refused("it could not be kept; try again later".to_owned())
                }
            }
        })
    }

    fn warn(&self, bot: &BotName, text: &str) {
        self.party.log('b', tracing::Level::WARN, &format!("{bot}: {text}"));
    }
}

/// Makes events of what other bots do.
async fn follow(
    mesh: Mesh,
    running: Running,
    inlet: Inlet,
    clock: Clock,
    calls: Arc<Calls>,
    table: BindTable,
    mut shutdown: Shutdown,
) {
    let mut news = mesh.news();
    let calling = Calling {
        mesh: mesh.clone(),
        calls,
        table,
        clock: clock.clone(),
        places: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
    };
    loop {
        let next = tokio::select! {
            () = shutdown.recv() => return,
            next = news.recv() => next,
        };
        let news = match next {
            Ok(news) => news,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "The mesh is faster than the street; some of what other bots did has no events");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let at = clock.now();
        let event = match &*news {
            News::Script { from, code, args } => {
                let fields = vec![("from", Value::from(from.as_str())), ("cmd", Value::from(code.as_str()))];
                event(&[BOT], format!("{code} {args}"), fields, at)
            }
            News::Linked { bot, via } => {
                let fields = vec![("bot", Value::from(bot.as_str())), ("via", Value::from(via.as_str()))];
                event(&[LINK], String::new(), fields, at)
            }
            News::Called { from, trusted, id, cmd, data } if cmd == RUN => {
                let (mesh, running, from) = (mesh.clone(), running.clone(), from.clone());
                let (trusted, id, data) = (*trusted, *id, data.clone());
                tokio::spawn(async move {
                    let result = running.run(&from, trusted, &data).await;
                    mesh.answer(&from, id, result).await;
                });
                continue;
            }
            News::Called { from, id, cmd, data, .. } => {
                calling.begin(from.clone(), *id, cmd.clone(), data.clone());
                continue;
            }
            News::Lost { bot, reason } => event(&[DISC], reason.clone(), vec![("bot", Value::from(bot.as_str()))], at),
            _ => continue,
        };
        if inlet.put(event).await.is_err() {
            return;
        }
    }
}

/// Calls of others of us, each answered by the bind that it names.
struct Calling {
    mesh: Mesh,
    calls: Arc<Calls>,
    table: BindTable,
    clock: Clock,
    places: Arc<Semaphore>,
}

impl Calling {
    /// Runs the bind in a task of its own, and answers with what it says or with its fault.
    fn begin(&self, from: BotName, id: u32, cmd: String, data: String) {
        let mesh = self.mesh.clone();
        let fields = vec![("from", Value::from(from.as_str())), ("cmd", Value::from(cmd.as_str()))];
        let event = event(&[BOT], format!("{cmd} {data}"), fields, self.clock.now());
        let decision = decide(&self.table.index(), &event, &Standing::default(), Policy::default());
        let step = decision.steps.into_iter().next();
        let (place, calls) = (Arc::clone(&self.places).try_acquire_owned(), Arc::clone(&self.calls));
        tokio::spawn(async move {
            let result = match (step, place) {
                (None, _) => Err(format!("there is no bot bind {cmd} at {}", mesh.name())),
                (_, Err(_)) => Err("too many calls are running here; try again later".to_owned()),
                (Some(step), Ok(_place)) => answer(&calls, event, data, &step.bind).await,
            };
            mesh.answer(&from, id, result).await;
        });
    }
}

/// Runs one bind and gives its words.
async fn answer(calls: &Calls, event: Event, data: String, bind: &Arc<Bind>) -> Result<String, String> {
    // Where its words go: to nobody but who called.
    let words = Arc::new(Words::default());
    let outlet: Arc<dyn Outlet> = Arc::new(Collecting { words: Arc::clone(&words), outlet: Arc::clone(&calls.outlet) });
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
    outlet: Arc<dyn Outlet>,
}

impl Outlet for Collecting {
    fn perform(&self, action: Action) -> Future<Result<(), Refused>> {
        match action {
            Action::Say { network, text, .. } if network == NETWORK => {
                self.words.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                Box::pin(std::future::ready(Ok(())))
            }
            action => self.outlet.perform(action),
        }
    }
}

fn event(
    kinds: &'static [Kind],
    text: String,
    fields: Vec<(&'static str, Value)>,
    at: chrono::DateTime<chrono::Utc>,
) -> Event {
    let mut data = EventData::new(kinds, at);
    (data.text, data.fields) = (text, fields);
    Event::new(data)
}
