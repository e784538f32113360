//! The mesh in the house: what other bots do becomes events, notes find their people, and who may is looked up in the book.

mod calls;
mod lead;
mod log;
mod need;
mod relay;
mod run;
mod share;
mod take;

use std::sync::{Arc, OnceLock};

use masterchief_contract::{Actor, CaseMap, Clock, Event, EventData, FlagScope, Future, Inlet, Kind, Shutdown, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::calls::{Answering, WAITING};
use self::lead::{Ground, Leases};
use self::log::Logs;
use self::run::Running;
use self::share::Shared;
use self::take::Takes;
use crate::bot::StartError;
use crate::bot::calls::Calls;
use crate::bot::outbox::Outbox;
use crate::bot::policy::Policy;
use crate::bot::runners::Runners;
use crate::dispatch::BindTable;
use crate::gateway::Door;
use crate::mesh::{
    self, Address, BOT, BotName, Call, DISC, Gift, House, Judge, LINK, Mesh, News, Note, Noted, Opening, Trust,
};
use crate::partyline::{Left, Party, deliver_note};
use crate::pipelines::Pipelines;
use crate::store::Store;
use crate::users::{Book, FlagMask};

pub(crate) use self::log::{forget_told, verify_told};
pub(super) use self::need::bind as bind_need;
pub(super) use self::relay::Relays;
pub(super) use self::run::Desk;
pub(super) use self::share::forget_key;

/// What somebody needs who links and unlinks bots from afar: Eggdrop's botmaster.
const BOTMASTER: &str = "t|-";

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
    pub(super) outbox: Outbox,
    pub(super) party: Party,
    /// Where events of other bots come in.
    pub(super) door: Door,
    /// What is done here for other bots.
    pub(super) runners: Runners,
    pub(super) pipelines: Pipelines,
    /// What people of other bots must not break, once it is known.
    pub(super) policy: Arc<OnceLock<Policy>>,
}

/// Opens the mesh, if one is configured; gives its tasks too.
pub(super) async fn open(
    around: Around,
    shutdown: Shutdown,
) -> Result<Option<(Mesh, Vec<JoinHandle<()>>)>, StartError> {
    let Around {
        settings,
        store,
        data,
        clock,
        book,
        table,
        inlet,
        calls,
        outbox,
        party,
        door,
        runners,
        pipelines,
        policy,
    } = around;
    let running = Running::new(Arc::clone(&calls), table.clone(), book.clone(), outbox.desk.clone(), clock.clone());
    let (called, waiting) = mpsc::channel(WAITING);
    let takes = Takes::new(store.clone(), book.clone(), clock.clone(), party.clone(), Arc::clone(&policy));
    let house = Arc::new(Rooms {
        takes: takes.clone(),
        book: book.clone(),
        botmaster: FlagMask::parse(BOTMASTER).ok(),
        party: party.clone(),
        store: store.clone(),
        called,
    });
    // A group that is not one governs its network all the same: nobody acts there.
    let group = |network: &String| settings.group(network).ok().map(|group| (network.clone(), group));
    let groups = settings.groups.keys().filter_map(group).collect();
    let leads = outbox.leads.clone();
    let opening = Opening { settings, store: store.clone(), data, clock: clock.clone(), house, leads };
    let Some((mesh, mut tasks)) = Mesh::open(opening, shutdown.clone()).await? else { return Ok(None) };
    takes.join(&mesh);
    tasks.push(tokio::spawn(outbox.desk.clone().send_later(mesh.clone(), shutdown.clone())));
    let people = share::Ground { mesh: mesh.clone(), store: store.clone(), book, clock: clock.clone(), policy };
    let (shared, sharing) = Shared::open(people, shutdown.clone()).await?;
    tasks.push(sharing);
    let ground = log::Ground {
        mesh: mesh.clone(),
        shared: shared.clone(),
        store: store.clone(),
        clock: clock.clone(),
        pipelines,
        party: party.clone(),
    };
    let (logs, telling) = Logs::open(ground, shutdown.clone());
    tasks.push(telling);
    let notes = (party.clone(), store.clone());
    let ground = Ground { mesh: mesh.clone(), outbox: outbox.clone(), store, clock: clock.clone(), party };
    let (leases, leasing) = Leases::open(groups, ground, &shutdown).await;
    tasks.extend(leasing);
    let (own, at) = (mesh.clone(), clock.clone());
    let answering =
        Answering { mesh: own, calls, table, clock: at, outbox, running, leases, shared, logs, door, runners, notes };
    tasks.push(tokio::spawn(answering.run(waiting, shutdown.clone())));
    tasks.push(tokio::spawn(follow(mesh.clone(), inlet, clock, shutdown)));
    Ok(Some((mesh, tasks)))
}

