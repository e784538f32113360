//! A line of the server as events. Pure: what the picture of the network does not know is not told.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::{Actor, Event, EventData, Kind, Parcel, Value};

use super::KINDS;
use super::history::Age;
use super::message::{Message, Source};
use super::splits::Report;
use super::state::State;
use super::text;

/// What a translation knows beside the line.
pub(super) struct Context<'a> {
    /// The network's name in the configuration.
    pub(super) network: &'a Arc<str>,
    /// The picture as it was before this line.
    pub(super) state: &'a State,
    /// When it happened.
    pub(super) at: DateTime<Utc>,
    /// Who did it.
    pub(super) actor: Option<Actor>,
    /// Whether somebody has bound `raw` or `rawt`.
    pub(super) raw: bool,
    /// Whether the line is news. If not it is no command, whatever it says.
    pub(super) age: Age,
    /// The servers, where a QUIT is a netsplit's.
    pub(super) split: Option<&'a str>,
    /// Whether a JOIN is somebody who comes back from a netsplit.
    pub(super) back: bool,
    /// Whether somebody wants to know of whoever did it, wherever they are (`monitor`).
    pub(super) watched: bool,
}

impl<'a> Context<'a> {
    /// What is known where nobody stands behind a line.
    pub(super) fn of_nobody(network: &'a Arc<str>, state: &'a State, at: DateTime<Utc>) -> Context<'a> {
        Context {
            network,
            state,
            at,
            actor: None,
            raw: false,
            age: Age::Live,
            split: None,
            back: false,
            watched: false,
        }
    }
}

/// The events of a line, in order; nothing where it means nothing to anybody.
pub(super) fn translate(message: &Message<'_>, context: &Context<'_>) -> Option<Parcel> {
    let mut events = Vec::new();
    // Our own words that are echoed may be a password for services.
    let echoed =
        matches!(message.command, "PRIVMSG" | "NOTICE") && context.actor.as_ref().is_some_and(|actor| actor.own);
    if context.raw && !echoed {
        events.push(raw(message, context));
    }
    match context.age {
        Age::Live => events.extend(news(message, context)),
        Age::Missed => events.extend(missed(message, context)),
        Age::Seen | Age::Part => {}
    }
    if events.is_empty() {
        return None;
    }
    Some(Parcel { events: events.into_iter().map(Event::new).collect() })
}

/// What a line means that happens now.
fn news(message: &Message<'_>, context: &Context<'_>) -> Vec<EventData> {
    match message.command {
        "PRIVMSG" => said(message, context).into_iter().collect(),
        "NOTICE" => noticed(message, context).into_iter().collect(),
        "TAGMSG" => tagged(message, context),
        "JOIN" => {
            let kind = if context.back { Kind::Rejn } else { Kind::Join };
            vec![in_channel(kind, message.param(0), "", context)]
        }
        "PART" => vec![in_channel(Kind::Part, message.param(0), message.param(1), context)],
        "QUIT" => match context.split {
            Some(servers) => everywhere(Kind::Splt, "", &[("servers", servers)], context),
            None => everywhere(Kind::Sign, message.param(0), &[], context),
        },
        "NICK" => everywhere(Kind::Nick, "", &[("newnick", message.param(0))], context),
        "KICK" => {
            let target = vec![("target", message.param(1))];
            vec![with(in_channel(Kind::Kick, message.param(0), message.param(2), context), target)]
        }
        "TOPIC" => vec![in_channel(Kind::Topc, message.param(0), message.param(1), context)],
        "MODE" => modes(message, context),
        "INVITE" => {
            let target = vec![("target", message.param(0))];
            vec![with(in_channel(Kind::Invt, message.param(1), "", context), target)]
        }
        "AWAY" => everywhere(Kind::Ircaway, message.param(0), &[], context),
        "SETNAME" => everywhere(Kind::Setname, message.param(0), &[], context),
        "ACCOUNT" => everywhere(Kind::Account, "", &[("newaccount", message.param(0))], context),
        "CHGHOST" => {
            let new = [("newuser", message.param(0)), ("newhost", message.param(1))];
            everywhere(Kind::Chghost, "", &new, context)
        }
        "REDACT" => vec![redacted(message, context)],
        _ => from_server(message, context),
    }
}

