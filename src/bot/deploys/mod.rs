//! The words for pipelines: `!deploy` and all that belongs to it, in channels and in private. What they do is the engine's.

mod around;
mod follow;
mod said;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use masterchief_contract::{
    Actor, BindId, BindOptions, Call, Event, EventData, Future, Handler, HandlerResult, Kind, Outcome, Outlet, Who,
    closest,
};

use super::triggers;
use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
use crate::pipelines::{Asker, Catalog, DeployWords, May, Pipelines, Refusal};
use crate::users::Book;
use said::Said;

pub(crate) use said::Undone;

pub(crate) use around::Surroundings;
pub(crate) use follow::{ANCHOR, anchor, follow, purge, tell_binds, watch_networks};

/// The owner of these binds.
pub(crate) const OWNER: &str = "pipelines";
/// How long a word may take: a repository may have to be asked.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Who somebody at this machine is.
pub(crate) const MACHINE: &str = "console";

/// Every word: how it is written after it, what it does, and its meaning here.
const WORDS: &[(&str, &str, &str, Verb)] = &[
    ("!deploy", "APP[/REF] [to ENV] [name=value] [--skip STAGE]", "Starts a deployment", Verb::Deploy),
    ("!deploy!", "APP[/REF] to ENV WHY", "Starts a deployment although something forbids it now", Verb::Override),
    ("!yes", "RUN", "Says yes to what was understood", Verb::Yes),
    ("!abort", "RUN", "Stops a run", Verb::Abort),
    ("!drop", "RUN", "Takes a run out of the queue", Verb::Abort),
    ("!retry", "RUN [STAGE]", "Goes on with a run where it failed", Verb::Retry),
    ("!rollback", "RUN | APP ENV", "Undoes what a run did", Verb::Rollback),
    ("!approve", "RUN CODE", "Agrees to what was shown with this code", Verb::Approve),
    ("!reject", "RUN WHY", "Does not agree", Verb::Reject),
    ("!promote", "RUN", "Goes on although a stage is held", Verb::Promote),
    ("!pause", "RUN [WHY]", "Lets nothing more of a run begin", Verb::Pause),
    ("!resume", "RUN", "Lets a run that was paused go on", Verb::Resume),
    ("!skip!", "RUN [STAGE] WHY", "Passes a window, a freeze or a wait that a run waits for", Verb::Pass),
    ("!lock", "APP/ENV [2h|+1h] WHY", "Locks a place", Verb::Lock),
    ("!unlock", "APP/ENV", "Takes one's lock away", Verb::Unlock),
    ("!unlock!", "APP/ENV WHY", "Takes somebody else's lock away", Verb::Break),
    ("!queue", "RUN | APP", "Waits behind a lock, or shows who waits", Verb::Queue),
    ("!again", "RUN", "Asks for the same once more", Verb::Again),
    ("!freeze", "ENV|APP/ENV|* [2d] WHY", "Forbids deployments", Verb::Freeze),
    ("!thaw", "ENV|APP/ENV|*", "Ends a freeze", Verb::Thaw),
    ("!at", "[DAY] 08:00 deploy APP to ENV", "Books a deployment", Verb::At),
    ("!booked", "[APP]", "Lists what is booked", Verb::Booked),
    ("!unbook", "B-N", "Calls off what is booked", Verb::Unbook),
    ("!who", "APP", "Shows what is where", Verb::Who),
    ("!whatson", "[ENV] [1h]", "Shows what changed lately, and the alerts since", Verb::Whatson),
    ("!deploys", "APP [ENV] [N]", "Lists the newest runs", Verb::Deploys),
    ("!run", "RUN", "Shows a run", Verb::Run),
    ("!diff", "RUN", "Shows the commits of a run", Verb::Diff),
    ("!tail", "RUN [STAGE]", "Sends you the end of a log in private", Verb::Tail),
    ("!log", "APP [TEXT] | amend L-N TEXT", "Writes into the incident log, or reads it", Verb::Log),
    ("!sal", "APP [today|7d]", "Reads the incident log, of linked bots too", Verb::Sal),
    ("!dora", "APP [30d]", "Tells how often and how well an app is deployed", Verb::Dora),
    ("!predict", "APP [ENV]", "Tells how likely a deployment is to fail, and how good that is foretold", Verb::Predict),
    ("!flaky", "APP [30d]", "Tells what fails most", Verb::Flaky),
    ("!slots", "", "Shows what stages share, and who holds it", Verb::Slots),
    ("!apps", "", "Lists what can be deployed, and where to", Verb::Apps),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Deploy,
    Override,
    Yes,
    Abort,
    Retry,
    Rollback,
    Approve,
    Reject,
    Promote,
    Pause,
    Resume,
    Pass,
    Lock,
    Unlock,
    Break,
    Queue,
    Again,
    Freeze,
    Thaw,
    At,
    Booked,
    Unbook,
    Who,
    Whatson,
    Deploys,
    Run,
    Diff,
    Tail,
    Log,
    Sal,
    Dora,
    Predict,
    Flaky,
    Slots,
    Apps,
}

