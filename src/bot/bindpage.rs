//! The page about binds, `docs/binds.md`, made from the kinds themselves: a test holds the two together.

use std::fmt::Write;
use std::sync::Arc;

use chrono::DateTime;
use masterchief_contract::{Actor, EventData, FlagScope, KindSpec, Matching, Returns, Value};

use crate::dispatch::Kinds;

/// What comes before the table.
const HEAD: &str = "# Binds\n\n\
<!-- Made from the code: `masterchief binds --kinds --markdown > docs/binds.md` writes it anew. -->\n\n\
`bot.bind(kind, flags, mask, handler [, options])`: what happens becomes an event of a kind, and every bind of that kind whose\n\
mask meets it and whose flags the person holds is called. The newest bind comes first. Of a kind that does not stack, the newest\n\
bind of a mask serves, and the one before it if that passes (`bot.PASS`).\n\n\
**Mask**: what it is held against. *word*: the whole first word, without wildcards. *mask*: all of the text, with `*`, `?`, `%` (a\n\
run without blanks), `~` (one or more blanks) and `\\`; letters as the network compares names. *mode*: like mask, but the mode keeps\n\
its case. *schedule* and *source* are explained with their kind.\n\n\
**Flags**: whose count. *channel*: those held globally and in the event's channel. *any channel*: those held globally and in any\n\
channel. *global*: those held globally. *nobody*: nobody stands behind the event; write `-|-`. A command (`pub msg dcc`) that asks for none is for\n\
everybody; with `replies.allow_dk_cmds: false` not for who has the flag `d` or `k`, and no `p`.\n\n\
**STOP**: what `bot.STOP` does. *log*: the line goes to the command log (console mode `c`). *quiet*: it is kept out of the log of the\n\
channel or of private words (console modes `p` and `m`), or of the bot, and the other handlers still run; what a `pub` or `msg` answers is never in it. *stop*: neither other handlers nor the bot itself do anything about it.\n\
*hold*: the bot does not do what a signal makes it do, which is to end, or to read its configuration (sighup); the other handlers still run.\n\
A STOP counts if it comes within 20 ms, for `out` within 250 ms, for signals within a second: nothing else waits longer. One that comes later is told in the log.\n\n\
Kinds of Eggdrop are not here where they need files over DCC (`fil sent rcvd lost tout`), or are about Twitch's chat, which has no channels of its own to operate. `load` and `unld` are about scripts,\n\
which are the modules here. `time` understands Eggdrop's masks and cron. `log` is Eggdrop's where the mask begins with a channel or a wildcard\n\
(`* *error*`), and is kept as `putlog`; else it is a log that is read.\n\
Differences: of the names of `evnt` there is no `logfile`, as there are no log files that change (the log goes to standard error), and no `sigill`, as a\n\
process that has met an instruction that is none has nothing left to trust. `save` comes with `.save` and before the bot ends: records are\n\
written as they change. A handler of `filt` that gives nothing leaves the line as it is, and `away` of the botnet is not `ircaway`. A STOP in\n\
`raw` keeps the line from other handlers, not from the bot's own picture of the network, which would be wrong from then on. Flags of `dcc` and `filt`\n\
may be held in any channel, where Eggdrop asks for the console's: no session has one here. `account`, `ircaway` and `invt` ask for the flags\n\
that are bound, where Eggdrop asks for none.\n\n";

/// The whole page.
pub(crate) fn page(kinds: &Kinds) -> String {
    let mut out = HEAD.to_owned();
    out.push_str("| kind | when | mask | flags | fields | stacks | STOP | example |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for spec in kinds.all() {
        let fields = spec.fields.join(" ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | `{}` |",
            spec.kind,
            cell(spec.about),
            mask(spec),
            flags(spec),
            cell(&fields),
            if spec.stackable { "yes" } else { "no" },
            stop(spec),
            cell(spec.example),
        );
    }
    out
}

/// What a mask is held against: the subject of an event in which everything is its own name.
fn mask(spec: &KindSpec) -> String {
    let how = match spec.matching {
        Matching::Word => "word",
        Matching::Mask => "mask",
        Matching::ModeMask => "mode",
        Matching::Named => return "schedule".to_owned(),
        Matching::Journal => return "source".to_owned(),
    };
    let mut event = EventData::new(&[], DateTime::UNIX_EPOCH);
    let name = |name: &str| name.to_owned();
    event.chan = Some(Arc::from("#chan"));
    event.text = name(if spec.matching == Matching::Word { "word" } else { "text" });
    event.actor = Some(Actor { nick: name("nick"), user: name("user"), host: name("host"), ..Actor::default() });
    event.fields = spec.fields.iter().map(|field| (*field, Value::from(*field))).collect();
    format!("{how} `{}`", cell(&(spec.subject)(&event)))
}

fn flags(spec: &KindSpec) -> &'static str {
    match spec.flags {
        FlagScope::Channel => "channel",
        FlagScope::AnyChannel => "any channel",
        FlagScope::Global => "global",
        FlagScope::Nobody => "nobody",
    }
}

fn stop(spec: &KindSpec) -> &'static str {
    match spec.returns {
        Returns::Log => "log",
        Returns::Quiet => "quiet",
        Returns::Stop => "stop",
        Returns::Hold => "hold",
        Returns::Ignored => "",
    }
}

/// Text in a cell: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_page_about_binds_says_what_the_code_does() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/binds.md");
        let page = super::page(&crate::bot::kinds());
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/binds.md is not what the kinds say: write it anew with \
             `masterchief binds --kinds --markdown > docs/binds.md`"
        );
    }
}
