//! `.me`, `.chat`, `.msg`, `.quit`: what people at a client have keys for, for those who type.

use masterchief_contract::{HandlerError, How, user_error};

use super::{Asked, Command, Reach};
use crate::partyline::place::Place;

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "me",
        flags: "-",
        usage: "<words...>",
        help: "Acts where it is typed, as in: alice waves",
        reach: Reach::Here,
        run: |asked| Box::pin(async move { me(&asked).await }),
    },
    Command {
        name: "chat",
        flags: "-",
        usage: "<channel>",
        help: "Goes to a channel: 0 is the partyline, then 1 to 99999, *1 to *99999 of this bot alone, #ops, and #channel@network; off leaves those where people meet",
        reach: Reach::Here,
        run: |asked| Box::pin(async move { chat(&asked) }),
    },
    Command {
        name: "tell",
        flags: "-",
        usage: "<nick> <words...>",
        help: "Says something to somebody on the partyline alone",
        reach: Reach::Here,
        run: |asked| Box::pin(async move { tell(&asked).await }),
    },
    Command {
        name: "quit",
        flags: "-",
        usage: "[words...]",
        help: "Leaves the partyline",
        reach: Reach::Here,
        run: |asked| Box::pin(async move { quit(&asked) }),
    },
];

async fn me(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let idx = asked.session()?;
    // Where it was typed; what is typed to the bot alone is for everybody.
    let place = Place::parse(asked.event.field_str("place")).unwrap_or(Place::Party(0));
    let said = asked.desk.party.say(idx, &place, asked.arg("words"), How::Act).await;
    said.map(|_| Vec::new()).map_err(user_error)
}

fn chat(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let idx = asked.session()?;
    let name = asked.arg("channel");
    if name.eq_ignore_ascii_case("off") {
        asked.desk.party.goes_off(idx);
        return Ok(vec!["You are in no channel where people meet; .chat 0 is the partyline.".to_owned()]);
    }
    let place = if name == "0" { Some(Place::Party(0)) } else { Place::parse(name) };
    let place = place.or_else(|| Place::parse(&format!("#{name}")));
    let place = place.ok_or_else(|| user_error("there are 0, 1 to 99999, *1 to *99999, #ops, and #channel@network"))?;
    asked.desk.party.join(idx, &place).map_err(user_error)?;
    Ok(vec![format!("You are in {place}.")])
}

async fn tell(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let (idx, nick) = (asked.session()?, asked.arg("nick"));
    if asked.desk.party.passes_on(idx, nick, asked.arg("words")).await.map_err(user_error)? {
        return Ok(Vec::new());
    }
    let heard = asked.desk.party.whisper(idx, nick, asked.arg("words"), How::Say);
    heard
        .map(|_| Vec::new())
        .ok_or_else(|| user_error(format!("{nick} is not here; .note {nick} keeps words for later")))
}

fn quit(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let idx = asked.session()?;
    let words = asked.arg("words");
    asked.desk.party.boot(idx, if words.is_empty() { "quit" } else { words });
    Ok(Vec::new())
}
