//! The kinds of bind that the partyline makes. Matching, flags and returns are Eggdrop's (`tclhash.c`).

use std::borrow::Cow;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, MaskFault, Matching, Returns};

/// A command of the partyline: `.word`.
pub const DCC: Kind = Kind::new("dcc");
/// Somebody logs in.
pub const CHON: Kind = Kind::new("chon");
/// Somebody leaves.
pub const CHOF: Kind = Kind::new("chof");
/// Somebody comes into a channel, on any bot.
pub const CHJN: Kind = Kind::new("chjn");
/// Somebody leaves a channel, on any bot.
pub const CHPT: Kind = Kind::new("chpt");
/// Somebody talks.
pub const CHAT: Kind = Kind::new("chat");
/// Somebody acts.
pub const ACT: Kind = Kind::new("act");
/// Another bot talks.
pub const BCST: Kind = Kind::new("bcst");
/// Somebody is away or back.
pub const AWAY: Kind = Kind::new("away");
/// A record gets another handle.
pub const NKCH: Kind = Kind::new("nkch");
/// Somebody types a line.
pub const FILT: Kind = Kind::new("filt");
/// A line of the bot's own log; Eggdrop's `log`, whose name is that of other logs here.
pub const PUTLOG: Kind = Kind::new("putlog");

/// The list of this room.
pub const KINDS: &[KindSpec] = &[
    KindSpec {
        kind: DCC,
        matching: Matching::Word,
        flags: FlagScope::AnyChannel,
        returns: Returns::Log,
        stackable: false,
        subject: text,
        check: one_word,
        fields: &["handle", "idx", "place", "text"],
        about: "somebody on the partyline gives a command; the mask is the word without its dot; `place` is where it was typed; a handler that gives `break` ends their session",
        example: "deploys",
        wants: None,
    },
    person(CHON, "somebody logs in to the partyline; the mask meets the handle"),
    person(CHOF, "somebody leaves the partyline; the mask meets the handle"),
    KindSpec {
        fields: &["bot", "handle", "channel", "icon", "idx", "host"],
        ..told(
            CHJN,
            channel,
            "somebody comes into a channel of the partyline, on any linked bot; the mask meets its number",
            "0",
        )
    },
    KindSpec {
        fields: &["bot", "handle", "idx", "channel"],
        ..told(
            CHPT,
            channel,
            "somebody leaves a channel of the partyline, on any linked bot; the mask meets its number",
            "0",
        )
    },
    KindSpec {
        fields: &["handle", "channel", "text"],
        ..told(
            CHAT,
            text,
            "somebody talks on the partyline, here (`handle`) or on a linked bot (`handle@bot`)",
            "*outage*",
        )
    },
    KindSpec {
        fields: &["handle", "channel", "text"],
        ..told(ACT, text, "somebody acts on the partyline (`.me`)", "*waves*")
    },
    KindSpec {
        fields: &["bot", "channel", "text"],
        ..told(BCST, text, "a linked bot talks in a channel, or to everybody (channel -1)", "*")
    },
    KindSpec {
        fields: &["bot", "idx", "text"],
        ..told(AWAY, bot, "somebody is away, or back (no text); the mask meets the name of the bot", "*")
    },
    KindSpec {
        fields: &["old", "new"],
        ..told(NKCH, old, "a record gets another handle; the mask meets the old one", "*")
    },
    KindSpec {
        flags: FlagScope::AnyChannel,
        returns: Returns::Stop,
        fields: &["idx", "text"],
        ..told(
            FILT,
            text,
            "somebody types a line on the partyline, before anything of it is understood: a text that the handler gives takes its place, STOP and an empty one take it away; what holds a password is not shown",
            ".di*",
        )
    },
    KindSpec {
        fields: &["level", "channel", "text"],
        ..told(
            PUTLOG,
            logged,
            "a line of the bot's own log, no finer than info, with its console mode as level, or a line of a channel (mode p, with the channel) or of private words (mode m); `log` with a mask such as `* *` is the same; what a bind of this kind logs makes none, and more than ten a second are left out",
            "* *fault=*",
        )
    },
];

const fn person(kind: Kind, about: &'static str) -> KindSpec {
    KindSpec {
        kind,
        matching: Matching::Mask,
        flags: FlagScope::Global,
        returns: Returns::Stop,
        stackable: true,
        subject: handle,
        check: any_mask,
        fields: &["handle", "idx"],
        about,
        example: "*",
        wants: None,
    }
}

const fn told(
    kind: Kind,
    subject: fn(&EventData) -> Cow<'_, str>,
    about: &'static str,
    example: &'static str,
) -> KindSpec {
    KindSpec {
        kind,
        matching: Matching::Mask,
        flags: FlagScope::Nobody,
        returns: Returns::Ignored,
        stackable: true,
        subject,
        check: any_mask,
        fields: &[],
        about,
        example,
        wants: None,
    }
}

fn text(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

fn logged(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(format!("{} {}", event.field_str("channel"), event.text))
}

fn handle(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(event.field_str("handle"))
}

fn channel(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(event.field("channel").map(ToString::to_string).unwrap_or_default())
}

fn bot(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(event.field_str("bot"))
}

fn old(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(event.field_str("old"))
}

fn one_word(mask: &str) -> Result<(), MaskFault> {
    let fault = |message: &str| Err(MaskFault { column: 1, message: message.to_owned() });
    if mask.is_empty() || mask.contains(char::is_whitespace) {
        return fault("a command is one word; its arguments are in ev.text");
    }
    if mask.starts_with('.') {
        return fault("the word stands without its dot: \"deploys\" is called as .deploys");
    }
    Ok(())
}

fn any_mask(mask: &str) -> Result<(), MaskFault> {
    if mask.is_empty() {
        return Err(MaskFault { column: 1, message: "an empty mask meets nothing; * meets everything".to_owned() });
    }
    Ok(())
}