/// What a line means that a server says of itself or of us.
fn from_server(message: &Message<'_>, context: &Context<'_>) -> Vec<EventData> {
    match message.command {
        "WALLOPS" => {
            let mut event = by_nobody(Kind::Wall, context);
            event.text = text::plain(message.last()).into_owned();
            let from = context.actor.as_ref().map(from).unwrap_or_default();
            vec![with(event, vec![("from", from.as_str())])]
        }
        "FAIL" | "WARN" | "NOTE" => {
            let params = message.params();
            let context_words = params.get(2..params.len().saturating_sub(1)).unwrap_or(&[]).join(" ");
            let mut event = by_nobody(Kind::Fail, context);
            event.text = message.last().to_owned();
            let [command, code] = [message.param(0), message.param(1)];
            let fields =
                [("level", message.command), ("command", command), ("code", code), ("context", &context_words)];
            vec![with(event, fields.to_vec())]
        }
        "730" | "731" => watched(message, context),
        "005" => told(message, context),
        "366" => vec![evnt("got-chanlist", message.param(1), context)],
        "396" => vec![evnt("hidden-host", message.param(1), context)],
        "471" => vec![need(message.param(1), "limit", context)],
        "473" => vec![need(message.param(1), "invite", context)],
        "474" => vec![need(message.param(1), "unban", context)],
        "475" => vec![need(message.param(1), "key", context)],
        "482" => vec![need(message.param(1), "op", context)],
        _ => Vec::new(),
    }
}

/// A line we did not see when it was said. It is for those who ask for such lines and for nobody else.
fn missed(message: &Message<'_>, context: &Context<'_>) -> Option<EventData> {
    let actor = context.actor.as_ref().filter(|actor| !actor.own && !actor.host.is_empty())?;
    let (words, how) = match (message.command, text::ctcp(message.param(1))) {
        ("PRIVMSG", None) => (message.param(1), "say"),
        ("PRIVMSG", Some((keyword, words))) if keyword == "ACTION" => (words, "act"),
        ("NOTICE", None) => (message.param(1), "notice"),
        _ => return None,
    };
    let mut event = placed(Kind::Hist, context.state.isupport.channel_of(message.param(0)), words, context);
    // Who it was then is not vouched for now: the account in its tag is the server's memory, and a nick may be another's.
    event.actor = Some(Actor { account: None, cert: None, ..actor.clone() });
    tag(&mut event, message);
    Some(with(event, vec![("how", how)]))
}

/// A message of nothing but tags, and what the tags say.
fn tagged(message: &Message<'_>, context: &Context<'_>) -> Vec<EventData> {
    if context.actor.as_ref().is_none_or(|actor| actor.own) {
        return Vec::new();
    }
    let target = message.param(0);
    let chan = context.state.isupport.channel_of(target);
    let mut event = event(only(Kind::Tagmsg), context);
    event.chan = chan.map(Arc::from);
    tag(&mut event, message);
    let mut events = vec![with(event, vec![("dest", target)])];
    let reaction = [("+draft/react", false), ("+react", false), ("+draft/unreact", true), ("+unreact", true)];
    let reaction = reaction.iter().find_map(|(name, removed)| Some((message.tags.get(name)?, *removed)));
    let id = message.tags.get("+reply").or_else(|| message.tags.get("+draft/reply"));
    if let (Some((reaction, removed)), Some(id), Some(chan)) = (reaction, id, chan) {
        let mut event = in_channel(Kind::React, chan, "", context);
        tag(&mut event, message);
        let mut event = with(event, vec![("reaction", &reaction), ("msgid", &id)]);
        event.fields.push(("removed", Value::from(removed)));
        events.push(event);
    }
    events
}

fn redacted(message: &Message<'_>, context: &Context<'_>) -> EventData {
    let mut event = in_channel(Kind::Redact, "", message.param(2), context);
    event.chan = context.state.isupport.channel_of(message.param(0)).map(Arc::from);
    with(event, vec![("msgid", message.param(1))])
}

/// 730 and 731: one event for each nick.
fn watched(message: &Message<'_>, context: &Context<'_>) -> Vec<EventData> {
    let people = message.last().split(',').map(Source::parse).filter(|person| !person.nick.is_empty());
    people
        .map(|Source { nick, user, host }| {
            let mut event = by_nobody(Kind::Monitor, context);
            let (nick, user, host) = (nick.to_owned(), user.to_owned(), host.to_owned());
            event.actor = Some(Actor { nick, user, host, ..Actor::default() });
            event.fields.push(("online", Value::from(message.command == "730")));
            event
        })
        .collect()
}

