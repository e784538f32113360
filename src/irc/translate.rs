//! A line of the server as events. Pure: what the picture of the network does not know is not told.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::{Actor, Event, EventData, Kind, Parcel, Value};

use super::message::Message;
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
    /// Whether the line is old: then it is no command and no news.
    pub(super) old: bool,
}

/// The events of a line, in order; nothing where it means nothing to anybody.
pub(super) fn translate(message: &Message<'_>, context: &Context<'_>) -> Option<Parcel> {
    let mut events = Vec::new();
    if context.raw {
        events.push(raw(message, context));
    }
    if !context.old {
        match message.command {
            "PRIVMSG" => events.extend(said(message, context)),
            "NOTICE" => events.extend(noticed(message, context)),
            "JOIN" => events.push(in_channel(Kind::Join, message.param(0), "", context)),
            "PART" => events.push(in_channel(Kind::Part, message.param(0), message.param(1), context)),
            "QUIT" => events.extend(everywhere(Kind::Sign, message.param(0), &[], context)),
            "NICK" => events.extend(everywhere(Kind::Nick, "", &[("newnick", message.param(0))], context)),
            "KICK" => {
                let mut event = in_channel(Kind::Kick, message.param(0), message.param(2), context);
                event.fields.push(("target", Value::from(message.param(1))));
                events.push(event);
            }
            "TOPIC" => events.push(in_channel(Kind::Topc, message.param(0), message.param(1), context)),
            "MODE" => events.extend(modes(message, context)),
            _ => {}
        }
    }
    if events.is_empty() {
        return None;
    }
    Some(Parcel { events: events.into_iter().map(Event::new).collect() })
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
    let kinds: &'static [Kind] = if kind == Kind::Ctcp { &[Kind::Ctcp] } else { &[Kind::Ctcr] };
    let mut event = event(kinds, context);
    event.chan = context.state.isupport.channel_of(target).map(Arc::from);
    event.text = text::plain(words).into_owned();
    event.fields = vec![("dest", Value::from(target)), ("keyword", Value::from(keyword))];
    event
}

fn in_channel(kind: Kind, chan: &str, words: &str, context: &Context<'_>) -> EventData {
    let kinds: &'static [Kind] = match kind {
        Kind::Join => &[Kind::Join],
        Kind::Part => &[Kind::Part],
        Kind::Kick => &[Kind::Kick],
        Kind::Topc => &[Kind::Topc],
        Kind::Sign => &[Kind::Sign],
        Kind::Nick => &[Kind::Nick],
        _ => &[Kind::Mode],
    };
    let mut event = event(kinds, context);
    event.chan = Some(Arc::from(chan));
    event.text = text::plain(words).into_owned();
    event
}

/// Once for each channel shared with whoever did it.
fn everywhere(kind: Kind, words: &str, fields: &[(&'static str, &str)], context: &Context<'_>) -> Vec<EventData> {
    let Some(actor) = &context.actor else { return Vec::new() };
    let mut events = Vec::new();
    for chan in context.state.channels_of(&actor.nick) {
        let mut event = in_channel(kind, &chan, words, context);
        event.fields = fields.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
        events.push(event);
    }
    events
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
        let context = Context { network: &network, state: &state, at: DateTime::UNIX_EPOCH, actor, raw, old };
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
        assert!(events("@+typing=active :alice!a@h TAGMSG #ops", false, false).is_empty());
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
}
