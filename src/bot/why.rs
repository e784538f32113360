//! `!why`: from a line the bot said to what brought it about, for those who look after the channel.
//!
//! `!why` is the last line here, `!why 3` the third last, `!why L1234` a line of that number, `!why MSGID` what the network calls so;
//! as an answer to a message (a client's reply) it means that message.

use std::sync::Arc;

use masterchief_contract::{
    BindOptions, Cause, Event, FlagScope, Future, Handler, HandlerError, HandlerResult, Kind, Outcome, user_error,
};

use super::builtin::OWNER;
use super::ledger::Ledger;
use super::words;
use crate::dispatch::{BindFault, Kinds, NewBind};
use crate::pipelines::Pipelines;
use crate::store::{SaidRow, SaidWhich, Store};
use crate::users::{Book, FlagMask};

/// Whoever looks after the bot or the channel.
const OPERATORS: &str = "o|o";
/// Whoever may see what was said elsewhere.
const EVERYWHERE: &str = "o|-";
/// The word itself.
const WHY: &str = "!why";
/// So many lines are looked through for the one that is meant.
const LOOK: u32 = 64;

/// What it asks.
#[derive(Clone)]
pub(crate) struct Why {
    pub(crate) ledger: Ledger,
    pub(crate) store: Store,
    pub(crate) book: Book,
    pub(crate) pipelines: Pipelines,
}

/// The binds, ready for the table.
pub(crate) fn binds(kinds: &Kinds, why: &Why) -> Result<Vec<NewBind>, BindFault> {
    let options = BindOptions {
        usage: Some("[line]".to_owned()),
        help: Some("Tells why the bot said a line: the last one here, the 3rd last (!why 3), or one by its number (!why L1234)".to_owned()),
        ..BindOptions::default()
    };
    let handler: Arc<dyn Handler> = Arc::new(why.clone());
    [Kind::Pub, Kind::Msg]
        .into_iter()
        .map(|kind| NewBind::parse(kinds, kind.name(), OPERATORS, WHY, options.clone(), Arc::clone(&handler)))
        .collect()
}

impl Handler for Why {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let why = self.clone();
        Box::pin(async move {
            let asked = event.arg_str("line").to_owned();
            // What was said a moment ago is asked about too.
            why.ledger.written().await;
            let row = why.row(&event, &asked).await.map_err(HandlerError::internal)?;
            let row =
                row.filter(|row| why.may_see(&event, row)).ok_or_else(|| user_error(words::no_such_line(&asked)))?;
            let cause: Cause = serde_json::from_str(&row.cause).unwrap_or_default();
            let run = match cause.run {
                0 => None,
                // Without its records the rest is told all the same.
                number => why.pipelines.run(number).await.ok().flatten().map(|(run, _)| run),
            };
            Ok(Outcome::Reply(words::why(&row, &cause, run.as_ref())))
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

impl Why {
    /// The line that is meant.
    async fn row(&self, event: &Event, asked: &str) -> Result<Option<SaidRow>, crate::store::StoreError> {
        let answered = ["+reply", "+draft/reply"].into_iter().find_map(|tag| event.tag(tag));
        if let (true, Some(msgid)) = (asked.is_empty(), answered) {
            return self.store.said_line(&SaidWhich::Msgid(msgid.to_owned())).await;
        }
        let number = asked.strip_prefix(['L', 'l']).and_then(|number| number.parse().ok());
        if let Some(number) = number {
            return self.store.said_line(&SaidWhich::Number(number)).await;
        }
        let nth =
            if asked.is_empty() { Some(1) } else { asked.parse::<u32>().ok().filter(|nth| (1..=LOOK).contains(nth)) };
        match nth {
            Some(nth) => self.last(event, nth).await,
            None => self.store.said_line(&SaidWhich::Msgid(asked.to_owned())).await,
        }
    }

    /// The `nth` last line here, not counting answers to this very question.
    async fn last(&self, event: &Event, mut left: u32) -> Result<Option<SaidRow>, crate::store::StoreError> {
        let network = event.network.to_string();
        let target = event.chan().unwrap_or(event.nick()).to_owned();
        for nth in 1..=LOOK {
            let which = SaidWhich::Last { network: network.clone(), target: target.clone(), nth };
            let Some(row) = self.store.said_line(&which).await? else { return Ok(None) };
            let cause: Cause = serde_json::from_str(&row.cause).unwrap_or_default();
            left -= u32::from(cause.mask != WHY);
            if left == 0 {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// What was said elsewhere is for those who look after the bot everywhere.
    fn may_see(&self, event: &Event, row: &SaidRow) -> bool {
        let here = event.chan().unwrap_or(event.nick());
        if row.network == *event.network && event.casemap.eq(&row.target, here) {
            return true;
        }
        let standing = self.book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let global = FlagMask::parse(EVERYWHERE);
        global.is_ok_and(|mask| standing.allows(&mask, FlagScope::Channel, &event.network, event.chan(), event.casemap))
    }
}