/// Whether this is one of the words for pipelines.
pub(crate) fn is_word(word: &str) -> bool {
    WORDS.iter().any(|(known, ..)| *known == word)
}

/// Whether somebody may say this word and what stands behind it, as far as that can be told without a run: for tables of who may
/// what. Where the word wants a run, the place stands in its stead: `!approve shop/prod`.
pub(crate) fn permits(
    catalog: &Catalog,
    groups: &BTreeMap<String, Vec<String>>,
    (word, text): (&str, &str),
    (who, may): (&Asker, &May),
) -> Result<(), Refusal> {
    let Some((.., verb)) = WORDS.iter().find(|(known, ..)| *known == word) else {
        return Err(Refusal::unknown(format!("there is no {word}")));
    };
    if matches!(verb, Verb::Deploy | Verb::Override) {
        return catalog.permits_deploy(DeployWords::parse(text, *verb == Verb::Override)?, who, may);
    }
    if verb.looks() {
        return Ok(());
    }
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or("");
    let place = first.split_once('/').or_else(|| Some((first, words.next()?)));
    let Some((app, env)) = place.filter(|(app, _)| !app.is_empty()) else {
        return Err(Refusal::wrong(format!("write the place behind it, as in {word} shop/prod")));
    };
    match verb {
        Verb::Approve | Verb::Reject => {
            catalog.permits_agreeing(app, env, may, |name| may.is_named(name, &who.handle, groups))
        }
        _ => catalog.permits_acting(app, env, may),
    }
}

impl Verb {
    /// Whether it only shows something.
    fn looks(self) -> bool {
        use Verb::{Apps, Booked, Deploys, Diff, Dora, Flaky, Run, Sal, Slots, Tail, Whatson, Who};
        matches!(self, Who | Whatson | Deploys | Run | Diff | Tail | Sal | Dora | Flaky | Slots | Apps | Booked)
    }
}

/// Binds the words if there are pipelines, and takes them away if there are none.
pub(crate) fn bind(kinds: &Kinds, table: &BindTable, pipelines: &Pipelines, book: &Book) -> Result<(), BindFault> {
    let mut binds = Vec::new();
    if !pipelines.catalog().is_empty() {
        for (word, usage, help, verb) in WORDS {
            let handler: Arc<dyn Handler> =
                Arc::new(Word { pipelines: pipelines.clone(), book: book.clone(), verb: *verb, usage });
            let help = if usage.is_empty() { (*help).to_owned() } else { format!("{usage}: {help}") };
            let options = BindOptions { help: Some(help), timeout: Some(TIMEOUT), ..BindOptions::default() };
            for kind in [Kind::Pub, Kind::Msg] {
                binds.push(NewBind::parse(kinds, kind.name(), "-|-", word, options.clone(), Arc::clone(&handler))?);
            }
        }
    }
    if !pipelines.catalog().is_empty() {
        for kind in [Kind::Nick, Kind::Sign, Kind::Splt, Kind::Rejn, Kind::Join, Kind::Account] {
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

/// Somebody left, was lost, is back, or has another nick or account now.
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

struct Word {
    pipelines: Pipelines,
    book: Book,
    verb: Verb,
    usage: &'static str,
}

impl Handler for Word {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let said = Said {
            pipelines: self.pipelines.clone(),
            may: May::of(&self.book, &event),
            who: Asker::of(&event),
            usage: self.usage,
            event,
        };
        let verb = self.verb;
        Box::pin(async move { Ok(said.answer(verb).await?) })
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
    let Some((_, usage, _, verb)) = WORDS.iter().find(|(known, ..)| known.trim_start_matches('!') == word) else {
        let names: Vec<&str> = WORDS.iter().map(|(known, ..)| known.trim_start_matches('!')).collect();
        let close = closest(word, names.iter().copied()).map(|close| format!("; did you mean {close}?"));
        return Err(Refusal::wrong(format!("there is no {word:?}{}", close.unwrap_or_default())).into());
    };
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
    Said { pipelines: pipelines.clone(), may: May::all(), who, usage, event }.answer(*verb).await
}
