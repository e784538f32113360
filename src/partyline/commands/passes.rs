//! `.+exempt`, `.-exempt`, `.exempts`, `.+invite`, `.-invite`, `.invites`: who may come in although others may not. They are kept,
//! and stand in the lists `e` and `I` of channels wherever the bot is op.

use masterchief_contract::{HandlerError, user_error};

use super::bans::{Words, key, mask, place};
use super::{Asked, Command, sorry};
use crate::dispatch::{Pass, PassSort};

pub(super) static COMMANDS: &[Command] = &[
    row!(
        Anywhere,
        "+exempt",
        "o|o",
        "<mask> [words...]",
        "Lets no ban keep out who meets nick!user@host, as in: .+exempt MASK #channel reason; without a channel everywhere",
        plus_exempt
    ),
    row!(Anywhere, "-exempt", "o|o", "<mask> [channel]", "Lets bans count for them again", minus_exempt),
    row!(Anywhere, "exempts", "o|o", "", "Lists whom no ban keeps out", exempts),
    row!(
        Anywhere,
        "+invite",
        "o|o",
        "<mask> [words...]",
        "Lets who meets nick!user@host into channels for the invited only, as in: .+invite MASK #channel reason",
        plus_invite
    ),
    row!(Anywhere, "-invite", "o|o", "<mask> [channel]", "Lets them in no more than others", minus_invite),
    row!(Anywhere, "invites", "o|o", "", "Lists who comes into channels for the invited only", invites),
];

/// Masks that are kept.
const PASSES_MAX: usize = 1000;

type Lines = Result<Vec<String>, HandlerError>;

fn place_name(pass: &Pass) -> &str {
    pass.place.as_deref().unwrap_or("everywhere")
}

async fn plus(asked: &Asked, sort: PassSort) -> Result<Pass, HandlerError> {
    let words = Words::read(asked.arg("words")).map_err(user_error)?;
    if words.time.is_some() {
        return sorry("a time is for bans; this stays until it is taken out");
    }
    let place = place(asked, words.channel)?;
    let mask = mask(asked, asked.arg("mask"), place.as_ref())?;
    let place = key(place.as_ref());
    let all = asked.desk.host.passes();
    if all.len() >= PASSES_MAX && !all.iter().any(|pass| pass.is(sort, place.as_deref(), &mask)) {
        return sorry(format!("{PASSES_MAX} are kept already"));
    }
    let (by, since) = (asked.handle().to_owned(), asked.desk.party.clock().now());
    let pass = Pass { sort, place, mask, by, reason: words.reason.to_owned(), since };
    asked.desk.host.put_pass(pass.clone()).await.map_err(user_error)?;
    Ok(pass)
}

async fn minus(asked: &Asked, sort: PassSort) -> Result<Pass, HandlerError> {
    let (text, channel) = (asked.arg("mask"), asked.arg("channel"));
    let place = key(place(asked, channel)?.as_ref());
    let meant = [text.to_owned(), format!("*!{text}"), format!("{text}!*@*")];
    let is = |pass: &&Pass| meant.iter().any(|mask| pass.is(sort, place.as_deref(), mask));
    let found = asked.desk.host.passes().iter().find(is).cloned();
    let Some(pass) = found else {
        return sorry(format!("there is no {text} there; .exempts and .invites list what there is"));
    };
    asked.desk.host.lift_pass(pass.clone()).await.map_err(user_error)?;
    Ok(pass)
}

fn list(asked: &Asked, sort: PassSort, nobody: &str) -> Lines {
    let all = asked.desk.host.passes();
    let row = |pass: &Pass| {
        let since = pass.since.format("%F %T");
        format!("{} {} by {} {since}: {}", pass.mask, place_name(pass), pass.by, pass.reason)
    };
    let lines: Vec<String> = all.iter().filter(|pass| pass.sort == sort).map(row).collect();
    Ok(if lines.is_empty() { vec![nobody.to_owned()] } else { lines })
}

async fn plus_exempt(asked: &Asked) -> Lines {
    let pass = plus(asked, PassSort::Exempt).await?;
    let mut lines = vec![format!("No ban keeps {} out {}.", pass.mask, place_name(&pass))];
    lines.extend(asked.desk.host.without_list(&pass).iter().map(|network| {
        format!(
            "{network} has no list e: we throw nobody out there whom this is for, but bans that stand in channels count"
        )
    }));
    Ok(lines)
}

async fn minus_exempt(asked: &Asked) -> Lines {
    let pass = minus(asked, PassSort::Exempt).await?;
    Ok(vec![format!("Bans count for {} again {}.", pass.mask, place_name(&pass))])
}

async fn exempts(asked: &Asked) -> Lines {
    list(asked, PassSort::Exempt, "Bans count for everybody.")
}

async fn plus_invite(asked: &Asked) -> Lines {
    let pass = plus(asked, PassSort::Invite).await?;
    let mut lines = vec![format!("{} comes in where only the invited may, {}.", pass.mask, place_name(&pass))];
    let lacks =
        |network: &String| format!("{network} has no list I, so it does nothing there; use .invite CHANNEL NICK");
    lines.extend(asked.desk.host.without_list(&pass).iter().map(lacks));
    Ok(lines)
}

async fn minus_invite(asked: &Asked) -> Lines {
    let pass = minus(asked, PassSort::Invite).await?;
    Ok(vec![format!("{} has to be invited like others, {}.", pass.mask, place_name(&pass))])
}

async fn invites(asked: &Asked) -> Lines {
    list(asked, PassSort::Invite, "Nobody comes in without being invited where others have to be.")
}
