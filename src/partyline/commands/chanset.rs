//! `.+chan`, `.-chan`, `.chanset`, `.chaninfo`: the channels the bot looks after, and what they are held to. All of it is kept.

use masterchief_contract::{Action, HandlerError, Secret, user_error};

use super::channels::place;
use super::{Asked, Command, sorry};
use crate::dispatch::{Held, place_key};

pub(super) static COMMANDS: &[Command] = &[
    row!(Anywhere, "+chan", "n", "<channel> [key]", "Joins a channel, now and at every start", plus_chan),
    row!(
        Anywhere,
        "-chan",
        "n",
        "<channel>",
        "Leaves a channel and forgets its settings; one of the configuration is joined again at the next start",
        minus_chan
    ),
    row!(
        Anywhere,
        "chanset",
        "n|n",
        "<channel> [changes...]",
        "Changes what a channel is held to: +autoop +autovoice +bitch, chanmode +nt, ban-time MINUTES",
        chanset
    ),
    row!(
        Anywhere,
        "chaninfo",
        "m|m",
        "<channel>",
        "Shows what a channel is held to, and what it is like now",
        chaninfo
    ),
];

type Lines = Result<Vec<String>, HandlerError>;

async fn hold(asked: &Asked, place: &str, held: Held) -> Result<(), HandlerError> {
    asked.desk.host.hold(place, held).await.map_err(user_error)
}

async fn plus_chan(asked: &Asked) -> Lines {
    let (network, channel) = place(asked, "n")?;
    let key = Some(asked.arg("key").to_owned()).filter(|key| !key.is_empty());
    let join = Action::Join { network: network.clone(), channel: channel.clone(), key: key.clone() };
    asked.desk.outlet.perform(join).await.map_err(|refused| user_error(refused.message))?;
    let place = place_key(&network, &channel);
    let held = Held { joined: Some(channel.clone()), key: key.map(Secret::new), ..asked.desk.host.held(&place) };
    hold(asked, &place, held).await?;
    Ok(vec![format!("{channel} is joined, now and at every start.")])
}

async fn minus_chan(asked: &Asked) -> Lines {
    let (network, channel) = place(asked, "n")?;
    hold(asked, &place_key(&network, &channel), Held::default()).await?;
    let part = Action::Part { network, channel: channel.clone(), reason: asked.handle().to_owned() };
    asked.desk.outlet.perform(part).await.map_err(|refused| user_error(refused.message))?;
    Ok(vec![format!("{channel} is left, and its settings are forgotten.")])
}

async fn chanset(asked: &Asked) -> Lines {
    let (network, channel) = place(asked, "n|n")?;
    let place = place_key(&network, &channel);
    let mut held = asked.desk.host.held(&place);
    let mut words = asked.arg("changes").split_whitespace();
    while let Some(word) = words.next() {
        // Switches have their sign; everything else has a value behind it.
        let value = if word.starts_with(['+', '-']) { None } else { Some(words.next().unwrap_or("")) };
        held.change(word, value).map_err(user_error)?;
    }
    if !asked.arg("changes").is_empty() {
        hold(asked, &place, held.clone()).await?;
    }
    Ok(vec![format!("{network}/{channel}: {}", held.shown())])
}

async fn chaninfo(asked: &Asked) -> Lines {
    let (network, channel) = place(asked, "m|m")?;
    let (host, place) = (&asked.desk.host, place_key(&network, &channel));
    let members = host.members(&network, &channel).len();
    let bans = host.bans().iter().filter(|ban| ban.counts_in(&place)).count();
    if members == 0 && bans == 0 && host.held(&place) == Held::default() {
        return sorry(format!("the bot is not in {network}/{channel} and keeps nothing of it"));
    }
    Ok(vec![
        format!("{network}/{channel}: {}", host.held(&place).shown()),
        format!("{members} members, {bans} bans count there (.bans lists them)"),
    ])
}
