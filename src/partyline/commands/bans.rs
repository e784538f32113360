//! `.+ban`, `.-ban`, `.ban`, `.kickban`, `.unban`, `.bans`, `.stick`, `.unstick`: who may not come in. Bans are kept, and the bot holds people to them.

use std::time::Duration;

use chrono::TimeDelta;
use humantime_serde::re::humantime::{format_duration, parse_duration};
use masterchief_contract::{CaseMap, HandlerError, user_error};

use super::channels::place_of;
use super::{Asked, Command, sorry};
use crate::dispatch::{Ban, place_key};

pub(super) static COMMANDS: &[Command] = &[
    row!(
        Anywhere,
        "+ban",
        "o|o",
        "<mask> [words...]",
        "Bans nick!user@host, or a nick of the channel, as in: .+ban MASK #channel %2h reason; without a channel everywhere",
        plus_ban
    ),
    row!(Anywhere, "ban", "o|o", "<mask> [words...]", "The same as .+ban", plus_ban),
    row!(
        Anywhere,
        "kickban",
        "o|o",
        "<channel> <nick> [words...]",
        "Bans the host of somebody who is in a channel, and throws them out, as in: .kickban #channel NICK %2h reason",
        kickban
    ),
    row!(Anywhere, "-ban", "o|o", "<mask> [channel]", "Lifts a ban, by its mask or its number in .bans", minus_ban),
    row!(Anywhere, "unban", "o|o", "<mask> [channel]", "The same as .-ban", minus_ban),
    row!(Anywhere, "bans", "o|o", "[channel]", "Lists the bans that are kept, or those that count in a channel", bans),
    row!(
        Anywhere,
        "stick",
        "o|o",
        "<mask> [channel]",
        "Lets a ban stand in the channel also while nobody meets it",
        stick
    ),
    row!(Anywhere, "unstick", "o|o", "<mask> [channel]", "Lets a ban stand only when somebody meets it", unstick),
];

/// Signs of who may kick.
const OPS: [char; 4] = ['~', '&', '@', '%'];
/// Letters that a mask must have beside wildcards, so that nobody bans everybody.
const MASK_LETTERS: usize = 3;
/// The longest mask, in bytes.
const MASK_MAX: usize = 200;
/// The longest reason, in characters.
const REASON_MAX: usize = 200;
/// Bans that are kept.
const BANS_MAX: usize = 2000;

type Lines = Result<Vec<String>, HandlerError>;

/// What stands behind a mask, in Eggdrop's order: a channel, a time, a reason.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Words<'a> {
    pub(super) channel: &'a str,
    pub(super) time: Option<Duration>,
    pub(super) reason: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn read(text: &'a str) -> Result<Words<'a>, String> {
        let mut words = Words { reason: text.trim(), ..Words::default() };
        let (first, rest) = words.reason.split_once(' ').unwrap_or((words.reason, ""));
        if is_channel(first) {
            (words.channel, words.reason) = (first, rest.trim_start());
        }
        let (first, rest) = words.reason.split_once(' ').unwrap_or((words.reason, ""));
        if let Some(time) = first.strip_prefix('%') {
            let time = parse_duration(time).map_err(|fault| format!("%{time} is no time, as in %2h30m: {fault}"))?;
            (words.time, words.reason) = (Some(time), rest.trim_start());
        }
        if words.reason.chars().count() > REASON_MAX {
            return Err(format!("a reason has at most {REASON_MAX} characters"));
        }
        Ok(words)
    }
}

fn is_channel(word: &str) -> bool {
    word.rsplit('/').next().is_some_and(|name| name.starts_with(['#', '&']))
}

/// The place that is meant, which counts everywhere without a name; who asks has to have the flag `o` there.
pub(super) fn place(asked: &Asked, channel: &str) -> Result<Option<(String, String)>, HandlerError> {
    if !channel.is_empty() {
        return place_of(asked, channel, "o|o").map(Some);
    }
    if asked.may("o", None) {
        return Ok(None);
    }
    sorry("what counts everywhere needs the flag o everywhere; name a channel of yours")
}

pub(super) fn key(place: Option<&(String, String)>) -> Option<String> {
    place.map(|(network, channel)| place_key(network, channel))
}

