//! The kinds of bind that a line of IRC can be. Matching, flags and returns are Eggdrop's (`tclhash.c`).

use std::borrow::Cow;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, MaskFault, Matching, Returns};

/// What most rows have: a mask over `#chan …`, the flags in that channel, a return that means nothing.
const IN_CHANNEL: KindSpec = KindSpec {
    kind: Kind::Pubm,
    matching: Matching::Mask,
    flags: FlagScope::Channel,
    stackable: true,
    returns: Returns::Ignored,
    subject: chan_and_source,
    check: chan_mask,
    fields: &[],
    about: "",
    example: "",
    wants: None,
};
/// What is said to the bot, or to nobody in particular: the flags on any channel count.
const ANYWHERE: KindSpec = KindSpec { flags: FlagScope::AnyChannel, subject: words, check: any_mask, ..IN_CHANNEL };
/// What nobody does who could have flags.
const BY_NOBODY: KindSpec = KindSpec { flags: FlagScope::Nobody, ..ANYWHERE };
/// A command.
const COMMAND: KindSpec = KindSpec {
    matching: Matching::Word,
    stackable: false,
    returns: Returns::Log,
    subject: words,
    check: one_word,
    ..IN_CHANNEL
};

/// A connection is encrypted.
pub const TLS: Kind = Kind::new("tls");

