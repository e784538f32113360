//! `.who`, `.whom`, `.whoami`: who is here.

use chrono::{DateTime, Utc};
use masterchief_contract::HandlerError;

use super::bots::{name, question};
use super::{Asked, Command};
use crate::mesh::Question;
use crate::partyline::place::Place;
use crate::partyline::room::Face;

pub(super) static COMMANDS: &[Command] = &[
    row!(Anywhere, "who", "-", "[bot]", "Lists the sessions on this bot, or asks a linked bot who is there", who),
    row!(Anywhere, "whom", "-", "[channel]", "Lists people on the partyline, on linked bots too", whom),
    row!(Anywhere, "whoami", "-", "", "Tells who you are to the bot, and what you may", whoami),
];

type Lines = Result<Vec<String>, HandlerError>;

async fn who(asked: &Asked) -> Lines {
    if !asked.arg("bot").is_empty() {
        return question(asked, Question::Who(name(asked.arg("bot"))?)).await;
    }
    let party = &asked.desk.party;
    let now = party.clock().now();
    let rows = party.each(|session| {
        let places: Vec<String> = session.places.iter().map(Place::to_string).collect();
        let away = session.away.as_ref().map(|away| format!("  away: {away}")).unwrap_or_default();
        format!(
            "[{:>3}] {}{:<16} {:<8} {:<22} idle {:<6} {}{away}",
            session.idx,
            session.icon,
            session.nick,
            face(session.face),
            session.host,
            idle(session.spoke, now),
            places.join(" ")
        )
    });
    let mut lines =
        vec![format!("{} on {}, * owner  + master  % botnet master  @ op:", sessions(rows.len()), party.bot())];
    lines.extend(rows);
    Ok(lines)
}

async fn whom(asked: &Asked) -> Lines {
    let party = &asked.desk.party;
    let wanted = asked.arg("channel");
    let place = Place::parse(wanted).or_else(|| Place::parse(&format!("#{wanted}")));
    let place = if wanted == "0" { Some(Place::Party(0)) } else { place };
    let mut places: Vec<Place> = match place {
        Some(place) => vec![place],
        None => {
            let mut all: Vec<Place> = party.each(|session| session.places.clone()).into_iter().flatten().collect();
            all.extend(party.guests().iter().map(|guest| Place::Party(guest.channel)));
            all.retain(|place| place.number().is_some() || matches!(place, Place::Own(_)));
            all
        }
    };
    places.sort();
    places.dedup();
    let mut lines = Vec::new();
    for place in places {
        lines.push(format!("{place}:"));
        for one in party.here(&place) {
            let bot = one.bot.as_deref().map_or_else(|| party.bot().to_string(), str::to_owned);
            let away = one.away.as_ref().map(|away| format!("  away: {away}")).unwrap_or_default();
            lines.push(format!("  {}{:<24} {:<16} {}{away}", one.icon, one.author.nick, bot, one.author.host));
        }
    }
    if lines.is_empty() {
        lines.push("Nobody is there.".to_owned());
    }
    Ok(lines)
}

async fn whoami(asked: &Asked) -> Lines {
    let (global, _) = asked.standing.flags(&asked.event.network, None, masterchief_contract::CaseMap::Rfc1459);
    let roles = asked.standing.roles();
    let roles = if roles.is_empty() { String::new() } else { format!(", roles {}", roles.join(" ")) };
    let at = asked.idx.map(|idx| format!(", session {idx}")).unwrap_or_default();
    Ok(vec![format!("You are {} with the flags {global}{roles}{at}.", asked.handle())])
}

fn face(face: Face) -> &'static str {
    match face {
        Face::Console => "terminal",
        Face::Telnet => "telnet",
        Face::Irc => "irc",
        Face::Web => "web",
    }
}

/// How long somebody has said nothing.
pub(super) fn idle(since: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - since).num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn sessions(count: usize) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}