/// 005: one event for each token that is new, gone or another than before.
fn told(message: &Message<'_>, context: &Context<'_>) -> Vec<EventData> {
    let mut now = context.state.isupport.clone();
    now.take(message.params());
    let before = &context.state.isupport;
    let tokens = message.params().iter().skip(1).map(|token| token.trim_start_matches('-'));
    let mut keys: Vec<&str> = tokens.map(|token| token.split('=').next().unwrap_or("")).collect();
    keys.dedup();
    keys.retain(|key| !key.is_empty() && now.get(key) != before.get(key));
    keys.into_iter()
        .map(|key| {
            let value = now.get(key).unwrap_or("");
            let mut event = with(by_nobody(Kind::Isupport, context), vec![("token", key), ("value", value)]);
            event.fields.push(("isset", Value::from(now.has(key))));
            event.fields.push(("was", before.get(key).map_or(Value::Null, Value::from)));
            event
        })
        .collect()
}

/// What we lack to do as we should in a channel.
pub(super) fn need(chan: &str, what: &str, context: &Context<'_>) -> EventData {
    let mut event = by_nobody(Kind::Need, context);
    event.chan = Some(Arc::from(chan));
    with(event, vec![("type", what)])
}

/// The connection does something that has a name.
pub(super) fn evnt(name: &str, about: &str, context: &Context<'_>) -> EventData {
    let mut event = by_nobody(Kind::Evnt, context);
    event.text = about.to_owned();
    with(event, vec![("type", name)])
}

/// A whole netsplit.
pub(super) fn netsplit(report: &Report, context: &Context<'_>) -> EventData {
    let mut event = with(by_nobody(Kind::Netsplit, context), vec![("servers", &report.servers)]);
    event.fields.push(("lost", Value::from(report.lost)));
    event
}

/// The list of one kind.
fn only(kind: Kind) -> &'static [Kind] {
    let row = KINDS.iter().find(|row| row.kind == kind);
    row.map_or(&[], |row| std::slice::from_ref(&row.kind))
}