/// The rows, in Eggdrop's order; those that Eggdrop does not have come last.
pub static KINDS: &[KindSpec] = &[
    KindSpec {
        kind: Kind::Pub,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody says a line in a channel and its first word is the mask",
        example: "!deploy",
        ..COMMAND
    },
    KindSpec {
        kind: Kind::Pubm,
        returns: Returns::Quiet,
        subject: chan_and_words,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody says anything in a channel",
        example: "#ops *outage*",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Msg,
        flags: FlagScope::AnyChannel,
        fields: &["nick", "user", "host", "handle", "text"],
        about: "somebody says a line to the bot and its first word is the mask",
        example: "!status",
        ..COMMAND
    },
    KindSpec {
        kind: Kind::Msgm,
        returns: Returns::Quiet,
        fields: &["nick", "user", "host", "handle", "text"],
        about: "somebody says anything to the bot",
        example: "*",
        ..ANYWHERE
    },
    KindSpec {
        kind: Kind::Notc,
        returns: Returns::Quiet,
        fields: &["nick", "user", "host", "handle", "text", "dest"],
        about: "a notice comes to the bot or a channel",
        example: "*",
        ..ANYWHERE
    },
    KindSpec {
        kind: Kind::Ctcp,
        returns: Returns::Stop,
        subject: keyword,
        fields: &["nick", "user", "host", "handle", "dest", "keyword", "text"],
        about: "a CTCP request comes; the mask meets its keyword (ACTION is `/me`)",
        example: "ACTION",
        ..ANYWHERE
    },
    KindSpec {
        kind: Kind::Ctcr,
        subject: keyword,
        fields: &["nick", "user", "host", "handle", "dest", "keyword", "text"],
        about: "a CTCP reply comes",
        example: "VERSION",
        ..ANYWHERE
    },
    KindSpec {
        kind: Kind::Join,
        fields: &["nick", "user", "host", "handle", "chan"],
        about: "somebody joins a channel",
        example: "#ops *!*@*",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Part,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody leaves a channel",
        example: "#ops *!*@*",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Sign,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody quits, once for each channel shared with the bot",
        example: "* alice!*@*",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Splt,
        fields: &["nick", "user", "host", "handle", "chan", "servers"],
        about: "somebody is lost in a netsplit, once for each channel shared with the bot; no `sign` comes",
        example: "#ops *!*@*",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Rejn,
        fields: &["nick", "user", "host", "handle", "chan"],
        about: "somebody lost in a netsplit is back within ten minutes; no `join` comes",
        example: "#ops *!*@*",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Topc,
        subject: chan_and_words,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "a topic changes",
        example: "#ops *",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Kick,
        subject: kicked,
        fields: &["nick", "user", "host", "handle", "chan", "target", "text"],
        about: "somebody is kicked; the person and the flags are the kicker's",
        example: "#ops alice *",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Nick,
        subject: renamed,
        fields: &["nick", "user", "host", "handle", "chan", "newnick"],
        about: "somebody changes nick, once for each channel shared with the bot",
        example: "* *",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Mode,
        matching: Matching::ModeMask,
        subject: mode,
        check: mode_mask,
        fields: &["nick", "user", "host", "handle", "chan", "mode", "target"],
        about: "a single mode of a channel changes",
        example: "#ops +o",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Need,
        subject: need,
        check: chan_mask,
        fields: &["chan", "type"],
        about: "the bot cannot do what it should in a channel: it needs op (it lost it, a command failed for it, or it came without \
                where operator_in wants it), unban, invite, limit or key",
        example: "#ops invite",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Flud,
        flags: FlagScope::Nobody,
        returns: Returns::Stop,
        subject: type_of,
        fields: &["nick", "user", "host", "handle", "type", "chan"],
        about: "somebody floods: msg, pub, ctcp, join, nick are ignored for a while unless a handler stops that; deop, kick are only told; where floods.deed says so and the bot is op, they are kicked or banned",
        example: "pub",
        ..ANYWHERE
    },
    KindSpec {
        kind: Kind::Invt,
        subject: invited,
        fields: &["nick", "user", "host", "handle", "chan", "target"],
        about: "somebody is invited to a channel: the bot, or with invite-notify anybody",
        example: "* *",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Ircaway,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody goes away, or comes back with no text, once for each channel shared with the bot; once without a channel for a \
                nick that `monitor` watches",
        example: "#ops *!*@*",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Account,
        subject: account,
        fields: &["nick", "user", "host", "handle", "chan", "newaccount"],
        about: "somebody logs in to services, or out (`*`), once for each channel shared with the bot, or for a watched nick",
        example: "* * alice",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Chghost,
        flags: FlagScope::Global,
        subject: new_host,
        fields: &["nick", "user", "host", "handle", "chan", "newuser", "newhost"],
        about: "somebody's user name or host changes, once for each channel shared with the bot, or for a watched nick; the mask meets the \
                new one",
        example: "#ops *!*@*.example.net",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Monitor,
        subject: watched,
        fields: &["nick", "user", "host", "online"],
        about: "a nick that a bind of this kind names without wildcards comes or goes; each server is asked to tell (MONITOR), and where it \
                can (extended-monitor) of its away, account, host and real name too, as events of those kinds without a channel",
        example: "alice",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Isupport,
        returns: Returns::Stop,
        subject: token,
        fields: &["token", "isset", "value", "was"],
        about: "the server says something new about itself (005); `was` is the value before; STOP takes the change back",
        example: "CASEMAPPING",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Wall,
        returns: Returns::Quiet,
        fields: &["from", "text"],
        about: "a WALLOPS comes",
        example: "*",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Rawt,
        returns: Returns::Stop,
        subject: keyword,
        fields: &["from", "keyword", "text", "tags"],
        about: "any line of the server comes, before everything else; with message tags",
        example: "PRIVMSG",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Raw,
        returns: Returns::Stop,
        subject: keyword,
        fields: &["from", "keyword", "text"],
        about: "any line of the server comes, by command or numeric",
        example: "4??",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Evnt,
        returns: Returns::Hold,
        subject: type_of,
        fields: &["type", "text"],
        about: "something that has a name: connect-server, preinit-server, init-server, disconnect-server, fail-server, hidden-host, got-chanlist; \
                sighup, sigterm, sigint, sigquit (a STOP within a second keeps the bot from what it does by itself), prerehash, rehash, \
                prerestart, save, loaded, userfile-loaded; or a name of one's own (`bot.callevent`, `Started::call_event`)",
        example: "init-server",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Netsplit,
        subject: servers,
        fields: &["servers", "lost"],
        about: "a whole netsplit, told once, with how many were lost",
        example: "*.example.net *",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Setname,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody's real name changes, once for each channel shared with the bot, or for a watched nick",
        example: "#ops *!*@*",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Out,
        returns: Returns::Stop,
        subject: queue_and_status,
        fields: &["queue", "message", "status"],
        about: "the bot says a line or gives a command: `queued` before it waits (STOP drops it), `sent` when it has left; `noqueue sent` is \
                what never waits: PING, PONG, the login without its secrets; what binds of this kind do makes none, nor what the connection \
                asks by itself (JOIN with its key, WHO)",
        example: "* sent",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Hist,
        subject: chan_and_words,
        fields: &["nick", "user", "host", "handle", "chan", "text", "how"],
        about: "a line from before the bot was there: what it missed, or what the server repeats, said as `say`, `act` or `notice`; in \
                private it has no channel; never a command otherwise, and nobody is vouched for",
        example: "#ops !deploy *",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Tagmsg,
        subject: dest,
        fields: &["nick", "user", "host", "handle", "dest", "tags"],
        about: "a message that is nothing but tags",
        example: "#ops",
        ..ANYWHERE
    },
    KindSpec {
        kind: Kind::React,
        subject: reaction,
        fields: &["nick", "user", "host", "handle", "chan", "reaction", "msgid", "removed"],
        about: "somebody reacts to a message of a channel, or takes it back",
        example: "#ops \u{1f44d}",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: Kind::Redact,
        subject: chan_and_words,
        fields: &["nick", "user", "host", "handle", "chan", "msgid", "text"],
        about: "a message of a channel, or to the bot, is taken back; the text is the reason",
        example: "#ops *",
        ..IN_CHANNEL
    },
    KindSpec {
        kind: TLS,
        returns: Returns::Quiet,
        subject: idx,
        fields: &["idx", "text"],
        about: "a connection is encrypted: its handshake is over; idx is that of a session on the partyline, 0 is the server (`text`) of a network",
        example: "0",
        ..BY_NOBODY
    },
    KindSpec {
        kind: Kind::Fail,
        subject: standard,
        fields: &["level", "command", "code", "context", "text"],
        about: "the server says FAIL, WARN or NOTE",
        example: "FAIL * *",
        ..BY_NOBODY
    },
];

