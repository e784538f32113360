//! `.dlq` and `!replay`: what went wrong with events from outside, for those who look after the bot.

use std::sync::Arc;

use masterchief_contract::{
    BindOptions, Event, Future, Handler, HandlerError, HandlerResult, Kind, Outcome, user_error,
};

use super::builtin::OWNER;
use super::calls::Calls;
use super::{replay, words};
use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
use crate::journal::{DeadRow, Journal};

/// Whoever looks after the bot.
const MASTERS: &str = "m|-";
/// Letters that are listed in a channel.
const LISTED: usize = 5;

/// What both need.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) journal: Journal,
    pub(crate) table: BindTable,
    pub(crate) calls: Arc<Calls>,
}

/// The binds, ready for the table.
pub(crate) fn binds(kinds: &Kinds, desk: &Desk) -> Result<Vec<NewBind>, BindFault> {
    let options = |usage: &str, help: &str| BindOptions {
        usage: Some(usage.to_owned()),
        help: Some(help.to_owned()),
        ..BindOptions::default()
    };
    let letters: Arc<dyn Handler> = Arc::new(Letters(desk.clone()));
    let again: Arc<dyn Handler> = Arc::new(Again(desk.clone()));
    let dlq = options(
        "[what:list|show|retry|drop=list] [id:int]",
        "Lists dead letters, shows one, tries one again or drops it",
    );
    let replay = options(
        "<number:int> [--run] [--speak]",
        "Shows what binds would do about an event; --run does it, and says it only with --speak",
    );
    let mut binds = Vec::new();
    for kind in [Kind::Pub, Kind::Msg] {
        for word in [".dlq", "!dlq"] {
            binds.push(NewBind::parse(kinds, kind.name(), MASTERS, word, dlq.clone(), Arc::clone(&letters))?);
        }
        binds.push(NewBind::parse(kinds, kind.name(), MASTERS, "!replay", replay.clone(), Arc::clone(&again))?);
    }
    Ok(binds)
}

/// `.dlq`
struct Letters(Desk);

impl Handler for Letters {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let desk = self.0.clone();
        Box::pin(async move {
            let id = event.arg("id").and_then(|id| id.as_i64());
            let lines = match (event.arg_str("what"), id) {
                ("list", _) => list(&desk).await?,
                (_, None) => return Err(user_error(words::name_a_letter())),
                (what, Some(id)) => {
                    let row = desk.journal.dead_letter(id).await.map_err(HandlerError::internal)?;
                    let row = row.ok_or_else(|| user_error(words::no_such_letter(id)))?;
                    one(&desk, what, row).await?
                }
            };
            Ok(Outcome::Reply(lines))
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

async fn list(desk: &Desk) -> Result<Vec<String>, HandlerError> {
    let rows = desk.journal.dead_letters(LISTED).await.map_err(HandlerError::internal)?;
    let status = desk.journal.status().await.map_err(HandlerError::internal)?;
    Ok(words::letters(&rows, status.dead))
}

async fn one(desk: &Desk, what: &str, row: DeadRow) -> Result<Vec<String>, HandlerError> {
    let (id, bind) = (row.id, row.bind.clone());
    let done = match what {
        "show" => return Ok(words::letter(&row)),
        "retry" => desk.journal.retry(row).await,
        _ => desk.journal.discard(row).await,
    };
    let done = done.map_err(HandlerError::internal)?;
    Ok(vec![match (what, done) {
        ("retry", true) => words::letter_retried(id, &bind),
        ("retry", false) => return Err(user_error(words::letter_cannot_be_retried(id))),
        _ => words::letter_dropped(id),
    }])
}

/// `!replay`
struct Again(Desk);

impl Handler for Again {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let desk = self.0.clone();
        Box::pin(async move {
            let number = event.arg("number").and_then(|number| number.as_u64()).unwrap_or(0);
            let asked = |name: &str| event.arg(name).and_then(|value| value.as_bool()).unwrap_or(false);
            let none = || user_error(words::no_such_event(number));
            if !asked("run") {
                let replayed = replay::dry(&desk.calls, &desk.table, &desk.journal, number).await;
                let replayed = replayed.map_err(HandlerError::internal)?.ok_or_else(none)?;
                let of = |one: replay::Replayed| {
                    let lines = one.lines.into_iter().map(|line| format!("  {line}"));
                    std::iter::once(one.bind).chain(lines).collect::<Vec<_>>()
                };
                let lines: Vec<String> = replayed.into_iter().flat_map(of).collect();
                return Ok(Outcome::Reply(words::dry_replay(number, lines)));
            }
            let binds =
                desk.journal.replay(number, asked("speak")).await.map_err(HandlerError::internal)?.ok_or_else(none)?;
            Ok(Outcome::Reply(vec![words::replayed(number, binds.len(), asked("speak"))]))
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}
