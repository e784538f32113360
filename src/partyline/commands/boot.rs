//! `.boot`: ends somebody's sessions.

use masterchief_contract::{CaseMap, HandlerError, user_error};

use super::asked::rank;
use super::bots::{name, question};
use super::{Asked, Command, sorry};
use crate::mesh::{Question, Word};
use crate::partyline::here::is_console;
use crate::partyline::party::NETWORK;

pub(super) static COMMANDS: &[Command] = &[row!(
    Anywhere,
    "boot",
    "t",
    "<nick> [words...]",
    "Ends a session, by name or number, or HANDLE@BOT on a linked bot; nobody ends that of somebody above",
    boot
)];

async fn boot(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let (who, words) = (asked.arg("nick"), asked.arg("words"));
    if let Some((user, bot)) = who.rsplit_once('@') {
        let user = Word::new(user).ok_or_else(|| user_error(format!("{user:?} is no handle")))?;
        return question(asked, Question::Boot { user, bot: name(bot)?, reason: words.to_owned() }).await;
    }
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
