//! The kinds of bind that the mesh makes: other bots come, go and send, and notes arrive.

use std::borrow::Cow;

use masterchief_contract::{CaseMap, EventData, FlagScope, Kind, KindSpec, Matching, Returns, Wanted, wild_match};

/// A script of another bot sends something.
pub const BOT: Kind = Kind::new("bot");
/// A bot is linked.
pub const LINK: Kind = Kind::new("link");
/// A bot is no longer linked.
pub const DISC: Kind = Kind::new("disc");
/// A note comes for somebody here.
pub const NOTE: Kind = Kind::new("note");

/// Another of us tells of an event.
pub const RELAY: Kind = Kind::new("relay");
/// The stream that such events are written to; a bot is a lane.
pub const RELAYED: &str = "relay";

/// The list of this room.
pub const KINDS: &[KindSpec] = &[
    KindSpec {
        kind: BOT,
        matching: Matching::Word,
        flags: FlagScope::Nobody,
        stackable: false,
        returns: Returns::Ignored,
        subject: |event| Cow::Borrowed(&event.text),
        check: one_word,
        fields: &["from", "cmd", "text"],
        about: "another bot of the mesh sends a command: its putbot or putallbots, our mesh.send or mesh.broadcast",
        example: "deploy_done",
        wants: None,
    },
    KindSpec {
        kind: LINK,
        matching: Matching::Mask,
        flags: FlagScope::Nobody,
        stackable: true,
        returns: Returns::Ignored,
        subject: bot,
        check: |_| Ok(()),
        fields: &["bot", "via"],
        about: "a bot is linked to the mesh; via is the bot it is linked to",
        example: "*",
        wants: None,
    },
    KindSpec {
        kind: DISC,
        matching: Matching::Mask,
        flags: FlagScope::Nobody,
        stackable: true,
        returns: Returns::Ignored,
        subject: bot,
        check: |_| Ok(()),
        fields: &["bot", "text"],
        about: "a bot is no longer linked to the mesh",
        example: "*",
        wants: None,
    },
    KindSpec {
        kind: NOTE,
        matching: Matching::Mask,
        flags: FlagScope::Nobody,
        stackable: false,
        returns: Returns::Stop,
        subject: |event| Cow::Owned(event.field_str("to").to_owned()),
        check: |_| Ok(()),
        fields: &["from", "to", "text"],
        about: "a note of somebody, here or on another bot, comes for the person whose handle meets the mask, before it is shown or kept; STOP takes it away",
        example: "alice",
        wants: None,
    },
    KindSpec {
        kind: RELAY,
        matching: Matching::Journal,
        flags: FlagScope::Nobody,
        stackable: true,
        returns: Returns::Ignored,
        subject: |event| Cow::Owned(place(event)),
        check: |mask| from_kind_subject(mask),
        fields: &["from", "kind", "subject", "network", "chan", "nick", "fields"],
        about: "another MasterChief tells of an event of its own, as its mesh.relay says: BOT/KIND/SUBJECT; `fields` has those of the kind",
        example: "HubBot/webhook/github/push*",
        wants: Some(|mask| {
            from_kind_subject(mask)?;
            let mask = mask.to_owned();
            let filter: masterchief_contract::Filter =
                std::sync::Arc::new(move |event| wild_match(&mask, &place(event), CaseMap::Ascii));
            Ok(Wanted { stream: RELAYED.into(), filter: Some(filter) })
        }),
    },
];

/// `HubBot/webhook/github/push`
fn place(event: &EventData) -> String {
    format!("{}/{}/{}", event.field_str("from"), event.field_str("kind"), event.field_str("subject"))
}

fn from_kind_subject(mask: &str) -> Result<(), masterchief_contract::MaskFault> {
    let parts = mask.split('/').take(3).filter(|part| !part.is_empty()).count();
    if parts == 3 || mask == "*" {
        return Ok(());
    }
    let form = "write BOT/KIND/SUBJECT, with * and ?, as in HubBot/webhook/github/push*";
    Err(masterchief_contract::MaskFault::at(mask, 0, form))
}

fn bot(event: &EventData) -> Cow<'_, str> {
    Cow::Owned(event.field_str("bot").to_owned())
}

fn one_word(mask: &str) -> Result<(), masterchief_contract::MaskFault> {
    match mask.find(char::is_whitespace) {
        _ if mask.is_empty() => Err(masterchief_contract::MaskFault::at(mask, 0, "write the command, one word")),
        Some(at) => Err(masterchief_contract::MaskFault::at(mask, at, "one word without blanks; the rest is ev.text")),
        None => Ok(()),
    }
}