/// What the mesh asks.
struct Rooms {
    /// What takes people of Eggdrops over.
    takes: Takes,
    book: Book,
    botmaster: Option<FlagMask>,
    /// Where notes are shown, and what linked bots do to operators.
    party: Party,
    /// Where notes wait.
    store: Store,
    /// Where calls of others go.
    called: mpsc::Sender<Call>,
}

impl Judge for Rooms {
    fn is_botmaster(&self, handle: &str, trust: Trust) -> bool {
        // The bots on the way have vouched for who that is; what they may is for our own book to say. Nobody is the console.
        let known = self.book.get(handle).is_some_and(|user| trust.covers(&self.book, &user));
        let Some(mask) = self.botmaster.as_ref().filter(|_| known) else { return false };
        let actor = Actor { nick: handle.to_owned(), login: Some(handle.to_owned()), ..Actor::default() };
        let standing = self.book.recognise(Some(&actor), "", CaseMap::Rfc1459);
        standing.allows(mask, FlagScope::AnyChannel, "", None, CaseMap::Rfc1459)
    }
}

impl House for Rooms {
    fn note(&self, note: Note) -> Future<Noted> {
        let known = self.book.get(note.to.as_str());
        let (party, store) = (self.party.clone(), self.store.clone());
        Box::pin(async move {
            let Some(user) = known else { return Noted::Nobody };
            // The number of their session there says nothing here, and nobody could answer to it.
            let from = Address { sock: None, ..note.from }.to_string();
            match deliver_note(&party, &store, &user.handle, &from, &note.text).await {
                Ok(Left::Shown) => Noted::Shown,
                Ok(Left::Kept) => Noted::Stored,
                Ok(Left::KeptAway) => Noted::StoredAway,
                Ok(Left::Taken) => Noted::Taken,
                Ok(Left::Unwanted) => Noted::Refused("they take no notes of yours".to_owned()),
                Ok(Left::TooLong) => Noted::Refused("it is too long".to_owned()),
                Ok(Left::TooMany) => Noted::Refused("too many notes wait already".to_owned()),
                Err(fault) => {
                    tracing::error!(%fault, "A note of a linked bot could not be kept");
                    Noted::Refused("it could not be kept; try again later".to_owned())
                }
            }
        })
    }

    fn called(&self, call: Call) -> bool {
        self.called.try_send(call).is_ok()
    }

    fn given(&self, bot: BotName, gift: Gift) -> Future<Result<(), String>> {
        let takes = self.takes.clone();
        Box::pin(async move { takes.take(&bot, gift).await })
    }

    fn warn(&self, bot: &BotName, text: &str) {
        self.party.log('b', tracing::Level::WARN, &format!("{bot}: {text}"));
    }
}

/// Makes events of what other bots do.
async fn follow(mesh: Mesh, inlet: Inlet, clock: Clock, mut shutdown: Shutdown) {
    let mut news = mesh.news();
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
            News::Lost { bot, reason } => event(&[DISC], reason.clone(), vec![("bot", Value::from(bot.as_str()))], at),
            _ => continue,
        };
        if inlet.put(event).await.is_err() {
            return;
        }
    }
}

/// An event of the mesh.
pub(super) fn event(
    kinds: &'static [Kind],
    text: String,
    fields: Vec<(&'static str, Value)>,
    at: chrono::DateTime<chrono::Utc>,
) -> Event {
    let mut data = EventData::new(kinds, at);
    (data.text, data.fields) = (text, fields);
    Event::new(data)
}