/// The event with these fields of its own.
fn with(mut event: EventData, fields: Vec<(&'static str, &str)>) -> EventData {
    event.fields = fields.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    event
}

/// An event behind which nobody stands.
fn by_nobody(kind: Kind, context: &Context<'_>) -> EventData {
    let mut event = event(only(kind), context);
    event.actor = None;
    event
}

/// An event of these kinds with what every line has.
fn event(kinds: &'static [Kind], context: &Context<'_>) -> EventData {
    let mut event = EventData::new(kinds, context.at);
    event.network = Arc::clone(context.network);
    event.casemap = context.state.casemap();
    event.actor = context.actor.clone();
    event
}

fn raw(message: &Message<'_>, context: &Context<'_>) -> EventData {
    let mut event = event(&[Kind::Rawt, Kind::Raw], context);
    event.text = message.params().join(" ");
    event.fields = vec![
        ("keyword", Value::from(message.command.to_ascii_uppercase())),
        ("from", Value::from(context.actor.as_ref().map(from).unwrap_or_default())),
    ];
    tag(&mut event, message);
    event
}

/// `nick!user@host`, or a server's name.
fn from(actor: &Actor) -> String {
    if actor.host.is_empty() { actor.nick.clone() } else { actor.source() }
}

fn tag(event: &mut EventData, message: &Message<'_>) {
    event.tags = message.tags.iter().map(|(key, value)| (key.to_owned(), value.into_owned())).collect();
}

/// Words: a command, or a CTCP. Our own, echoed, are nobody's.
fn said(message: &Message<'_>, context: &Context<'_>) -> Option<EventData> {
    context.actor.as_ref().filter(|actor| !actor.own)?;
    let (target, body) = (message.param(0), message.param(1));
    let mut event = match text::ctcp(body) {
        Some((keyword, words)) => ctcp(Kind::Ctcp, &keyword, words, target, context),
        None => {
            let chan = context.state.isupport.channel_of(target);
            let kinds: &'static [Kind] =
                if chan.is_some() { &[Kind::Pubm, Kind::Pub] } else { &[Kind::Msgm, Kind::Msg] };
            let mut event = event(kinds, context);
            event.chan = chan.map(Arc::from);
            event.text = text::plain(body).into_owned();
            event
        }
    };
    tag(&mut event, message);
    Some(event)
}

/// A notice: never a command, and a server's own are nobody's.
fn noticed(message: &Message<'_>, context: &Context<'_>) -> Option<EventData> {
    context.actor.as_ref().filter(|actor| !actor.own && !actor.host.is_empty())?;
    let (target, body) = (message.param(0), message.param(1));
    let mut event = match text::ctcp(body) {
        Some((keyword, words)) => ctcp(Kind::Ctcr, &keyword, words, target, context),
        None => {
            let mut event = event(&[Kind::Notc], context);
            event.chan = context.state.isupport.channel_of(target).map(Arc::from);
            event.text = text::plain(body).into_owned();
            event.fields = vec![("dest", Value::from(target))];
            event
        }
    };
    tag(&mut event, message);
    Some(event)
}

fn ctcp(kind: Kind, keyword: &str, words: &str, target: &str, context: &Context<'_>) -> EventData {
    let mut event = event(only(kind), context);
    event.chan = context.state.isupport.channel_of(target).map(Arc::from);
    event.text = text::plain(words).into_owned();
    event.fields = vec![("dest", Value::from(target)), ("keyword", Value::from(keyword))];
    event
}

fn in_channel(kind: Kind, chan: &str, words: &str, context: &Context<'_>) -> EventData {
    placed(kind, Some(chan), words, context)
}

/// In a channel, or in none.
fn placed(kind: Kind, chan: Option<&str>, words: &str, context: &Context<'_>) -> EventData {
    let mut event = event(only(kind), context);
    event.chan = chan.map(Arc::from);
    event.text = text::plain(words).into_owned();
    event
}

/// Once for each channel shared with whoever did it.
fn everywhere(kind: Kind, words: &str, fields: &[(&'static str, &str)], context: &Context<'_>) -> Vec<EventData> {
    let Some(actor) = &context.actor else { return Vec::new() };
    let shared = context.state.channels_of(&actor.nick);
    let mut places: Vec<Option<&str>> = shared.iter().map(|chan| Some(&**chan)).collect();
    // The server tells of who is watched without a channel too. <https://ircv3.net/specs/extensions/extended-monitor>
    let told = matches!(kind, Kind::Ircaway | Kind::Account | Kind::Chghost | Kind::Setname);
    if places.is_empty() && context.watched && told {
        places.push(None);
    }
    let tell = |chan| {
        let mut event = placed(kind, chan, words, context);
        event.fields = fields.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
        event
    };
    places.into_iter().map(tell).collect()
}

/// One event for each single mode of a channel.
fn modes(message: &Message<'_>, context: &Context<'_>) -> Vec<EventData> {
    let chan = message.param(0);
    if !context.state.isupport.is_channel(chan) {
        return Vec::new();
    }
    let changes = context.state.isupport.modes(message.param(1), message.params().get(2..).unwrap_or(&[]));
    let mut events = Vec::new();
    for change in changes {
        let mut event = in_channel(Kind::Mode, chan, "", context);
        event.fields =
            vec![("mode", Value::from(change.name())), ("target", Value::from(change.param.unwrap_or_default()))];
        events.push(event);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(line: &str, raw: bool, old: bool) -> Vec<Event> {
        let age = if old { Age::Seen } else { Age::Live };
        translated(line, raw, age, None, false)
    }

    fn translated(line: &str, raw: bool, age: Age, split: Option<&str>, back: bool) -> Vec<Event> {
        let mut state = State::default();
        for line in [
            ":s 001 chief :hi",
            ":s 005 chief STATUSMSG=@+ CHANTYPES=# :x",
            ":chief!c@h JOIN #ops",
            ":chief!c@h JOIN #dev",
            ":alice!a@h JOIN #ops",
            ":alice!a@h JOIN #dev",
        ] {
            state.take(&Message::parse(line).unwrap(), None);
        }
        let message = Message::parse(line).unwrap();
        let network = Arc::from("test");
        let actor = state.actor(&message, true, true);
        let context = Context {
            network: &network,
            state: &state,
            at: DateTime::UNIX_EPOCH,
            actor,
            raw,
            age,
            split,
            back,
            watched: false,
        };
        translate(&message, &context).map_or(Vec::new(), |parcel| parcel.events)
    }

    fn one(line: &str) -> Event {
        let mut events = events(line, false, false);
        assert_eq!(events.len(), 1, "{line}");
        events.swap_remove(0)
    }

    #[test]
    fn words_in_a_channel_and_in_private_are_offered_to_both_kinds() {
        let event = one("@account=alice;time=x :alice!a@h PRIVMSG #ops :\u{2}!deploy\u{2} web");
        assert_eq!(
            (event.kinds, event.chan(), event.text()),
            (&[Kind::Pubm, Kind::Pub][..], Some("#ops"), "!deploy web")
        );
        assert_eq!(event.actor.as_ref().unwrap().account.as_deref(), Some("alice"));
        assert_eq!(one(":alice!a@h PRIVMSG @#ops :x").chan(), Some("#ops"));
        let private = one(":alice!a@h PRIVMSG chief :!status");
        assert_eq!((private.kinds, private.private()), (&[Kind::Msgm, Kind::Msg][..], true));
    }

    #[test]
    fn our_own_echo_an_old_line_and_a_tagmsg_are_no_commands() {
        assert!(events(":chief!c@h PRIVMSG #ops :!deploy", false, false).is_empty());
        assert!(events(":alice!a@h PRIVMSG #ops :!deploy", false, true).is_empty());
        let typing = events("@+typing=active :alice!a@h TAGMSG #ops", false, false);
        assert_eq!(typing.iter().map(|event| event.kinds).collect::<Vec<_>>(), [[Kind::Tagmsg]]);
        assert!(events("@+typing=active :chief!c@h TAGMSG #ops", false, false).is_empty());
        assert!(events(":irc.test NOTICE chief :*** Looking up", false, false).is_empty());
    }

    #[test]
    fn raw_comes_first_and_of_old_lines_too() {
        let both = events(":alice!a@h PRIVMSG #ops :hi", true, false);
        assert_eq!(both.iter().map(|event| event.kinds[0]).collect::<Vec<_>>(), [Kind::Rawt, Kind::Pubm]);
        assert_eq!(both[0].text(), "#ops hi");
        assert_eq!(both[0].field("from"), Some(&Value::from("alice!a@h")));
        assert_eq!(events(":alice!a@h PRIVMSG #ops :hi", true, true).len(), 1);
    }

    #[test]
    fn a_quit_and_a_nick_happen_in_every_shared_channel() {
        let quits = events(":alice!a@h QUIT :bye", false, false);
        assert_eq!(quits.iter().map(|event| event.chan().unwrap()).collect::<Vec<_>>(), ["#dev", "#ops"]);
        let nicks = events(":alice!a@h NICK alicia", false, false);
        assert_eq!(nicks[0].field("newnick"), Some(&Value::from("alicia")));
        assert!(events(":stranger!a@h QUIT :bye", false, false).is_empty());
    }

    #[test]
    fn each_mode_a_kick_and_a_ctcp_have_their_fields() {
        let modes = events(":alice!a@h MODE #ops +o-v bob carol", false, false);
        let told: Vec<_> = modes.iter().map(|event| (event.field("mode"), event.field("target"))).collect();
        let value = |text: &str| Value::from(text);
        assert_eq!(told[0], (Some(&value("+o")), Some(&value("bob"))));
        assert_eq!(told[1], (Some(&value("-v")), Some(&value("carol"))));
        let kick = one(":alice!a@h KICK #ops bob :out");
        assert_eq!((kick.text(), kick.field("target")), ("out", Some(&value("bob"))));
        let act = one(":alice!a@h PRIVMSG #ops :\u{1}ACTION waves\u{1}");
        assert_eq!((act.kind(), act.text(), act.field("keyword")), (Kind::Ctcp, "waves", Some(&value("ACTION"))));
        assert_eq!(one(":alice!a@h NOTICE chief :\u{1}VERSION x\u{1}").kind(), Kind::Ctcr);
        assert!(events(":alice!a@h MODE chief +i", false, false).is_empty());
    }

    /// Kind, channel, text and fields of each event, and what its masks are matched against.
    fn shown(events: &[Event]) -> Vec<String> {
        let show = |event: &Event| {
            let spec = KINDS.iter().find(|spec| spec.kind == event.kinds[0]).unwrap();
            let fields: Vec<String> = event.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert!(fields.iter().all(|field| spec.fields.contains(&field.split('=').next().unwrap())), "{fields:?}");
            format!("{} {} | {}", event.kinds[0], (spec.subject)(event), fields.join(" "))
        };
        events.iter().map(show).collect()
    }

    fn live(line: &str) -> Vec<String> {
        shown(&events(line, false, false))
    }

    #[test]
    fn what_people_are_told_about_people_happens_in_every_shared_channel() {
        let alice = "alice!a@h";
        assert_eq!(
            live(":alice!a@h AWAY :lunch"),
            [format!("ircaway #dev {alice} | "), format!("ircaway #ops {alice} | ")]
        );
        assert_eq!(live(":alice!a@h ACCOUNT al")[1], format!("account #ops {alice} al | newaccount=\"al\""));
        assert_eq!(live(":alice!a@h ACCOUNT *")[1], format!("account #ops {alice} * | newaccount=\"*\""));
        assert_eq!(
            live(":alice!a@h CHGHOST x cloak.test")[1],
            "chghost #ops alice!x@cloak.test | newuser=\"x\" newhost=\"cloak.test\""
        );
        assert_eq!(live(":alice!a@h SETNAME :Al I. Ce").len(), 2);
        assert_eq!(live(":bob!b@h INVITE chief #x"), ["invt #x chief | target=\"chief\""]);
        assert!(live(":stranger!a@h AWAY :x").is_empty());
    }

    #[test]
    fn a_quit_of_a_split_and_the_return_are_no_quit_and_no_join() {
        let lost = translated(":alice!a@h QUIT :a.b c.d", false, Age::Live, Some("a.b c.d"), false);
        assert_eq!(shown(&lost)[1], "splt #ops alice!a@h | servers=\"a.b c.d\"");
        let back = translated(":alice!a@h JOIN #ops", false, Age::Live, None, true);
        assert_eq!(shown(&back), ["rejn #ops alice!a@h | "]);
    }

    #[test]
    fn a_line_that_was_missed_is_for_who_asks_for_such_lines_and_no_command() {
        let missed = |line: &str| shown(&translated(line, false, Age::Missed, None, false));
        assert_eq!(missed(":alice!a@h PRIVMSG #ops :!deploy prod"), ["hist #ops !deploy prod | how=\"say\""]);
        assert_eq!(missed(":alice!a@h PRIVMSG chief :!deploy").len(), 1, "private words too");
        let then = translated("@account=alice :alice!a@h PRIVMSG #ops :x", false, Age::Missed, None, false);
        assert_eq!(then[0].actor.as_ref().unwrap().account, None, "nobody is vouched for");
        for line in [
            ":chief!c@h PRIVMSG #ops :!deploy",
            ":alice!a@h PRIVMSG #ops :\u{1}VERSION\u{1}",
            ":alice!a@h JOIN #ops",
            ":alice!a@h QUIT :x",
        ] {
            assert!(missed(line).is_empty(), "{line}");
        }
        assert!(translated(":alice!a@h PRIVMSG #ops :x", false, Age::Part, None, false).is_empty());
    }

    #[test]
    fn the_server_speaks_of_itself_and_of_what_we_lack() {
        assert_eq!(
            live(":s 005 chief STATUSMSG=@+ NETWORK=x -CHANTYPES :are supported")[1..],
            ["isupport CHANTYPES | token=\"CHANTYPES\" value=\"\" isset=false was=\"#\""]
        );
        assert_eq!(live(":s 473 chief #x :Cannot join"), ["need #x invite | type=\"invite\""]);
        assert_eq!(live(":s 482 chief #ops :You're not op"), ["need #ops op | type=\"op\""]);
        assert_eq!(live(":s 730 chief :bob!b@h,carol").len(), 2);
        assert_eq!(live(":s 731 chief :bob"), ["monitor bob | online=false"]);
        assert_eq!(live(":oper!o@h WALLOPS :maintenance"), ["wall maintenance | from=\"oper!o@h\""]);
        assert_eq!(
            live(":s FAIL REDACT UNKNOWN_MSGID #ops abc :no such message"),
            [
                "fail FAIL REDACT UNKNOWN_MSGID | level=\"FAIL\" command=\"REDACT\" code=\"UNKNOWN_MSGID\" context=\"#ops abc\""
            ]
        );
        assert_eq!(live("FAIL * X").len(), 1);
    }

    #[test]
    fn reactions_and_messages_taken_back_name_their_message() {
        let react = live("@+draft/react=ok;+draft/reply=m1 :alice!a@h TAGMSG #ops");
        assert_eq!(react[0], "tagmsg #ops | dest=\"#ops\"");
        assert_eq!(react[1], "react #ops ok | reaction=\"ok\" msgid=\"m1\" removed=false");
        assert_eq!(
            live("@+draft/unreact=ok;+reply=m1 :alice!a@h TAGMSG #ops")[1].split('|').next(),
            Some("react #ops ok ")
        );
        assert_eq!(live("@+draft/react=ok :alice!a@h TAGMSG #ops").len(), 1, "to nothing");
        assert_eq!(live(":alice!a@h REDACT #ops m1 :oops"), ["redact #ops oops | msgid=\"m1\""]);
    }
}