fn place_name(ban: &Ban) -> &str {
    ban.place.as_deref().unwrap_or("everywhere")
}

async fn plus_ban(asked: &Asked) -> Lines {
    let words = Words::read(asked.arg("words")).map_err(user_error)?;
    let place = place(asked, words.channel)?;
    let mask = mask(asked, asked.arg("mask"), place.as_ref())?;
    Ok(vec![keep(asked, place, mask, &words).await?])
}

/// Keeps a ban, and says so.
async fn keep(
    asked: &Asked,
    place: Option<(String, String)>,
    mask: String,
    words: &Words<'_>,
) -> Result<String, HandlerError> {
    let host = &asked.desk.host;
    let (all, now) = (host.bans(), asked.desk.party.clock().now());
    let place = key(place.as_ref());
    let before = all.iter().find(|ban| ban.is(place.as_deref(), &mask));
    if all.len() >= BANS_MAX && before.is_none() {
        return sorry(format!("{BANS_MAX} bans are kept already; .-ban lifts one"));
    }
    let minutes = place.as_deref().map_or(0, |place| host.held(place).ban_time);
    let usually = (minutes > 0).then(|| Duration::from_secs(minutes * 60));
    let time = words.time.or(usually).filter(|time| !time.is_zero());
    let until = match time.map(TimeDelta::from_std) {
        None => None,
        Some(time) => Some(
            time.ok()
                .and_then(|time| now.checked_add_signed(time))
                .ok_or_else(|| user_error("that is too long; leave the time out for a ban without end"))?,
        ),
    };
    let sticky = before.is_some_and(|ban| ban.sticky);
    let ban =
        Ban { place, mask, by: asked.handle().to_owned(), reason: words.reason.to_owned(), since: now, until, sticky };
    let told = format!("{} is banned {}{}.", ban.mask, place_name(&ban), time.map(how_long).unwrap_or_default());
    host.put_ban(ban).await.map_err(user_error)?;
    Ok(told)
}

async fn kickban(asked: &Asked) -> Lines {
    let (network, channel) = place_of(asked, asked.arg("channel"), "o|o")?;
    let nick = asked.arg("nick");
    let host = &asked.desk.host;
    let members = host.members(&network, &channel);
    let find = |nick: &str| members.iter().find(|member| CaseMap::Rfc1459.eq(&member.nick, nick));
    let own = host.networks().into_iter().find(|one| one.network == network).map(|one| one.nick).unwrap_or_default();
    if CaseMap::Rfc1459.eq(&own, nick) {
        return sorry("that is this bot; .-chan has it leave");
    }
    if find(nick).is_none() {
        return sorry(format!("{nick} is not in {network}/{channel}; .+ban bans who is not there"));
    }
    if find(&own).is_none_or(|own| !own.status.starts_with(OPS)) {
        return sorry(format!("the bot may not kick in {network}/{channel}; .+ban keeps a ban for when it may"));
    }
    let words = Words::read(asked.arg("words")).map_err(user_error)?;
    let place = Some((network, channel));
    let mask = mask(asked, nick, place.as_ref())?;
    let told = keep(asked, place, mask, &words).await?;
    Ok(vec![format!("{told} {nick} is thrown out, unless their flags are f, o, m or n there.")])
}

fn how_long(time: Duration) -> String {
    format!(" for {}", format_duration(Duration::from_secs(time.as_secs())))
}

/// The mask that is meant: of a nick that is in the channel its host.
pub(super) fn mask(asked: &Asked, text: &str, place: Option<&(String, String)>) -> Result<String, HandlerError> {
    let member = place.and_then(|(network, channel)| {
        let members = asked.desk.host.members(network, channel);
        members.into_iter().find(|member| CaseMap::Rfc1459.eq(&member.nick, text) && !member.host.is_empty())
    });
    let mask = match (member, text.contains('!'), text.contains('@')) {
        (Some(member), ..) => format!("*!*@{}", member.host),
        (None, true, true) => text.to_owned(),
        (None, false, true) => format!("*!{text}"),
        (None, false, false) => format!("{text}!*@*"),
        (None, true, false) => format!("{text}@*"),
    };
    let letters = mask.chars().filter(|c| c.is_alphanumeric()).count();
    if letters < MASK_LETTERS {
        return sorry(format!("{mask} would be nearly everybody; name a nick, user@host or nick!user@host"));
    }
    if mask.len() > MASK_MAX || mask.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
        return sorry(format!("{mask:?} is no mask: nick!user@host with * and ?, at most {MASK_MAX} bytes"));
    }
    Ok(mask)
}