fn words(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

fn chan_and_words(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", chan(event), event.text))
}

fn chan_and_source(event: &EventData) -> Cow<'_, str> {
    let source = event.actor.as_ref().map(|actor| actor.source()).unwrap_or_default();
    Cow::Owned(format!("{} {source}", chan(event)))
}

fn kicked(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {} {}", chan(event), field(event, "target"), event.text))
}

fn renamed(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", chan(event), field(event, "newnick")))
}

fn mode(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", chan(event), field(event, "mode")))
}

fn need(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", chan(event), field(event, "type")))
}

fn invited(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", chan(event), field(event, "target")))
}

fn account(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", chan_and_source(event), field(event, "newaccount")))
}

fn new_host(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}!{}@{}", chan(event), event.nick(), field(event, "newuser"), field(event, "newhost")))
}

fn reaction(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", chan(event), field(event, "reaction")))
}

fn standard(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {} {}", field(event, "level"), field(event, "command"), field(event, "code")))
}

fn type_of(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(field(event, "type"))
}

fn watched(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(event.nick())
}

fn token(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(field(event, "token"))
}

fn idx(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(event.field("idx").map(ToString::to_string).unwrap_or_default())
}

fn servers(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(field(event, "servers"))
}

fn dest(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(field(event, "dest"))
}

fn keyword(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(field(event, "keyword"))
}

fn chan(event: &EventData) -> &str {
    event.chan.as_deref().unwrap_or("*")
}

fn field<'a>(event: &'a EventData, name: &str) -> &'a str {
    event.field(name).and_then(|value| value.as_str()).unwrap_or("")
}

fn fault(column: usize, message: &str) -> Result<(), MaskFault> {
    Err(MaskFault { column, message: message.to_owned() })
}

/// Any text is a mask, but an empty one matches nothing.
fn any_mask(mask: &str) -> Result<(), MaskFault> {
    if mask.is_empty() { fault(1, "an empty mask matches nothing; `*` matches everything") } else { Ok(()) }
}

fn one_word(mask: &str) -> Result<(), MaskFault> {
    any_mask(mask)?;
    match mask.chars().position(char::is_whitespace) {
        Some(0) => fault(1, "a command does not begin with a blank"),
        Some(at) => fault(at + 1, "only the first word of a line is the command; what follows is its text"),
        None => Ok(()),
    }
}

/// `#chan rest`: with a channel first, or a mask that can match one.
fn chan_mask(mask: &str) -> Result<(), MaskFault> {
    any_mask(mask)?;
    let first = mask.chars().next().unwrap_or('*');
    let could_be_channel = first.is_ascii_punctuation();
    if !could_be_channel {
        return fault(1, "the mask begins with the channel: write `#chan MASK`, or `* MASK` for every channel");
    }
    if first == '#' && !mask.contains([' ', '*', '~', '?', '%']) {
        return fault(
            mask.chars().count() + 1,
            "something must follow the channel: write `#chan *` for everything in it",
        );
    }
    Ok(())
}

/// `#chan +o`.
fn queue_and_status(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", event.field_str("queue"), event.field_str("status")))
}

fn mode_mask(mask: &str) -> Result<(), MaskFault> {
    chan_mask(mask)?;
    if mask == "*" {
        return Ok(());
    }
    let Some((chan, change)) = mask.rsplit_once(' ') else {
        return fault(mask.chars().count() + 1, "a mode follows the channel: write `#chan +o`, or `#chan *`");
    };
    let good = change.starts_with(['+', '-', '*', '?', '%', '\\']);
    if good { Ok(()) } else { fault(chan.chars().count() + 2, "a mode begins with + or -, as in `+o`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: Kind, mask: &str) -> Option<usize> {
        let spec = KINDS.iter().find(|spec| spec.kind == kind).unwrap();
        (spec.check)(mask).err().map(|fault| fault.column)
    }

    #[test]
    fn a_mask_that_can_never_match_is_refused_with_its_place() {
        assert_eq!(column(Kind::Pub, "!deploy"), None);
        assert_eq!(column(Kind::Pub, "!deploy web"), Some(8));
        assert_eq!(column(Kind::Pub, ""), Some(1));
        assert_eq!(column(Kind::Pubm, "hello"), Some(1));
        assert_eq!(column(Kind::Join, "#ops"), Some(5));
        assert_eq!(column(Kind::Join, "#ops *"), None);
        assert_eq!(column(Kind::Mode, "#ops o"), Some(6));
        assert_eq!(column(Kind::Mode, "* +o"), None);
    }

    #[test]
    fn every_example_is_a_good_mask() {
        for spec in KINDS {
            assert_eq!((spec.check)(spec.example), Ok(()), "{:?}", spec.kind);
        }
    }
}
