//! `.at`: has another MasterChief do one's words.

use std::time::Duration;

use masterchief_contract::{HandlerError, user_error};

use super::bots::{mesh, name};
use super::{Asked, Command, sorry};
use crate::mesh::Asker;
use crate::partyline::here::is_console;

/// How long the first answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) static COMMANDS: &[Command] = &[row!(
    Anywhere,
    "at",
    "-",
    "<bot> <words...>",
    "Has another MasterChief do these words as yours, such as !deploy shop or .status; its own records say what you may there",
    at
)];

async fn at(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let (mesh, bot) = (mesh(asked)?, name(asked.arg("bot"))?);
    let Some(handle) = asked.standing.who.handle.as_deref().filter(|handle| !is_console(handle)) else {
        return sorry("the console is nobody on other bots; log in as yourself");
    };
    // What it says later comes where this was asked.
    let target = match asked.idx.and_then(|idx| asked.desk.party.session(idx, |session| session.nick.to_string())) {
        Some(nick) => nick,
        None => asked.event.actor.as_ref().map(|actor| actor.nick.clone()).unwrap_or_default(),
    };
    let asker = Asker { handle: handle.to_owned(), network: asked.event.network.to_string(), target };
    let said = mesh.run_from(bot.as_str(), asked.arg("words"), PATIENCE, asker).await;
    let said = said.map_err(|fault| user_error(fault.to_string()))?;
    Ok(said.lines().map(|line| format!("({bot}) {line}")).collect())
}