/// The ban that is meant: by its number, else by its mask.
fn found(asked: &Asked) -> Result<Ban, HandlerError> {
    let (text, channel) = (asked.arg("mask"), asked.arg("channel"));
    let all = asked.desk.host.bans();
    let number = text.parse::<usize>().ok().and_then(|number| all.get(number.checked_sub(1)?)).cloned();
    let ban = match number {
        Some(ban) => ban,
        None => {
            let place = if channel.is_empty() { None } else { key(place(asked, channel)?.as_ref()) };
            let meant = [text.to_owned(), format!("*!{text}"), format!("{text}!*@*")];
            let is = |ban: &&Ban| meant.iter().any(|mask| ban.is(place.as_deref(), mask));
            let ban = all.iter().find(is).cloned();
            ban.ok_or_else(|| user_error(format!("{text} is not banned there; .bans lists who is, with numbers")))?
        }
    };
    // Whoever may lift it is op where it counts.
    match ban.place.as_deref() {
        Some(place) => drop(place_of(asked, place, "o|o")?),
        None => drop(place(asked, "")?),
    }
    Ok(ban)
}

async fn minus_ban(asked: &Asked) -> Lines {
    let ban = found(asked)?;
    let lifted = asked.desk.host.lift_ban(ban.place.clone(), &ban.mask).await.map_err(user_error)?;
    Ok(vec![format!(
        "{} is {} {}.",
        ban.mask,
        if lifted { "not banned any more" } else { "not banned" },
        place_name(&ban)
    )])
}

async fn bans(asked: &Asked) -> Lines {
    let channel = asked.arg("channel");
    let place = if channel.is_empty() { None } else { key(Some(&place_of(asked, channel, "o|o")?)) };
    let now = asked.desk.party.clock().now();
    let all = asked.desk.host.bans();
    let wanted = all.iter().enumerate().filter(|(_, ban)| place.as_deref().is_none_or(|place| ban.counts_in(place)));
    let mut lines: Vec<String> = wanted
        .map(|(at, ban)| {
            let left = ban.until.map(|until| (until - now).to_std().unwrap_or_default());
            let left = left.map(|left| format!(" for {} more", format_duration(Duration::from_secs(left.as_secs()))));
            let sticky = if ban.sticky { " (sticks)" } else { "" };
            let (at, since) = (at + 1, ban.since.format("%F %T"));
            format!(
                "{at:>3}. {} {}{}{sticky} by {} {since}: {}",
                ban.mask,
                place_name(ban),
                left.unwrap_or_default(),
                ban.by,
                ban.reason
            )
        })
        .collect();
    if lines.is_empty() {
        lines.push("Nobody is banned.".to_owned());
    }
    Ok(lines)
}

async fn stick(asked: &Asked) -> Lines {
    let ban = Ban { sticky: true, ..found(asked)? };
    let told = format!("{} sticks {}.", ban.mask, place_name(&ban));
    asked.desk.host.put_ban(ban).await.map_err(user_error)?;
    Ok(vec![told])
}

async fn unstick(asked: &Asked) -> Lines {
    let ban = Ban { sticky: false, ..found(asked)? };
    let told = format!("{} stands only when somebody meets it, {}.", ban.mask, place_name(&ban));
    asked.desk.host.put_ban(ban).await.map_err(user_error)?;
    Ok(vec![told])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_mask_is_read_as_eggdrop_does() {
        let read = |text| Words::read(text).unwrap();
        let hours = Some(Duration::from_secs(2 * 3600));
        assert_eq!(
            read("libera/#ops %2h spam again"),
            Words { channel: "libera/#ops", time: hours, reason: "spam again" }
        );
        assert_eq!(read("%2h"), Words { time: hours, ..Words::default() });
        assert_eq!(read("spam in #ops"), Words { reason: "spam in #ops", ..Words::default() });
        assert_eq!(read("  "), Words::default());
        assert!(Words::read("#ops %soon").is_err() && Words::read(&"x".repeat(201)).is_err());
    }
}
