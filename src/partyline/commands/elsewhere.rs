//! What is taken on the partyline alone, where somebody gives it in private on a network: one sentence says where to give it.

use std::sync::Arc;

use masterchief_contract::{BindOptions, Event, Future, Handler, HandlerResult, Kind, Outcome};

use super::asked::{Asked, Desk};
use super::{Command, Reach};
use crate::dispatch::{BindFault, Kinds, NewBind};
use crate::partyline::masters::ENTRANCE;

/// The origin of these binds: they are no commands, and no help lists them.
pub const ELSEWHERE: &str = "partyline, elsewhere";

/// The bind that says so of one command.
pub(super) fn bind(kinds: &Kinds, desk: &Arc<Desk>, row: &'static Command) -> Result<NewBind, BindFault> {
    let handler: Arc<dyn Handler> = Arc::new(Elsewhere { desk: Arc::clone(desk), row });
    // Open to everybody, since what is given under flags is written down with its words, and a password may be among them.
    NewBind::parse(kinds, Kind::Msg.name(), "-|-", &format!(".{}", row.name), BindOptions::default(), handler)
}

/// A command as a sentence.
struct Elsewhere {
    desk: Arc<Desk>,
    row: &'static Command,
}

impl Handler for Elsewhere {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let asked = Asked::new(Arc::clone(&self.desk), event);
        // Strangers hear nothing of what there is.
        let known = asked.standing.who.vouched && asked.may(ENTRANCE, None);
        let lines = if known { vec![sentence(self.row)] } else { Vec::new() };
        Box::pin(std::future::ready(Ok(Outcome::Reply(lines))))
    }

    fn origin(&self) -> String {
        ELSEWHERE.to_owned()
    }
}

fn sentence(row: &Command) -> String {
    let name = row.name;
    let mut text =
        format!(".{name} is taken on the partyline only: log in there, by telnet or an IRC client, and type it there");
    if matches!(row.reach, Reach::Secret(_)) {
        text.push_str("; a password that stood behind it was read on its way here, so take another");
    }
    text
}
