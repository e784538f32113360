//! The kinds of bind that a line of IRC can be. Matching, flags and returns are Eggdrop's (`tclhash.c`).

use std::borrow::Cow;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, MaskFault, Matching, Returns};

/// The rows, in Eggdrop's order.
pub static KINDS: &[KindSpec] = &[
    KindSpec {
        kind: Kind::Pub,
        matching: Matching::Word,
        flags: FlagScope::Channel,
        stackable: false,
        returns: Returns::Log,
        subject: words,
        check: one_word,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody says a line in a channel and its first word is the mask",
        example: "!deploy",
        wants: None,
    },
    KindSpec {
        kind: Kind::Pubm,
        matching: Matching::Mask,
        flags: FlagScope::Channel,
        stackable: true,
        returns: Returns::Quiet,
        subject: chan_and_words,
        check: chan_mask,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody says anything in a channel",
        example: "#ops *outage*",
        wants: None,
    },
    KindSpec {
        kind: Kind::Msg,
        matching: Matching::Word,
        flags: FlagScope::AnyChannel,
        stackable: false,
        returns: Returns::Log,
        subject: words,
        check: one_word,
        fields: &["nick", "user", "host", "handle", "text"],
        about: "somebody says a line to the bot and its first word is the mask",
        example: "!status",
        wants: None,
    },
    KindSpec {
        kind: Kind::Msgm,
        matching: Matching::Mask,
        flags: FlagScope::AnyChannel,
        stackable: true,
        returns: Returns::Quiet,
        subject: words,
        check: any_mask,
        fields: &["nick", "user", "host", "handle", "text"],
        about: "somebody says anything to the bot",
        example: "*",
        wants: None,
    },
    KindSpec {
        kind: Kind::Notc,
        matching: Matching::Mask,
        flags: FlagScope::AnyChannel,
        stackable: true,
        returns: Returns::Quiet,
        subject: words,
        check: any_mask,
        fields: &["nick", "user", "host", "handle", "text", "dest"],
        about: "a notice comes to the bot or a channel",
        example: "*",
        wants: None,
    },
    KindSpec {
        kind: Kind::Ctcp,
        matching: Matching::Mask,
        flags: FlagScope::AnyChannel,
        stackable: true,
        returns: Returns::Stop,
        subject: keyword,
        check: any_mask,
        fields: &["nick", "user", "host", "handle", "dest", "keyword", "text"],
        about: "a CTCP request comes; the mask meets its keyword (ACTION is `/me`)",
        example: "ACTION",
        wants: None,
    },
    KindSpec {
        kind: Kind::Ctcr,
        matching: Matching::Mask,
        flags: FlagScope::AnyChannel,
        stackable: true,
        returns: Returns::Ignored,
        subject: keyword,
        check: any_mask,
        fields: &["nick", "user", "host", "handle", "dest", "keyword", "text"],
        about: "a CTCP reply comes",
        example: "VERSION",
        wants: None,
    },
    KindSpec {
        kind: Kind::Join,
        matching: Matching::Mask,
        flags: FlagScope::Channel,
        stackable: true,
        returns: Returns::Ignored,
        subject: chan_and_source,
        check: chan_mask,
        fields: &["nick", "user", "host", "handle", "chan"],
        about: "somebody joins a channel",
        example: "#ops *!*@*",
        wants: None,
    },
    KindSpec {
        kind: Kind::Part,
        matching: Matching::Mask,
        flags: FlagScope::Channel,
        stackable: true,
        returns: Returns::Ignored,
        subject: chan_and_source,
        check: chan_mask,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody leaves a channel",
        example: "#ops *!*@*",
        wants: None,
    },
    KindSpec {
        kind: Kind::Sign,
        matching: Matching::Mask,
        flags: FlagScope::Channel,
        stackable: true,
        returns: Returns::Ignored,
        subject: chan_and_source,
        check: chan_mask,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "somebody quits, once for each channel shared with the bot",
        example: "* alice!*@*",
        wants: None,
    },
    KindSpec {
        kind: Kind::Kick,
        matching: Matching::Mask,
        flags: FlagScope::Channel,
        stackable: true,
        returns: Returns::Ignored,
        subject: kicked,
        check: chan_mask,
        fields: &["nick", "user", "host", "handle", "chan", "target", "text"],
        about: "somebody is kicked; the person and the flags are the kicker's",
        example: "#ops alice *",
        wants: None,
    },
    KindSpec {
        kind: Kind::Nick,
        matching: Matching::Mask,
        flags: FlagScope::Channel,
        stackable: true,
        returns: Returns::Ignored,
        subject: renamed,
        check: chan_mask,
        fields: &["nick", "user", "host", "handle", "chan", "newnick"],
        about: "somebody changes nick, once for each channel shared with the bot",
        example: "* *",
        wants: None,
    },
    KindSpec {
        kind: Kind::Mode,
        matching: Matching::ModeMask,
        flags: FlagScope::Channel,
        stackable: true,
        returns: Returns::Ignored,
        subject: mode,
        check: mode_mask,
        fields: &["nick", "user", "host", "handle", "chan", "mode", "target"],
        about: "a single mode of a channel changes",
        example: "#ops +o",
        wants: None,
    },
    KindSpec {
        kind: Kind::Topc,
        matching: Matching::Mask,
        flags: FlagScope::Channel,
        stackable: true,
        returns: Returns::Ignored,
        subject: chan_and_words,
        check: chan_mask,
        fields: &["nick", "user", "host", "handle", "chan", "text"],
        about: "a topic changes",
        example: "#ops *",
        wants: None,
    },
    KindSpec {
        kind: Kind::Rawt,
        matching: Matching::Mask,
        flags: FlagScope::Nobody,
        stackable: true,
        returns: Returns::Stop,
        subject: keyword,
        check: any_mask,
        fields: &["from", "keyword", "text", "tags"],
        about: "any line of the server comes, before everything else; with message tags",
        example: "PRIVMSG",
        wants: None,
    },
    KindSpec {
        kind: Kind::Raw,
        matching: Matching::Mask,
        flags: FlagScope::Nobody,
        stackable: true,
        returns: Returns::Stop,
        subject: keyword,
        check: any_mask,
        fields: &["from", "keyword", "text"],
        about: "any line of the server comes, by command or numeric",
        example: "4??",
        wants: None,
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

fn keyword(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(field(event, "keyword"))
}

fn chan(event: &EventData) -> &str {
    event.chan.as_deref().unwrap_or("")
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
