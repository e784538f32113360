//! `.boot`: ends somebody's sessions.

use masterchief_contract::HandlerError;

use super::asked::rank;
use super::{Asked, Command, Reach, sorry};
use crate::partyline::here::is_console;
use crate::partyline::party::NETWORK;
use masterchief_contract::CaseMap;

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "boot",
    flags: "t",
    usage: "<nick> [words...]",
    help: "Ends a session, by name or number; nobody ends that of somebody above",
    reach: Reach::Anywhere,
    run: |asked| Box::pin(async move { boot(&asked) }),
}];

fn boot(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let (who, words) = (asked.arg("nick"), asked.arg("words"));
    let party = &asked.desk.party;
    let number: Option<u32> = who.parse().ok();
    let same = |nick: &str| CaseMap::Rfc1459.eq(nick, who);
    let found = party.each(|session| (session.idx, session.nick.to_string(), session.handle.to_string()));
    let Some((idx, nick, handle)) = found.into_iter().find(|(idx, nick, _)| Some(*idx) == number || same(nick)) else {
        return sorry(format!("{who} is not here; .who lists who is"));
    };
    let theirs = asked.desk.book.get(&handle).map_or(0, |_| rank(asked.desk.book.stands(&handle)));
    let (mine, _) = asked.standing.flags(NETWORK, None, CaseMap::Rfc1459);
    if is_console(&handle) && asked.handle() != handle || rank(mine) < theirs {
        return sorry(format!("{nick} stands above you"));
    }
    let words = if words.is_empty() {
        format!("booted by {}", asked.handle())
    } else {
        format!("booted by {}: {words}", asked.handle())
    };
    party.boot(idx, &words);
    Ok(vec![format!("{nick} is gone.")])
}
