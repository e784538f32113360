//! The mesh in the house: what other bots do becomes events, notes find their people, and who may is looked up in the book.

use std::sync::Arc;

use masterchief_contract::{Actor, CaseMap, Clock, Event, EventData, FlagScope, Future, Inlet, Kind, Shutdown, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use crate::dispatch::BindTable;
use crate::mesh::{self, BOT, BotName, DISC, House, Judge, LINK, Mesh, MeshFault, NOTE, News, Note, Noted, Opening};
use crate::store::Store;
use crate::users::{Book, FlagMask};

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
}

/// Opens the mesh, if one is configured; gives its tasks too.
pub(super) async fn open(around: Around, shutdown: Shutdown) -> Result<Option<(Mesh, Vec<JoinHandle<()>>)>, MeshFault> {
    let Around { settings, store, data, clock, book, table, inlet } = around;
    let house = Arc::new(Rooms {
        book,
        table,
        inlet: inlet.clone(),
        clock: clock.clone(),
        botmaster: FlagMask::parse(BOTMASTER).ok(),
    });
    let opening = Opening { settings, store, data, clock: clock.clone(), house };
    let Some((mesh, mut tasks)) = Mesh::open(opening, shutdown.clone()).await? else { return Ok(None) };
    tasks.push(tokio::spawn(follow(mesh.clone(), inlet, clock, shutdown)));
    Ok(Some((mesh, tasks)))
}

/// What the mesh asks.
struct Rooms {
    book: Book,
    table: BindTable,
    inlet: Inlet,
    clock: Clock,
    botmaster: Option<FlagMask>,
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
        let known = self.book.get(note.to.as_str()).is_some();
        let read = self.table.has_any(&[NOTE]);
        let (inlet, at) = (self.inlet.clone(), self.clock.now());
        Box::pin(async move {
            if !known {
                return Noted::Nobody;
            }
            if !read {
                return Noted::Refused("nobody here reads notes".to_owned());
            }
            let fields = vec![("from", Value::from(note.from.to_string())), ("to", Value::from(note.to.as_str()))];
            match inlet.put(event(&[NOTE], note.text, fields, at)).await {
                Ok(()) => Noted::Shown,
                Err(closed) => Noted::Refused(closed.to_string()),
            }
        })
    }

    fn warn(&self, _bot: &BotName, _text: &str) {
        // The mesh has logged it; a partyline would show it to those who watch bots.
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
