//! The words for pipelines: `!deploy` and all that belongs to it, in channels and in private. What they do is the engine's.

mod around;
mod follow;
mod said;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{
    Actor, BindId, BindOptions, Call, Event, EventData, Future, Handler, HandlerResult, Kind, Outcome, Outlet, Who,
};

use super::triggers;
use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
use crate::pipelines::{Asker, May, Pipelines, WORDS, row};
use crate::users::Book;
use said::Word;

pub(crate) use said::Undone;

pub(crate) use around::Surroundings;
pub(crate) use follow::{ANCHOR, anchor, follow, purge, tell_binds, watch_networks};

/// The owner of these binds.
pub(crate) const OWNER: &str = "pipelines";
/// How long a word may take: a repository may have to be asked.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Who somebody at this machine is.
pub(crate) const MACHINE: &str = "console";

/// Binds the words if there are pipelines, and takes them away if there are none.
pub(crate) fn bind(kinds: &Kinds, table: &BindTable, pipelines: &Pipelines, book: &Book) -> Result<(), BindFault> {
    let mut binds = Vec::new();
    if !pipelines.catalog().is_empty() {
        for (word, usage, help, _) in WORDS {
            let handler: Arc<dyn Handler> = Arc::new(Words { pipelines: pipelines.clone(), book: book.clone(), word });
            let help = if usage.is_empty() { (*help).to_owned() } else { format!("{usage}: {help}") };
            let options = BindOptions { help: Some(help), timeout: Some(TIMEOUT), ..BindOptions::default() };
            for kind in [Kind::Pub, Kind::Msg] {
                binds.push(NewBind::parse(kinds, kind.name(), "-|-", word, options.clone(), Arc::clone(&handler))?);
            }
        }
    }
    if !pipelines.catalog().is_empty() {
        for kind in [Kind::Nick, Kind::Sign, Kind::Splt, Kind::Rejn, Kind::Join, Kind::Account, Kind::Redact] {
            let handler: Arc<dyn Handler> = Arc::new(Seen { pipelines: pipelines.clone(), book: book.clone() });
            binds.push(NewBind::parse(kinds, kind.name(), "-|-", "*", BindOptions::default(), handler)?);
        }
    }
    let (more, faults) = triggers::binds(kinds, pipelines);
    binds.extend(more);
    for (app, fault) in faults {
        tracing::error!(%app, %fault, "A trigger of a pipeline cannot be bound; the others are there");
    }
    table.replace(OWNER, binds);
    Ok(())
}

/// Somebody left, was lost, is back, or has another nick or account now; or takes their words back.
struct Seen {
    pipelines: Pipelines,
    book: Book,
}

impl Handler for Seen {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let (pipelines, book) = (self.pipelines.clone(), self.book.clone());
        Box::pin(async move {
            match event.kind() {
                Kind::Nick | Kind::Sign => pipelines.gone(&event.network, event.nick()).await,
                Kind::Splt => pipelines.lost(&event.network, event.nick()).await,
                Kind::Redact => pipelines.redacted(&event.network, event.field_str("msgid")).await,
                _ => {
                    if let Some(who) = vouched(&book, &event) {
                        pipelines.found(who).await;
                    }
                }
            }
            Ok(Outcome::Nothing)
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

/// Who came, if somebody who can know vouches for them from now on.
fn vouched(book: &Book, event: &Event) -> Option<Asker> {
    let mut actor = event.actor.clone()?;
    if event.kind() == Kind::Account {
        // Who logs in had no account, or another.
        actor.account = Some(event.field_str("newaccount").to_owned()).filter(|account| account != "*");
    }
    let who = book.recognise(Some(&actor), &event.network, event.casemap).who;
    let handle = who.handle.filter(|_| who.vouched)?.to_string();
    Some(Asker { handle, account: actor.account, ..Asker::of(event) })
}

struct Words {
    pipelines: Pipelines,
    book: Book,
    word: &'static str,
}

impl Handler for Words {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let word = Word {
            pipelines: self.pipelines.clone(),
            may: May::of(&self.book, &event),
            book: Some(self.book.clone()),
            who: Asker::of(&event),
            word: self.word,
            event,
        };
        Box::pin(async move { Ok(word.answer().await?) })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

/// Does what a word does for somebody at this machine, who may do everything; the answer is told to `outlet`, and given.
pub(crate) async fn at_this_machine(
    pipelines: &Pipelines,
    word: &str,
    text: &str,
    outlet: Arc<dyn Outlet>,
) -> Result<Outcome, Undone> {
    let (known, ..) = row(word)?;
    let actor = Actor { nick: MACHINE.to_owned(), login: Some(MACHINE.to_owned()), ..Actor::default() };
    let data = EventData {
        actor: Some(actor),
        text: text.to_owned(),
        network: Arc::from(MACHINE),
        ..EventData::new(&[Kind::Msg], Utc::now())
    };
    let call = Call {
        bind: BindId(0),
        kind: Kind::Msg,
        mask: Arc::from(word),
        who: Who { handle: Some(Arc::from(MACHINE)), vouched: true },
        text_at: 0,
        args: Default::default(),
        trace: Arc::from(""),
        outlet,
        to: None,
        delivery: None,
    };
    let event = Event::new(data).for_call(call);
    let who =
        Asker { handle: MACHINE.to_owned(), nick: MACHINE.to_owned(), origin: "cli".to_owned(), ..Asker::default() };
    Word { pipelines: pipelines.clone(), may: May::all(), book: None, who, word: known, event }.answer().await
}
